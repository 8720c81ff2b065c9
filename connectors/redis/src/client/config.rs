//! Where Redis is and who we are there: from a table's options, the environment, and files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo};
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

use super::address;
use super::connection::Connection;
use super::error;

/// What every Redis table takes to reach its server.
pub const OPTIONS: [OptionSpec; 8] = [
    OptionSpec::new(
        "url",
        "Where Redis is: redis://[user[:password]@]host[:port][/db], rediss:// for TLS; else \
         REDIS_URL of the environment.",
    ),
    OptionSpec::new(
        "cluster",
        "Whether it is a cluster (default: false); 'url' then names one or more of its nodes.",
    ),
    OptionSpec::new("username", "The user, where 'url' names none; else REDIS_USERNAME."),
    OptionSpec::new("password", "The password, where 'url' has none; else REDIS_PASSWORD."),
    OptionSpec::new(
        "password.file",
        "The file that holds the password; else the one that REDIS_PASSWORD_FILE names.",
    ),
    OptionSpec::new("tls.ca", "The file (PEM) of the authority that vouches for the server."),
    OptionSpec::new("tls.certificate", "The file (PEM) of the client's own certificate."),
    OptionSpec::new("tls.key", "The file (PEM) of the private key of 'tls.certificate'."),
];

/// How long it may take to connect, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);

/// How to reach a Redis server or cluster. See the [module](self).
///
/// ```
/// use tidemill_redis::client::Config;
///
/// let config = Config::of_url("redis://me:secret@localhost:6379")?;
/// assert_eq!(config.place(), "localhost:6379");
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), tidemill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Config {
    nodes: Arc<[ConnectionInfo]>,
    is_cluster: bool,
    certificates: Certificates,
    place: Arc<str>,
}

/// Files of certificates and keys. Without the feature there is no TLS to use them for.
#[derive(Clone, Default)]
#[cfg_attr(
    not(feature = "tls"),
    expect(dead_code, reason = "an address that wants TLS is refused")
)]
struct Certificates {
    authority: Option<Bytes>,
    /// The client's certificate, and its key.
    own: Option<(Bytes, Bytes)>,
}

type Bytes = Arc<[u8]>;

impl Config {
    /// What a table's options and the environment say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        Self::with_environment(options, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    /// The server at `url`, with no certificates of one's own; for a cluster, say [`Config::cluster`].
    ///
    /// # Errors
    /// A configuration error where it is no address.
    pub fn of_url(url: &str) -> Result<Self> {
        Self::with_environment(&Options::from_iter([("url", url)]), |_| None)
    }

    /// The same, as a cluster.
    #[must_use]
    pub fn cluster(self) -> Self {
        Self { is_cluster: true, ..self }
    }

    pub(crate) fn with_environment(
        options: &Options,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let url = options.get("url").map(str::to_owned).or_else(|| environment("REDIS_URL"));
        let url = url.ok_or_else(|| {
            let message = "option 'url' is required: write 'url' = 'redis://localhost:6379', or \
                           set REDIS_URL";
            Error::option("url", message)
        })?;
        let (mut nodes, tls) = address::parse(&url)?;
        let username =
            options.get("username").map(str::to_owned).or_else(|| environment("REDIS_USERNAME"));
        let password = password(options, &environment)?;
        for node in &mut nodes {
            let mut settings = node.redis_settings().clone();
            if let Some(username) = username.as_ref().filter(|_| settings.username().is_none()) {
                settings = settings.set_username(username);
            }
            if let Some(password) = password.as_ref().filter(|_| settings.password().is_none()) {
                settings = settings.set_password(password);
            }
            *node = node.clone().set_redis_settings(settings.set_skip_set_lib_name());
        }
        let is_cluster = options.parsed::<bool>("cluster")?.unwrap_or(false);
        if !is_cluster && nodes.len() > 1 {
            let message = "option 'url' names several nodes: write 'cluster' = 'true'";
            return Err(Error::option("cluster", message));
        }
        let place = nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>();
        Ok(Self {
            certificates: Certificates::read(options, &environment, tls)?,
            nodes: nodes.into(),
            is_cluster,
            place: place.join(",").into(),
        })
    }

    /// Where it is, without secrets: `host:port`, of a cluster with commas between them.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// A new connection.
    ///
    /// # Errors
    /// As [`error::from_redis`] classifies them.
    pub fn connect(&self) -> Result<Connection> {
        let connected = Connection::open(self);
        connected.map_err(|error| error::from_redis(&error, self.unreachable()))
    }

    pub(crate) fn unreachable(&self) -> String {
        format!("no connection to Redis at {}", self.place)
    }

    pub(crate) fn nodes(&self) -> &[ConnectionInfo] {
        &self.nodes
    }

    /// A connection to one server, whose settings are `node`'s.
    pub(crate) fn connect_to(
        &self,
        node: &ConnectionInfo,
    ) -> redis::RedisResult<redis::Connection> {
        let client = self.certificates.client(node.clone())?;
        let connection = client.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(connection)
    }

    /// The settings for the cluster's node at `host` and `port`.
    pub(crate) fn node_at(&self, host: &str, port: u16) -> ConnectionInfo {
        let first = self.nodes[0].clone();
        let address = match first.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        first.set_addr(address)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = if self.is_cluster { " (cluster)" } else { "" };
        write!(f, "Redis at {}{cluster}", self.place)
    }
}

/// The password that is not in the address.
fn password(
    options: &Options,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<String>> {
    let read = |file: &str| Ok(text(&file_of("password.file", Path::new(file))?));
    match (options.get("password"), options.get("password.file")) {
        (Some(_), Some(_)) => {
            let message = "'password' and 'password.file' mean the same: remove one";
            Err(Error::option("password.file", message))
        }
        (Some(password), None) => Ok(Some(password.to_owned())),
        (None, Some(file)) => read(file).map(Some),
        (None, None) => match (environment("REDIS_PASSWORD"), environment("REDIS_PASSWORD_FILE")) {
            (Some(password), _) => Ok(Some(password)),
            (None, Some(file)) => read(&file).map(Some),
            (None, None) => Ok(None),
        },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned()
}

fn file_of(option: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("option '{option}': {} cannot be read", path.display());
        Error::option(option, message).caused_by(error)
    })
}

impl Certificates {
    fn read(
        options: &Options,
        environment: &impl Fn(&str) -> Option<String>,
        tls: bool,
    ) -> Result<Self> {
        let names = [
            ("tls.ca", "REDIS_CA"),
            ("tls.certificate", "REDIS_CERTIFICATE"),
            ("tls.key", "REDIS_KEY"),
        ];
        if !tls {
            // The environment may know of several servers.
            return match names.iter().find(|(option, _)| options.get(option).is_some()) {
                Some((option, _)) => {
                    let message = format!("option '{option}' needs TLS: write rediss:// in 'url'");
                    Err(Error::option(*option, message))
                }
                None => Ok(Self::default()),
            };
        }
        let read = |(option, variable): (&str, &str)| -> Result<Option<Bytes>> {
            let path = options.get(option).map(str::to_owned).or_else(|| environment(variable));
            path.map(|path| Ok(file_of(option, Path::new(&path))?.into())).transpose()
        };
        let [authority, certificate, key] = names;
        let own = match (read(certificate)?, read(key)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                let message = "'tls.certificate' needs 'tls.key': its private key";
                return Err(Error::option("tls.key", message));
            }
            (None, Some(_)) => {
                let message = "'tls.key' needs 'tls.certificate': what it is the key of";
                return Err(Error::option("tls.certificate", message));
            }
        };
        Ok(Self { authority: read(authority)?, own })
    }

    #[cfg(feature = "tls")]
    fn client(&self, node: ConnectionInfo) -> redis::RedisResult<redis::Client> {
        let is_tls = matches!(node.addr(), ConnectionAddr::TcpTls { .. });
        if !is_tls || (self.authority.is_none() && self.own.is_none()) {
            return redis::Client::open(node);
        }
        let own = self.own.as_ref().map(|(certificate, key)| redis::ClientTlsConfig {
            client_cert: certificate.to_vec(),
            client_key: key.to_vec(),
        });
        let root_cert = self.authority.as_ref().map(|authority| authority.to_vec());
        redis::Client::build_with_tls(node, redis::TlsCertificates { client_tls: own, root_cert })
    }

    #[cfg(not(feature = "tls"))]
    fn client(&self, node: ConnectionInfo) -> redis::RedisResult<redis::Client> {
        redis::Client::open(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config> {
        let find = |name: &str| environment.iter().find(|(key, _)| *key == name);
        Config::with_environment(&options.iter().copied().collect(), |name| {
            find(name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn credentials(config: &Config) -> (Option<&str>, Option<&str>) {
        let settings = config.nodes[0].redis_settings();
        (settings.username(), settings.password())
    }

    #[test]
    fn the_table_wins_over_the_environment_and_the_address_over_both() {
        let environment = [("REDIS_URL", "redis://env:1"), ("REDIS_PASSWORD", "of-env")];
        let of_env = config(&[], &environment).unwrap();
        assert_eq!((of_env.place(), credentials(&of_env)), ("env:1", (None, Some("of-env"))));
        let options = [("url", "redis://table:2"), ("username", "me"), ("password", "of-table")];
        let of_table = config(&options, &environment).unwrap();
        assert_eq!(credentials(&of_table), (Some("me"), Some("of-table")));
        let options = [("url", "redis://you:of-url@table:2"), ("password", "of-table")];
        let of_url = config(&options, &environment).unwrap();
        assert_eq!(credentials(&of_url), (Some("you"), Some("of-url")));
    }

    #[test]
    fn a_password_comes_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\r\n").unwrap();
        let path = file.path().to_str().unwrap();
        let options = [("url", "redis://h"), ("password.file", path)];
        assert_eq!(credentials(&config(&options, &[]).unwrap()).1, Some("secret"));
        let of_env = config(&[("url", "redis://h")], &[("REDIS_PASSWORD_FILE", path)]).unwrap();
        assert_eq!(credentials(&of_env).1, Some("secret"));
    }

    #[test]
    fn mistakes_name_the_option_and_no_secret() {
        let wrong: [(&[(&str, &str)], &str); 6] = [
            (&[], "url"),
            (&[("url", "redis://a,b")], "cluster"),
            (&[("url", "redis://a"), ("cluster", "canary")], "cluster"),
            (
                &[("url", "redis://a"), ("password", "canary"), ("password.file", "x")],
                "password.file",
            ),
            (&[("url", "redis://a"), ("password.file", "/nowhere")], "password.file"),
            (&[("url", "redis://a"), ("tls.ca", "/nowhere")], "tls.ca"),
        ];
        for (options, option) in wrong {
            let error = config(options, &[]).unwrap_err();
            assert_eq!(error.wrong_option(), Some(option), "{error}");
        }
        let config = config(&[("url", "redis://u:canary@h")], &[]).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
