//! The text of `url`: `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS; the nodes of a
//! cluster with commas between them. What the first says of user, password and scheme goes for all.

use redis::{ConnectionInfo, IntoConnectionInfo, parse_redis_url};
use tidemill_core::{Error, Result};

/// The nodes of `url`, and whether they want TLS.
///
/// # Errors
/// A configuration error, which does not repeat the text: it may hold a password.
pub(crate) fn parse(url: &str) -> Result<(Vec<ConnectionInfo>, bool)> {
    let mut nodes = Vec::new();
    let mut parts = url.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let parsed = parse_redis_url(first).filter(|url| url.has_host()).ok_or_else(wrong)?;
    let tls = match parsed.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(wrong()),
    };
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong());
    }
    if tls && !cfg!(feature = "tls") {
        let message = "'rediss://' needs a Tidemill that was built with the feature 'tls'";
        return Err(Error::option("url", message));
    }
    nodes.push(node(parsed.clone())?);
    for part in parts {
        let mut url = match part.contains("://") {
            true => parse_redis_url(part).ok_or_else(wrong)?,
            false => parse_redis_url(&format!("{}://{part}", parsed.scheme())).ok_or_else(wrong)?,
        };
        if url.scheme() != parsed.scheme() {
            let message = "option 'url': all nodes of a cluster are redis://, or all are rediss://";
            return Err(Error::option("url", message));
        }
        if url.username().is_empty() && url.password().is_none() {
            let copied = url.set_username(parsed.username());
            copied.and_then(|()| url.set_password(parsed.password())).map_err(|()| wrong())?;
        }
        nodes.push(node(url)?);
    }
    Ok((nodes, tls))
}

fn node(url: url::Url) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|_| wrong())
}

fn wrong() -> Error {
    let message = "option 'url' is no Redis address: write \
                   redis://[user[:password]@]host[:port][/db], or rediss://… for TLS; several \
                   nodes of a cluster with commas between them";
    Error::option("url", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_speaks_for_all() {
        let (nodes, tls) = parse("redis://me:p%2Cw@a:1/3, b:2,redis://c").unwrap();
        let hosts: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!((hosts, tls), (["a:1", "b:2", "c:6379"].map(str::to_owned).to_vec(), false));
        for node in &nodes {
            let settings = node.redis_settings();
            assert_eq!((settings.username(), settings.password()), (Some("me"), Some("p,w")));
        }
        assert_eq!(nodes[0].redis_settings().db(), 3);
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_text() {
        let wrong = [
            "",
            "localhost",
            "http://canary@h",
            "redis://",
            "redis://u:canary@h/x",
            "redis://a:canary@h,rediss://b",
            "redis://a:canary@h?protocol=3",
        ];
        for url in wrong {
            let error = parse(url).unwrap_err();
            assert_eq!(error.wrong_option(), Some("url"), "{url}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
