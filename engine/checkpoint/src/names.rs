//! Names of files and folders: epochs, runs, jobs and nodes as paths.
//!
//! Pure. Invariant: different jobs have different folders, different files of a run different
//! names, and names are read back only if they are spelled as this module spells them.

use tidemill_core::element::Epoch;

use crate::codec;

pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const DATA: &str = "data";
pub(crate) const RUNS: &str = "runs";
pub(crate) const FRESH: &str = "fresh";

/// Names longer than this are cut, and told apart by their hash.
const NAME_MAX: usize = 80;

/// A number as a file name that sorts like it.
pub(crate) fn numbered(number: u64) -> String {
    format!("{number:012}")
}

pub(crate) fn manifest_path(epoch: Epoch) -> String {
    format!("{MANIFESTS}/{}", numbered(epoch))
}

/// The epoch and the run that a data file's path names.
pub(crate) fn data_epoch_and_run(path: &str) -> Option<(Epoch, u64)> {
    let mut parts = path.strip_prefix(DATA)?.strip_prefix('/')?.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A name that every file system and object store takes, different for different names.
pub(crate) fn to_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => safe.push(char::from(byte)),
            b'.' if !safe.is_empty() => safe.push('.'),
            _ => safe.push_str(&format!("={byte:02X}")),
        }
    }
    if safe.is_empty() || safe.len() > NAME_MAX {
        safe.truncate(NAME_MAX - 33);
        safe = format!("{safe}=={}", &codec::checksum(name.as_bytes())[..31]);
    }
    safe
}

/// The name that [`to_name`] was given; what was cut stays cut.
pub(crate) fn from_name(safe: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = safe;
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(b'='));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What to call a job's folder in messages. A URL's user, password and query are left out.
pub(crate) fn place(url: &str, job: &str) -> String {
    let url = match url::Url::parse(url) {
        Ok(parsed) if url.contains("://") => {
            format!("{}://{}{}", parsed.scheme(), parsed.host_str().unwrap_or(""), parsed.path())
        }
        _ => url.to_owned(),
    };
    format!("{}/{}", url.trim_end_matches('/'), to_name(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_have_different_folders_that_any_file_system_takes() {
        let long = "x".repeat(300);
        let names =
            ["a", "A b", "a/b", "a=2Fb", "..", ".", "", "é", "a.b", "per-minute", "a\\b", &long];
        let folders: std::collections::BTreeSet<_> = names.iter().map(|n| to_name(n)).collect();
        assert_eq!(folders.len(), names.len());
        for folder in &folders {
            let safe = |c: char| c.is_ascii_alphanumeric() || "_-=.".contains(c);
            assert!(folder.chars().all(safe) && !folder.starts_with('.') && folder.len() <= 80);
        }
        for name in names.iter().filter(|name| !name.is_empty() && name.len() < 80) {
            assert_eq!(from_name(&to_name(name)), **name);
        }
    }

    #[test]
    fn a_place_in_a_message_has_no_credentials() {
        let place = place("s3://key:secret@bucket/deep?token=x#y", "job");
        assert_eq!(place, "s3://bucket/deep/job");
    }
}
