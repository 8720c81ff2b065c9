//! Which files a path means.

use std::path::{Component, Path, PathBuf};

use tidemill_core::source::SplitId;
use tidemill_core::{Error, Result};

/// A file, a folder or a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location(String);

impl Location {
    /// The location that a `'path'` option names; `file://` may stand before it.
    ///
    /// # Errors
    /// A configuration error for another scheme.
    pub(crate) fn parse(path: &str) -> Result<Self> {
        let local = match path.split_once("://") {
            Some(("file", rest)) => rest,
            Some((scheme, _)) => {
                let message = format!(
                    "'path' = '{path}': scheme '{scheme}' is not supported, only local files"
                );
                return Err(Error::option("path", message));
            }
            None => path.strip_prefix("file:").unwrap_or(path),
        };
        if local.is_empty() {
            return Err(Error::option("path", "'path' is empty: name a file, a folder or a glob"));
        }
        Ok(Self(local.to_owned()))
    }

    /// A location on this machine, as it is.
    pub(crate) fn local(path: impl AsRef<Path>) -> Self {
        Self(path.as_ref().to_string_lossy().into_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The files there are now, by name. Hidden files (`.x`, `_x`) and unfinished ones
    /// (`.inprogress`) below a folder or found by a glob do not count.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn splits(&self) -> Result<Vec<SplitId>> {
        let path = self.path();
        let mut names = Vec::new();
        if path.is_dir() {
            walk(path, path, &mut names)?;
        } else if path.exists() {
            names.push(self.0.clone());
        } else if self.0.contains(['*', '?', '[']) {
            names = self.globbed()?;
        }
        if names.is_empty() {
            let folder = std::env::current_dir().unwrap_or_default();
            return Err(Error::option(
                "path",
                format!("'{}' matches no file (seen from {})", self.0, folder.display()),
            ));
        }
        names.sort();
        Ok(names.into_iter().map(SplitId::new).collect())
    }

    fn globbed(&self) -> Result<Vec<String>> {
        let wrong = |error: &dyn std::fmt::Display| {
            Error::option("path", format!("'{}' is not a valid glob: {error}", self.0))
        };
        let mut names = Vec::new();
        for found in glob::glob(&self.0).map_err(|error| wrong(&error))? {
            let found = found.map_err(|error| wrong(&error))?;
            if found.is_file() && !found.file_name().is_some_and(is_hidden) {
                names.push(name(&found)?);
            }
        }
        Ok(names)
    }

    /// The file behind a split.
    pub(crate) fn file(&self, split: &SplitId) -> PathBuf {
        if self.path().is_dir() {
            self.path().join(split.as_str())
        } else {
            PathBuf::from(split.as_str())
        }
    }
}

fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::external(format!("cannot list folder {}", folder.display())).caused_by(error)
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(is_hidden) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, names)?;
        } else {
            names.push(name(path.strip_prefix(root).unwrap_or(&path))?);
        }
    }
    Ok(())
}

/// Whether a file of this name is none of our business, or not finished.
fn is_hidden(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(['.', '_']) || name.ends_with(".inprogress")
}

/// A path as a split's name, the same on every system.
fn name(path: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        let message = format!("{}: a file's name must be UTF-8", path.display());
        return Err(Error::external(message));
    };
    debug_assert!(!path.components().any(|part| matches!(part, Component::Prefix(_))));
    Ok(text.to_owned())
}

/// What a partition folder stands for: `(column, value)` of each `column=value` on the way.
pub(crate) fn partitions(path: &Path) -> impl Iterator<Item = (String, String)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders.filter_map(|folder| {
        let folder = folder.as_os_str().to_str()?;
        let (column, value) = folder.split_once('=')?;
        Some((unescape(column), unescape(value)))
    })
}

/// Text as part of a file's name: what might mean something there as `%` and its code.
pub(crate) fn escape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b' ') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The inverse of [`escape`].
fn unescape(name: &str) -> String {
    let (bytes, mut text, mut at) = (name.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| name.get(at + 1..at + 3))
            .flatten()
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        text.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&text).into_owned()
}
