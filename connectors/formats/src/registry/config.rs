//! Where a registry is, who asks, and how long an answer may take.
//!
//! Invariant: what is secret here is printed by nothing, `Debug` included.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};
use url::Url;

/// The options of a registry under the name of a format.
macro_rules! registry_options {
    ($format:literal) => {
        [
            OptionSpec::new(
                concat!($format, ".url"),
                "Addresses of the schema registry, with commas between them; the first that answers \
                 is asked (default: SCHEMA_REGISTRY_URL of the environment).",
            ),
            OptionSpec::new(
                concat!($format, ".basic-auth.user-info"),
                "'user:password' for the registry; the environment's \
                 SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO goes with its SCHEMA_REGISTRY_URL.",
            ),
            OptionSpec::new(
                concat!($format, ".basic-auth.user-info-file"),
                "A file that holds 'user:password' for the registry.",
            ),
            OptionSpec::new(
                concat!($format, ".bearer-auth.token"),
                "A bearer token for the registry; the environment's SCHEMA_REGISTRY_BEARER_TOKEN \
                 goes with its SCHEMA_REGISTRY_URL.",
            ),
            OptionSpec::new(
                concat!($format, ".bearer-auth.token-file"),
                "A file that holds a bearer token for the registry.",
            ),
            OptionSpec::new(
                concat!($format, ".ssl.ca.location"),
                "A PEM file of the authorities that sign the registry's certificate (default: \
                 Mozilla's).",
            ),
            OptionSpec::new(
                concat!($format, ".request-timeout"),
                "How long one request to the registry may take (default 5 s).",
            ),
            OptionSpec::new(
                concat!($format, ".deadline"),
                "How long a registry that fails is asked again before the job ends (default 30 s).",
            ),
            OptionSpec::new(
                concat!($format, ".subject"),
                "The subject of the schema that a sink writes, by convention '<topic>-value'; a sink \
                 needs it.",
            ),
        ]
    };
}

/// What [`RegistryConfig::parse`] understands for `avro-confluent`.
pub const AVRO_OPTIONS: [OptionSpec; 9] = registry_options!("avro-confluent");

/// What [`RegistryConfig::parse`] understands for `protobuf-confluent`.
pub const PROTOBUF_OPTIONS: [OptionSpec; 9] = registry_options!("protobuf-confluent");

/// Where a registry is and how to ask it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// In front of the options that errors name.
    pub(super) format: String,
    pub(super) urls: Vec<Url>,
    pub(super) credentials: Credentials,
    pub(super) authorities: Option<PathBuf>,
    pub(super) request_timeout: Duration,
    pub(super) deadline: Duration,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    /// `user:password`.
    Basic(String),
    Bearer(String),
}

impl RegistryConfig {
    /// The registry at these addresses (with commas between them): no authentication but what an
    /// address itself holds, 5 s for a request, 30 s in all.
    ///
    /// # Errors
    /// A configuration error where an address is none.
    pub fn new(urls: &str) -> Result<Self> {
        Self::of("registry", urls)
    }

    fn of(format: &str, urls: &str) -> Result<Self> {
        let option = format!("{format}.url");
        let mut credentials = Credentials::None;
        let mut addresses = Vec::new();
        for text in urls.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let (url, user_info) = address(&option, text)?;
            if let Some(user_info) = user_info {
                credentials = Credentials::Basic(user_info);
            }
            addresses.push(url);
        }
        if addresses.is_empty() {
            return Err(Error::option(&option, format!("option '{option}' holds no address")));
        }
        Ok(Self {
            format: format.to_owned(),
            urls: addresses,
            credentials,
            authorities: None,
            request_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
        })
    }

    /// The registry that the options of `format` (`'<format>.url'` and so on) and the environment
    /// name.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(format: &str, options: &Options) -> Result<Self> {
        Self::parse_in(format, options, &|name| std::env::var(name).ok())
    }

    pub(super) fn parse_in(
        format: &str,
        options: &Options,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let named = |name: &str| format!("{format}.{name}");
        let mut config = match options.get(&named("url")) {
            Some(urls) => Self::of(format, urls)?,
            None => Self::of_environment(format, environment)?,
        };
        let basic = secret(options, &named("basic-auth.user-info"))?;
        let bearer = secret(options, &named("bearer-auth.token"))?;
        match (basic, bearer) {
            (Some(_), Some(_)) => {
                let option = named("bearer-auth.token");
                let message = format!("'{option}' and basic authentication exclude each other");
                return Err(Error::option(option, message));
            }
            (Some(user_info), None) => config = config.basic_auth(&user_info)?,
            (None, Some(token)) => config = config.bearer_auth(&token)?,
            (None, None) => {}
        }
        config.authorities = options.get(&named("ssl.ca.location")).map(PathBuf::from);
        if let Some(timeout) = options.duration(&named("request-timeout"))? {
            config.request_timeout = timeout;
        }
        if let Some(deadline) = options.duration(&named("deadline"))? {
            config.deadline = deadline;
        }
        Ok(config)
    }

    /// The environment's credentials go to the environment's registry, and to no other.
    fn of_environment(format: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let Some(urls) = environment("SCHEMA_REGISTRY_URL") else {
            let option = format!("{format}.url");
            let message = format!(
                "option '{option}' is required: the address of the schema registry, here or in \
                 SCHEMA_REGISTRY_URL of the environment"
            );
            return Err(Error::option(option, message));
        };
        let config = Self::of(format, &urls)?;
        if let Some(user_info) = environment("SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO") {
            return config.basic_auth(&user_info);
        }
        match environment("SCHEMA_REGISTRY_BEARER_TOKEN") {
            Some(token) => config.bearer_auth(&token),
            None => Ok(config),
        }
    }

    /// The same with basic authentication as `user:password`.
    ///
    /// # Errors
    /// A configuration error where there is no colon in it.
    pub fn basic_auth(mut self, user_info: &str) -> Result<Self> {
        if !user_info.contains(':') {
            let option = format!("{}.basic-auth.user-info", self.format);
            let message = format!("option '{option}' must be 'user:password'");
            return Err(Error::option(option, message));
        }
        self.credentials = Credentials::Basic(user_info.to_owned());
        Ok(self)
    }

    /// The same with a bearer token.
    ///
    /// # Errors
    /// A configuration error where the token cannot stand in a header.
    pub fn bearer_auth(mut self, token: &str) -> Result<Self> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let option = format!("{}.bearer-auth.token", self.format);
            let message = format!("option '{option}' is no token: one line without spaces");
            return Err(Error::option(option, message));
        }
        self.credentials = Credentials::Bearer(token.to_owned());
        Ok(self)
    }

    /// The same with other limits: for one request, and for all attempts together.
    #[must_use]
    pub fn limits(mut self, request_timeout: Duration, deadline: Duration) -> Self {
        (self.request_timeout, self.deadline) = (request_timeout, deadline);
        self
    }

    /// The addresses, for `explain` and errors.
    pub(super) fn addresses(&self) -> String {
        self.urls.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = match self.credentials {
            Credentials::None => "none",
            Credentials::Basic(_) => "basic",
            Credentials::Bearer(_) => "bearer",
        };
        f.debug_struct("RegistryConfig")
            .field("urls", &self.addresses())
            .field("credentials", &credentials)
            .field("request_timeout", &self.request_timeout)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// An address without its user-info, and the user-info. What is wrong is said without quoting the
/// address, which may hold a password.
fn address(option: &str, text: &str) -> Result<(Url, Option<String>)> {
    let wrong = |why: &str| {
        let message =
            format!("option '{option}' holds an address that {why}: write http://host:8081");
        Error::option(option, message)
    };
    let mut url = Url::parse(text).map_err(|error| wrong(&format!("is none ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(wrong("is neither http nor https"));
    }
    if url.scheme() == "https" && !cfg!(feature = "tls") {
        let message = format!(
            "option '{option}' says https, and this build has no TLS: build it with the feature 'tls'"
        );
        return Err(Error::option(option, message));
    }
    let user_info = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            Some(format!("{}:{}", unescaped(user), unescaped(password.unwrap_or_default())))
        }
    };
    // Both succeed: the address has a host.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err(wrong("has no host"));
    }
    Ok((url, user_info))
}

/// Percent-escapes resolved.
fn unescaped(text: &str) -> String {
    let form = text.replace('+', "%2B");
    url::form_urlencoded::parse(form.as_bytes())
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}

/// A secret, from an option or from the file that `{option}-file` names.
fn secret(options: &Options, option: &str) -> Result<Option<String>> {
    let in_file = format!("{option}-file");
    match (options.get(option), options.get(&in_file)) {
        (Some(_), Some(_)) => {
            let message = format!("'{in_file}' and '{option}' exclude each other");
            Err(Error::option(in_file, message))
        }
        (Some(text), None) => Ok(Some(text.to_owned())),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => {
                let message = format!("option '{in_file}': cannot read {path}");
                Err(Error::option(in_file, message).caused_by(error))
            }
        },
        (None, None) => Ok(None),
    }
}
