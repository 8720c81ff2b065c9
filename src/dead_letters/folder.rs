//! Letters in files: JSON lines, as a job writes them. What was replayed stands in a hidden file beside them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_core::{Error, Result, dead_letter};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;
use tidemill_kafka::dead_letter::{Letter, Progress};

use super::shelf::{Found, LetterId};

/// Lines that are decoded together.
const LINES: usize = 256;

/// A folder of letters.
pub(crate) struct LetterFolder {
    folder: PathBuf,
    files: Vec<String>,
    /// Who remembers what was replayed.
    group: String,
}

/// How far the files of a folder were replayed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Replayed(BTreeMap<String, Mark>);

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    next_line: i64,
    beyond: String,
}

impl LetterFolder {
    /// The letters in a folder, or in one file.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path, group: &str) -> Result<Self> {
        let group = group.to_owned();
        if path.is_file() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            return Ok(Self { folder, files: name.into_iter().collect(), group });
        }
        let cannot = |error| {
            let place = path.display();
            Error::configuration(format!("the dead letters in {place} cannot be read"))
                .caused_by(error)
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name().to_string_lossy().into_owned();
            // Hidden files are not finished, or not letters.
            if !name.starts_with('.') && name.ends_with(".json") {
                files.push(name);
            }
        }
        files.sort();
        Ok(Self { folder: path.to_owned(), files, group })
    }

    pub fn files(&self) -> Vec<String> {
        self.files.clone()
    }

    /// The letters of a file from a line on (the first is line 1), until `each` has enough.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is no letter, and whatever `each` returns.
    pub fn read(
        &self,
        file: &str,
        start: i64,
        each: &mut dyn FnMut(Found) -> Result<bool>,
    ) -> Result<i64> {
        let path = self.folder.join(file);
        let place = path.display().to_string();
        let input = File::open(&path).map_err(|error| {
            Error::configuration(format!("{place} cannot be read")).caused_by(error)
        })?;
        let mut decoder = Format::Json(JsonFormat::default()).decoder(dead_letter::schema())?;
        let mut lines = BufReader::new(input).lines();
        let mut line = 0;
        loop {
            let first = line + 1;
            for text in lines.by_ref().take(LINES) {
                line += 1;
                decoder.decode(text?.as_bytes()).map_err(|why| {
                    Error::corrupt(format!("{place}, line {line} is no dead letter: {why}"))
                })?;
            }
            if decoder.is_empty() {
                return Ok(line + 1);
            }
            let letters = Letter::from_rows(&decoder.finish()?)?;
            for (position, letter) in (first..).zip(letters) {
                let id = LetterId { section: file.to_owned(), position };
                let found = Found { id, letter, omitted_bytes: None };
                if position >= start && !each(found)? {
                    return Ok(line + 1);
                }
            }
        }
    }

    /// What was replayed of a file.
    ///
    /// # Errors
    /// The file that says so cannot be read.
    pub fn progress(&self, file: &str) -> Result<Progress> {
        match self.replayed()?.0.get(file) {
            Some(mark) => Progress::committed(mark.next_line, &mark.beyond),
            None => Ok(Progress::default()),
        }
    }

    /// Remembers what was replayed of a file.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub fn save(&self, file: &str, progress: &Progress) -> Result<()> {
        let mut replayed = self.replayed()?;
        let mark = Mark { next_line: progress.offset(), beyond: progress.metadata() };
        replayed.0.insert(file.to_owned(), mark);
        let text = serde_json::to_string_pretty(&replayed)
            .map_err(|error| Error::internal("what was replayed").caused_by(error))?;
        let path = self.marks();
        let next = path.with_extension("next");
        let write = || -> std::io::Result<()> {
            let mut output = File::create(&next)?;
            output.write_all(text.as_bytes())?;
            output.sync_all()?;
            fs::rename(&next, &path)
        };
        write().map_err(|error| {
            let place = path.display();
            Error::external(format!("{place}, which says what was replayed, cannot be written"))
                .caused_by(error)
        })
    }

    fn replayed(&self) -> Result<Replayed> {
        let path = self.marks();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Replayed::default());
            }
            Err(error) => return Err(error.into()),
        };
        serde_json::from_str(&text).map_err(|error| {
            let place = path.display();
            Error::corrupt(format!("{place} does not say what was replayed")).caused_by(error)
        })
    }

    fn marks(&self) -> PathBuf {
        self.folder.join(format!(".{}.json", self.group))
    }
}
