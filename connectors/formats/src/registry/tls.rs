//! Whom to trust when the registry is reached through TLS.

use std::sync::Arc;

use tidemill_core::{Error, Result};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::config::RegistryConfig;

/// Mozilla's authorities, or those of the configured file alone.
///
/// # Errors
/// A configuration error where the file cannot be read or holds no certificate.
pub(super) fn config(config: &RegistryConfig) -> Result<TlsConfig> {
    let Some(path) = &config.authorities else { return Ok(TlsConfig::default()) };
    let option = format!("{}.ssl.ca.location", config.format);
    let wrong =
        |why: &str| Error::option(&option, format!("option '{option}': {} {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong("cannot be read").caused_by(error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(wrong("is no PEM file").caused_by(error)),
        }
    }
    if certificates.is_empty() {
        return Err(wrong("holds no certificate"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}
