//! The entries behind a batch: where each of its records stands, for columns of metadata, dead letters and
//! headers that travel on. Nothing is copied unless somebody asks.

use std::fmt;
use std::sync::Arc;

use tidemill_core::record::{Header, Records, SourceRecord};

use super::entries::Entries;
use super::id::EntryId;
use super::layout::{Content, HEADER, Layout};

/// Entries that were taken together, of one stream.
#[derive(Default, Clone)]
pub(crate) struct Taken {
    parts: Vec<Arc<Entries>>,
    /// For each its part, and its number there.
    places: Vec<(u32, u32)>,
}

impl Taken {
    /// Adds entries `from` to `to` of `entries`.
    pub fn add(&mut self, entries: &Arc<Entries>, from: usize, to: usize) {
        let part = self.parts.len() as u32;
        self.parts.push(entries.clone());
        self.places.extend((from..to).map(|index| (part, index as u32)));
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    fn place(&self, index: usize) -> (&Entries, usize) {
        let (part, index) = self.places[index];
        (&self.parts[part as usize], index as usize)
    }

    pub fn id(&self, index: usize) -> EntryId {
        let (entries, index) = self.place(index);
        entries.id(index)
    }

    pub fn fields(&self, index: usize) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let (entries, index) = self.place(index);
        entries.fields(index)
    }

    pub fn field(&self, index: usize, name: &str) -> Option<&[u8]> {
        let (entries, index) = self.place(index);
        entries.field(index, name.as_bytes())
    }

    /// The headers of entry `index`: name and value.
    pub fn headers(&self, index: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields(index).filter_map(|(name, value)| Some((name.strip_prefix(HEADER)?, value)))
    }

    /// Entry `index`, byte for byte. Fields that are neither payload, key nor headers stand among the
    /// headers.
    pub fn record(&self, index: usize, layout: &Layout) -> SourceRecord {
        let id = self.id(index);
        let has_payload = matches!(layout.content, Content::Payload(_));
        let is_payload = |name: &[u8]| has_payload && name == layout.value_field.as_bytes();
        let is_key = |name: &[u8]| name == layout.key_field.as_bytes();
        let others = self.fields(index).filter(|(name, _)| !is_payload(name) && !is_key(name));
        let headers = others.map(|(name, value)| {
            let name = name.strip_prefix(HEADER).unwrap_or(name);
            Header::new(String::from_utf8_lossy(name), value)
        });
        SourceRecord {
            position: format!("id {id}"),
            payload: if has_payload { self.field(index, &layout.value_field) } else { None }
                .map(<[u8]>::to_vec),
            key: self.field(index, &layout.key_field).map(<[u8]>::to_vec),
            headers: headers.collect(),
            timestamp: id.time(),
        }
    }
}

/// See the module.
pub(crate) struct StreamRecords {
    taken: Taken,
    /// For each row its entry, where they are not the same.
    rows: Option<Vec<u32>>,
    layout: Arc<Layout>,
}

impl StreamRecords {
    pub fn new(taken: Taken, rows: Vec<u32>, layout: Arc<Layout>) -> Self {
        let rows = Some(rows).filter(|rows| rows.len() != taken.len());
        Self { taken, rows, layout }
    }

    fn entry(&self, index: usize) -> usize {
        self.rows.as_ref().map_or(index, |rows| rows[index] as usize)
    }
}

impl fmt::Debug for StreamRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamRecords({} entries)", self.taken.len())
    }
}

impl Records for StreamRecords {
    fn record(&self, index: usize) -> SourceRecord {
        self.taken.record(self.entry(index), &self.layout)
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        let headers = self.taken.headers(self.entry(index));
        headers.map(|(name, value)| Header::new(String::from_utf8_lossy(name), value)).collect()
    }
}
