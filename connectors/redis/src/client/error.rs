//! Redis's errors by what to do about them. Sources and sinks judge by this table alone.

use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};
use tidemill_core::{Error, ErrorKind};

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server, or the way to it, is in trouble: it may pass.
    Transient,
    /// The server has no memory left: it may pass, when somebody makes room.
    OutOfMemory,
    /// A key of a cluster is on another node than was thought: ask again where.
    Moved,
    /// User or password are wrong or missing.
    Authentication,
    /// The user may not do this.
    Authorisation,
    /// Certificates are wrong, or one side speaks TLS and the other does not.
    Tls,
    /// The key holds something else than the command is for.
    WrongType,
    /// The consumer group, or the stream, is not there.
    NoGroup,
    /// The script is not there: load it.
    NoScript,
    /// The server is too old for a command.
    UnknownCommand,
    /// Anything else.
    Fatal,
}

impl Failure {
    /// What `error` asks for.
    pub fn of(error: &RedisError) -> Self {
        match error.kind() {
            RedisKind::AuthenticationFailed => Self::Authentication,
            RedisKind::Io => Self::of_io(error),
            RedisKind::ClusterConnectionNotFound | RedisKind::Parse => Self::Transient,
            RedisKind::Server(kind) => Self::of_server(kind, error),
            RedisKind::Extension => Self::of_code(error.code().unwrap_or_default()),
            _ => Self::Fatal,
        }
    }

    fn of_io(error: &RedisError) -> Self {
        let text = error.to_string();
        let is_tls = ["certificate", "fatal alert", "corrupt message", "PEM"];
        if is_tls.iter().any(|part| text.contains(part)) { Self::Tls } else { Self::Transient }
    }

    fn of_server(kind: ServerErrorKind, error: &RedisError) -> Self {
        match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly => Self::Transient,
            ServerErrorKind::Moved | ServerErrorKind::Ask => Self::Moved,
            ServerErrorKind::NoPerm => Self::Authorisation,
            ServerErrorKind::NoScript => Self::NoScript,
            ServerErrorKind::ResponseError => {
                let detail = error.detail().unwrap_or_default();
                if detail.starts_with("unknown command") || detail.starts_with("unknown subcommand")
                {
                    Self::UnknownCommand
                } else if detail.contains("max number of clients") {
                    Self::Transient
                } else if detail.contains("AUTH") || detail.contains("invalid password") {
                    Self::Authentication
                } else {
                    Self::Fatal
                }
            }
            _ => Self::Fatal,
        }
    }

    fn of_code(code: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Authentication,
            "OOM" => Self::OutOfMemory,
            "BUSY" | "NOREPLICAS" | "MISCONF" | "UNBLOCKED" => Self::Transient,
            "WRONGTYPE" => Self::WrongType,
            "NOGROUP" => Self::NoGroup,
            _ => Self::Fatal,
        }
    }

    /// What the engine does about it.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Transient | Self::OutOfMemory | Self::Moved => ErrorKind::Transient,
            Self::Authentication | Self::Tls => ErrorKind::Configuration,
            Self::Authorisation
            | Self::WrongType
            | Self::NoGroup
            | Self::NoScript
            | Self::UnknownCommand
            | Self::Fatal => ErrorKind::External,
        }
    }

    /// What the user can do about it, where that can be told.
    fn advice(self) -> &'static str {
        match self {
            Self::Authentication => {
                ": check the user and password of 'url', 'username', 'password'"
            }
            Self::Authorisation => ": give the user the permission (ACL SETUSER), or use another",
            Self::Tls => {
                ": check 'tls.ca', 'tls.certificate' and 'tls.key', and that the port speaks TLS \
                 where 'url' begins with rediss://"
            }
            Self::OutOfMemory => {
                ": raise the server's maxmemory, or let something expire (MAXLEN, TTL)"
            }
            Self::WrongType => ": use another key, or remove what is under this one",
            Self::NoGroup => ": the stream or the consumer group was deleted while it was used",
            Self::UnknownCommand => ": the server is too old; use Redis 7.0 or newer",
            Self::Transient | Self::Moved | Self::NoScript | Self::Fatal => "",
        }
    }
}

/// What Redis says, in one line: `WRONGTYPE Operation against a key …`.
pub fn describe(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ if error.kind() == RedisKind::AuthenticationFailed => {
            "the password is refused".to_owned()
        }
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

/// An error of the engine: `what` says what was being done, to which key and where.
pub fn from_redis(error: &RedisError, what: impl std::fmt::Display) -> Error {
    let failure = Failure::of(error);
    let message = format!("{what}: {}{}", describe(error), failure.advice());
    match failure {
        Failure::Authentication => Error::option("password", message),
        Failure::Authorisation => Error::option("username", message),
        Failure::Tls => Error::option("tls.ca", message),
        _ => Error::new(failure.kind(), message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        value.and_then(redis::Value::extract_error).unwrap_err()
    }

    #[test]
    fn what_may_pass_is_told_from_what_never_will() {
        let cases = [
            ("LOADING Redis is loading the dataset in memory", Failure::Transient),
            ("BUSY Redis is busy running a script", Failure::Transient),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Failure::Transient),
            ("CLUSTERDOWN The cluster is down", Failure::Transient),
            ("MASTERDOWN Link with MASTER is down", Failure::Transient),
            ("READONLY You can't write against a read only replica.", Failure::Transient),
            ("MISCONF Redis is configured to save RDB snapshots", Failure::Transient),
            ("ERR max number of clients reached", Failure::Transient),
            ("OOM command not allowed when used memory > 'maxmemory'.", Failure::OutOfMemory),
            ("MOVED 3999 127.0.0.1:6381", Failure::Moved),
            ("ASK 3999 127.0.0.1:6381", Failure::Moved),
            ("NOAUTH Authentication required.", Failure::Authentication),
            ("WRONGPASS invalid username-password pair", Failure::Authentication),
            ("NOPERM this user has no permissions", Failure::Authorisation),
            ("WRONGTYPE Operation against a key holding the wrong kind", Failure::WrongType),
            ("NOGROUP No such key 's' or consumer group 'g'", Failure::NoGroup),
            ("ERR unknown command 'XAUTOCLAIM'", Failure::UnknownCommand),
            ("NOSCRIPT No matching script.", Failure::NoScript),
            ("ERR syntax error", Failure::Fatal),
        ];
        for (text, failure) in cases {
            assert_eq!(Failure::of(&reply(text)), failure, "{text}");
        }
    }

    #[test]
    fn messages_say_where_what_and_what_to_do() {
        let error = from_redis(&reply("NOPERM no permissions to run 'xread'"), "stream 'a' at h:1");
        assert_eq!(error.wrong_option(), Some("username"));
        let text = error.to_string();
        for part in ["stream 'a' at h:1", "NOPERM", "xread", "ACL SETUSER"] {
            assert!(text.contains(part), "{text}");
        }
        let old = from_redis(&reply("ERR unknown command 'XAUTOCLAIM'"), "s").to_string();
        assert!(old.contains("XAUTOCLAIM") && old.contains("7.0"), "{old}");
    }

    #[test]
    fn a_connection_that_is_lost_may_come_back() {
        let io = |kind| RedisError::from(std::io::Error::from(kind));
        for kind in [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::UnexpectedEof] {
            assert_eq!(from_redis(&io(kind), "s").kind(), ErrorKind::Transient);
        }
        let certificate = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let error = from_redis(&certificate.into(), "s");
        assert_eq!(
            (error.kind(), error.wrong_option()),
            (ErrorKind::Configuration, Some("tls.ca"))
        );
    }
}
