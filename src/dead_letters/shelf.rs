//! Where letters lie, as `tidemill dlq` sees it: sections (partitions, files) of letters in order, and what was
//! replayed of each.

use std::fmt;

use tidemill_core::Result;
use tidemill_kafka::dead_letter::{Address, Letter, LetterTopic, Progress};

use super::folder::LetterFolder;
use super::folder_at;

/// The group that remembers what was replayed, where none is named.
const GROUP: &str = "tidemill-dlq-replay";

/// A place that holds letters.
pub(crate) enum Shelf {
    /// A topic.
    Topic(LetterTopic, Address),
    /// A folder of JSON lines.
    Folder(LetterFolder),
}

/// A letter and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub id: LetterId,
    pub letter: Letter,
    /// How many bytes its payload had, where the topic was too small for it.
    pub omitted_bytes: Option<u64>,
}

/// Where a letter lies: partition and offset, or file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LetterId {
    pub section: String,
    pub position: i64,
}

impl LetterId {
    /// `SECTION:POSITION`; a position alone is in the first partition.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (section, position) = text.rsplit_once(':').unwrap_or(("0", text));
        let position = position.parse().map_err(|_| {
            "write PARTITION:OFFSET or FILE:LINE, as `tidemill dlq ls` shows it".to_owned()
        })?;
        Ok(Self { section: section.to_owned(), position })
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.section, self.position)
    }
}

impl Shelf {
    /// The letters at `kafka://HOST:PORT/TOPIC`, in a folder, or in a file.
    ///
    /// # Errors
    /// There is none, or it cannot be reached.
    pub fn open(url: &str, group: Option<&str>) -> Result<Self> {
        let group = group.unwrap_or(GROUP);
        match Address::parse(url)? {
            Some(address) => Ok(Self::Topic(LetterTopic::open(&address, group)?, address)),
            None => Ok(Self::Folder(LetterFolder::open(&folder_at(url)?, group)?)),
        }
    }

    /// Its sections, in order.
    pub fn sections(&self) -> Vec<String> {
        match self {
            Self::Topic(topic, _) => (0..topic.partitions()).map(|n| n.to_string()).collect(),
            Self::Folder(folder) => folder.files(),
        }
    }

    /// The letters of a section from a position on, until `each` has enough. Returns the position behind the
    /// last letter that there is now.
    ///
    /// # Errors
    /// What cannot be read, and whatever `each` returns.
    pub fn read(
        &self,
        section: &str,
        start: i64,
        each: &mut dyn FnMut(Found) -> Result<bool>,
    ) -> Result<i64> {
        match self {
            Self::Topic(topic, _) => topic.read(partition(section)?, start, &mut |stored| {
                let id = LetterId { section: section.to_owned(), position: stored.offset };
                each(Found { id, letter: stored.letter, omitted_bytes: stored.omitted_bytes })
            }),
            Self::Folder(folder) => folder.read(section, start, each),
        }
    }

    /// What was replayed of a section; `None` where that may have been forgotten.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn progress(&self, section: &str) -> Result<Option<Progress>> {
        match self {
            Self::Topic(topic, _) => topic.progress(partition(section)?),
            Self::Folder(folder) => folder.progress(section).map(Some),
        }
    }

    /// Remembers what was replayed of a section.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, section: &str, progress: &Progress) -> Result<()> {
        match self {
            Self::Topic(topic, _) => topic.save(partition(section)?, progress),
            Self::Folder(folder) => folder.save(section, progress),
        }
    }
}

fn partition(section: &str) -> Result<i32> {
    section.parse().map_err(|_| {
        tidemill_core::Error::configuration(format!("'{section}' is no partition: write 0:42"))
    })
}
