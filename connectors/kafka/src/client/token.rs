//! OAUTHBEARER tokens: given, read from a file whenever one is needed, or unsecured for tests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::client::OAuthToken;
use tidemill_core::{Error, Result};

use super::java::jaas_field;

/// How long a token counts that does not say when it ends.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Where tokens come from.
pub(crate) enum TokenSource {
    /// This one.
    Given(String),
    /// The content of this file, which somebody renews.
    File(String),
    /// Made here, without a signature: brokers believe it in tests only.
    Unsecured {
        /// Who is said to be speaking.
        principal: String,
    },
}

impl TokenSource {
    /// The source that properties name, if they name one.
    ///
    /// # Errors
    /// A configuration error where OAUTHBEARER is wanted and no token.
    pub(super) fn of(given: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let get = |name: &str| given.get(name).map(String::as_str);
        let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms")).unwrap_or("");
        if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            return Ok(None);
        }
        if let Some(token) = get("sasl.oauthbearer.token") {
            return Ok(Some(Self::Given(token.to_owned())));
        }
        if let Some(path) = get("sasl.oauthbearer.token.file") {
            return Ok(Some(Self::File(path.to_owned())));
        }
        let jaas = get("sasl.jaas.config").unwrap_or("").trim_end_matches(';');
        let fields = jaas.split_once("required").map_or("", |(_, fields)| fields);
        let claimed = jaas_field(fields, "unsecuredLoginStringClaim_sub");
        let config = get("sasl.oauthbearer.config").unwrap_or("");
        let configured = config.split_whitespace().find_map(|pair| pair.strip_prefix("principal="));
        let is_unsecured = get("enable.sasl.oauthbearer.unsecure.jwt") == Some("true");
        match claimed.or(configured.filter(|_| is_unsecured).map(str::to_owned)) {
            Some(principal) => Ok(Some(Self::Unsecured { principal })),
            None => {
                let message = "OAUTHBEARER needs a token: set 'properties.sasl.oauthbearer.token' \
                               (or '….token.file', or KAFKA_SASL_OAUTHBEARER_TOKEN_FILE)";
                Err(Error::option("properties.sasl.mechanism", message))
            }
        }
    }

    /// A token.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn token(&self) -> Result<OAuthToken> {
        let token = match self {
            Self::Given(token) => token.clone(),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let message = format!("the OAUTHBEARER token file {path} cannot be read");
                    Error::configuration(message).caused_by(error)
                })?;
                text.trim().to_owned()
            }
            Self::Unsecured { principal } => unsecured(principal),
        };
        let claims = token.split('.').nth(1).and_then(base64url_decode).unwrap_or_default();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap_or_default();
        let ends = claims["exp"].as_f64().map(|seconds| (seconds * 1000.0) as i64);
        Ok(OAuthToken {
            principal_name: claims["sub"].as_str().unwrap_or("").to_owned(),
            lifetime_ms: ends.unwrap_or_else(|| (since_epoch() + LIFETIME).as_millis() as i64),
            token,
        })
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A JSON web token without a signature.
fn unsecured(principal: &str) -> String {
    let now = since_epoch();
    let claims = serde_json::json!({
        "sub": principal,
        "iat": now.as_secs(),
        "exp": (now + LIFETIME).as_secs(),
    });
    let header = base64url_encode(br#"{"alg":"none"}"#);
    format!("{header}.{}.", base64url_encode(claims.to_string().as_bytes()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for sextet in 0..=chunk.len() {
            let index = word >> (18 - 6 * sextet) & 63;
            // Writing to a string cannot fail.
            let _ = text.write_char(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let sextet = ALPHABET.iter().position(|known| *known == character)?;
        word = word << 6 | sextet as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsecured_token_says_who_and_until_when() {
        let token = TokenSource::Unsecured { principal: "alice".to_owned() }.token().unwrap();
        assert_eq!(token.principal_name, "alice");
        assert!(token.lifetime_ms > since_epoch().as_millis() as i64);
        assert_eq!(token.token.matches('.').count(), 2);
    }

    #[test]
    fn base64url_comes_back() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(97)).collect();
            assert_eq!(base64url_decode(&base64url_encode(&bytes)), Some(bytes));
        }
        assert_eq!(base64url_encode(b"hi?>"), "aGk_Pg");
    }
}
