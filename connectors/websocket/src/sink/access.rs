//! Which pages and which tokens are let in. Pure: headers in, a decision out.
//!
//! A page from anywhere can make its reader's browser connect to this machine; the browser then says where
//! the page came from. Programs other than browsers send no origin.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, ORIGIN};
use tidemill_core::{Error, Result};
use url::Url;

use crate::secret::Token;

/// Whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origins {
    /// Those that this machine serves.
    Loopback,
    /// These, and no others.
    List(Vec<String>),
}

impl Origins {
    /// These origins.
    ///
    /// # Errors
    /// One that is no origin.
    pub fn list<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut list = Vec::new();
        for origin in origins.into_iter().map(str::trim).filter(|origin| !origin.is_empty()) {
            if !is_pattern(origin) {
                let message = format!(
                    "'allowed-origins': '{origin}' is no origin: write 'https://example.com', \
                     'http://localhost:*', 'null' or '*'"
                );
                return Err(Error::option("allowed-origins", message));
            }
            list.push(origin.to_ascii_lowercase());
        }
        Ok(Self::List(list))
    }

    fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Loopback => is_loopback(origin),
            Self::List(list) => list.iter().any(|allowed| matches(allowed, origin)),
        }
    }
}

fn is_pattern(origin: &str) -> bool {
    let origin = origin.strip_suffix(":*").unwrap_or(origin);
    if matches!(origin, "*" | "null") {
        return true;
    }
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| !authority.contains('/')) && Url::parse(origin).is_ok()
}

fn matches(allowed: &str, origin: &str) -> bool {
    match allowed {
        "*" => true,
        // Browsers do not agree on what the origin of a file is called.
        "null" => matches!(origin, "null" | "file://"),
        _ => match allowed.strip_suffix(":*") {
            None => allowed == origin.to_ascii_lowercase(),
            Some(host) => without_port(&origin.to_ascii_lowercase()) == host,
        },
    }
}

fn without_port(origin: &str) -> &str {
    match origin.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => origin,
    }
}

fn is_loopback(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    matches!(url.scheme(), "http" | "https")
        && matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its page comes from elsewhere.
    Origin,
    /// It shows no token, or a wrong one.
    Token,
}

/// Judges a request: by its headers, and the token in its query.
pub(crate) fn judge(
    origins: &Origins,
    token: Option<&Token>,
    headers: &HeaderMap,
    shown: Option<&str>,
) -> Result<(), Refusal> {
    let mut pages = headers.get_all(ORIGIN).iter();
    if !pages.all(|origin| origin.to_str().is_ok_and(|origin| origins.allow(origin))) {
        return Err(Refusal::Origin);
    }
    let Some(token) = token else { return Ok(()) };
    let bearer = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let bearer = bearer.and_then(|value| {
        let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
    });
    match bearer.or(shown.map(str::as_bytes)) {
        Some(shown) if token.is(shown) => Ok(()),
        _ => Err(Refusal::Token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &Origins, origin: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        judge(origins, None, &headers, None).is_ok()
    }

    #[test]
    fn pages_of_this_machine_are_let_in_and_others_are_not() {
        let origins = Origins::Loopback;
        assert!(judge(&origins, None, &HeaderMap::new(), None).is_ok(), "no browser");
        for page in
            ["http://localhost", "http://localhost:8000", "https://127.0.0.1:1", "http://[::1]:3"]
        {
            assert!(allowed(&origins, page), "{page}");
        }
        for page in [
            "null",
            "file://",
            "https://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost@example.com",
            "ws://localhost",
            "localhost",
        ] {
            assert!(!allowed(&origins, page), "{page}");
        }
    }

    #[test]
    fn a_list_lets_in_what_is_in_it_and_nothing_else() {
        let origins = Origins::list([" https://a.example ", "http://localhost:*", "null"]).unwrap();
        for page in [
            "https://a.example",
            "HTTPS://A.example",
            "http://localhost:81",
            "http://localhost",
            "null",
            "file://",
        ] {
            assert!(allowed(&origins, page), "{page}");
        }
        for page in [
            "http://a.example",
            "https://a.example:8443",
            "https://b.a.example",
            "http://127.0.0.1:81",
            "http://localhost:81.example.com",
        ] {
            assert!(!allowed(&origins, page), "{page}");
        }
        assert!(allowed(&Origins::list(["*"]).unwrap(), "https://anywhere.example"));
        for wrong in ["example.com", "https://a.example/", "https://a.example/page", "nil"] {
            assert!(Origins::list([wrong]).is_err(), "{wrong}");
        }
    }
}
