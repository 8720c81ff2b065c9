//! Requests to a registry: failover between its addresses, and retries within a deadline.
//!
//! Invariant: what may work later is tried again with exponential backoff and jitter until the
//! deadline, what was refused is never tried again, and no message holds a credential.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tidemill_core::retry::Backoff;
use tidemill_core::{Error, ErrorKind, Result};
use ureq::Agent;
use url::Url;

use super::config::{Credentials, RegistryConfig};

/// A request at the very end of the deadline gets at least so long.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// How long a decoder waits, at most: it holds its shard up, and is called again.
const DECODER_DEADLINE: Duration = Duration::from_secs(2);

/// How much of an answer that was not expected is quoted.
const QUOTED_CHARS: usize = 300;

/// Time, waiting and chance, so that tests own them.
pub(super) trait Pace: Send + Sync {
    /// Time since some fixed moment.
    fn elapsed(&self) -> Duration;

    /// Lets so much time pass.
    fn wait(&self, time: Duration);

    /// A number evenly from 0 to 1.
    fn chance(&self) -> f64;
}

/// The machine's time.
pub(super) struct RealPace(pub(super) Instant);

impl Pace for RealPace {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn chance(&self) -> f64 {
        // Every `RandomState` hashes differently.
        (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Speaks to one registry.
pub(super) struct Client {
    agent: Agent,
    config: RegistryConfig,
    authorization: Option<String>,
    pub(super) pace: Arc<dyn Pace>,
    /// The address that answered last.
    current: AtomicUsize,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// Who gives up once the deadline has passed.
    Job,
    /// Who comes back with the same question.
    Decoder,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may work when tried again.
    Transient(String),
    /// The registry, or the way to it, says no.
    Refused(Refusal),
}

/// A registry's no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// HTTP status; 0 where no request could be made at all.
    pub(super) status: u16,
    /// The registry's own code (40403: no such schema), 0 without.
    pub(super) code: u32,
    pub(super) message: String,
}

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Client {
    pub(super) fn new(config: RegistryConfig, pace: Arc<dyn Pace>) -> Result<Self> {
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            // No redirect leads out of TLS.
            .https_only(config.urls.iter().all(|url| url.scheme() == "https"))
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let builder = builder.tls_config(super::tls::config(&config)?);
        #[cfg(not(feature = "tls"))]
        if config.authorities.is_some() {
            let option = format!("{}.ssl.ca.location", config.format);
            let message =
                format!("'{option}': this build has no TLS: build it with the feature 'tls'");
            return Err(Error::option(option, message));
        }
        let authorization = match &config.credentials {
            Credentials::None => None,
            Credentials::Bearer(token) => Some(format!("Bearer {token}")),
            Credentials::Basic(user_info) => {
                let mut header = b"Basic ".to_vec();
                crate::base64::encode(user_info.as_bytes(), &mut header);
                Some(String::from_utf8_lossy(&header).into_owned())
            }
        };
        let agent = builder.build().new_agent();
        Ok(Self { agent, config, authorization, pace, current: AtomicUsize::new(0) })
    }

    pub(super) fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// The answer to `GET` of a path, or to `POST` where there is a body. The outer error is an
    /// outage that outlasted the asker's deadline, or a request that can never work.
    pub(super) fn ask(
        &self,
        asker: Asker,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>> {
        let start = self.pace.elapsed();
        let deadline = match asker {
            Asker::Job => self.config.deadline,
            Asker::Decoder => self.config.deadline.min(DECODER_DEADLINE),
        };
        let backoff = Backoff { deadline, ..self.backoff() };
        let mut attempts = 0;
        loop {
            let current = self.current.load(Ordering::Relaxed) % self.config.urls.len();
            let left = deadline.saturating_sub(self.pace.elapsed() - start);
            let timeout = left.min(self.config.request_timeout).max(TIMEOUT_MIN);
            let failure = match self.once(&self.config.urls[current], path, body, timeout) {
                Ok(answer) => return Ok(Ok(answer)),
                Err(Failure::Refused(refusal)) => return self.refused(refusal),
                Err(Failure::Transient(failure)) => failure,
            };
            self.current.store(current + 1, Ordering::Relaxed);
            attempts += 1;
            let spent = self.pace.elapsed() - start;
            match backoff.wait(attempts, spent, self.pace.chance()) {
                Some(wait) => self.pace.wait(wait),
                None => return Err(self.outage(asker, attempts, deadline, &failure)),
            }
        }
    }

    /// How long to wait between attempts.
    pub(super) fn backoff(&self) -> Backoff {
        let deadline = self.config.deadline;
        Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5), deadline }
    }

    fn outage(&self, asker: Asker, attempts: u32, deadline: Duration, failure: &str) -> Error {
        let kind = match asker {
            Asker::Job => ErrorKind::External,
            Asker::Decoder => ErrorKind::Transient,
        };
        let addresses = self.config.addresses();
        let message = format!(
            "schema registry {addresses}: no answer in {attempts} attempts within {deadline:?}; the \
             last: {failure}"
        );
        Error::new(kind, message)
    }

    /// A refusal that concerns the question goes on; one that concerns who asks is the user's to
    /// mend.
    fn refused(&self, refusal: Refusal) -> Result<Result<Value, Refusal>> {
        let place = format!("schema registry {}", self.config.addresses());
        let format = &self.config.format;
        match refusal.status {
            401 | 403 => {
                let option = match self.config.credentials {
                    Credentials::Bearer(_) => format!("{format}.bearer-auth.token"),
                    _ => format!("{format}.basic-auth.user-info"),
                };
                let message = format!("{place} refuses who asks: {refusal}; see '{option}'");
                Err(Error::option(option, message))
            }
            0 => {
                let certificate = refusal.message.contains("certificate");
                let name = if certificate { "ssl.ca.location" } else { "url" };
                let option = format!("{format}.{name}");
                let message = format!("{place}: {}; see '{option}'", refusal.message);
                Err(Error::option(option, message))
            }
            _ => Ok(Err(refusal)),
        }
    }

    fn once(
        &self,
        base: &Url,
        path: &[&str],
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let url = joined(base, path);
        let outcome = match body {
            None => {
                let request = self.agent.get(url.as_str()).header("accept", CONTENT_TYPE);
                let request = match &self.authorization {
                    Some(authorization) => request.header("authorization", authorization),
                    None => request,
                };
                request.config().timeout_global(Some(timeout)).build().call()
            }
            Some(body) => {
                let request = self.agent.post(url.as_str()).header("accept", CONTENT_TYPE);
                let request = match &self.authorization {
                    Some(authorization) => request.header("authorization", authorization),
                    None => request,
                };
                let request = request.content_type(CONTENT_TYPE);
                request.config().timeout_global(Some(timeout)).build().send(body.to_string())
            }
        };
        let mut response = outcome.map_err(failure)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(failure)?;
        answer(status, &text)
    }
}

/// What the registry said.
fn answer(status: u16, text: &str) -> Result<Value, Failure> {
    if status == 200 {
        return serde_json::from_str(text).map_err(|_| {
            let message = format!("this is no schema registry: it answers '{}'", quoted(text));
            Failure::Refused(Refusal { status: 0, code: 0, message })
        });
    }
    let (code, message) = match serde_json::from_str::<ErrorBody>(text) {
        Ok(body) => (body.error_code, quoted(&body.message)),
        Err(_) => (0, quoted(text)),
    };
    let refusal = Refusal { status, code, message };
    // 50001 and the like: its store, or its leader, is away. 408 and 429 ask for another try.
    if status >= 500 || status == 408 || status == 429 {
        return Err(Failure::Transient(refusal.to_string()));
    }
    Err(Failure::Refused(refusal))
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            0 => write!(f, "status {}", self.status)?,
            code => write!(f, "error {code}")?,
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ", {}", self.message) }
    }
}

/// What ureq says, by whether another try may help.
fn failure(error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let message = error.to_string();
    match error {
        E::BadUri(_) | E::TlsRequired | E::Tls(_) | E::InvalidProxyUrl | E::Http(_) => {
            Failure::Refused(Refusal { status: 0, code: 0, message })
        }
        #[cfg(feature = "tls")]
        E::Rustls(_) | E::Pem(_) => Failure::Refused(Refusal { status: 0, code: 0, message }),
        // A certificate that is not trusted comes as an I/O error of this kind.
        E::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Failure::Refused(Refusal { status: 0, code: 0, message })
        }
        _ => Failure::Transient(message),
    }
}

fn joined(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
