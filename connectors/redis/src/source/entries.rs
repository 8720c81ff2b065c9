//! Entries as Redis has sent them: all bytes of one answer in one buffer, and where each field stands in it.

use redis::Value;

use super::id::EntryId;

/// Entries of one stream, in order.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    bytes: Vec<u8>,
    fields: Vec<Place>,
    list: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: EntryId,
    /// Its first field; the last stands in front of the next entry's first.
    first: u32,
}

/// Where the name of a field begins, where its value does, and where that ends.
#[derive(Debug)]
struct Place {
    name: u32,
    value: u32,
    end: u32,
}

/// Buffers stay below what the offsets in them can say; an answer is far smaller.
const BYTES_MAX: usize = u32::MAX as usize;

impl Entries {
    /// Adds the entries of an answer: `[[id, [name, value, …]], …]`. Returns the ids of those that have no
    /// fields any more: they were deleted while they were pending.
    ///
    /// # Errors
    /// What is no list of entries.
    pub fn add(&mut self, answer: Value) -> Result<Vec<EntryId>, &'static str> {
        let mut gone = Vec::new();
        match answer {
            Value::Nil => {}
            Value::Array(entries) => {
                self.list.reserve(entries.len());
                for entry in entries {
                    if let Some(id) = self.add_one(entry)? {
                        gone.push(id);
                    }
                }
            }
            _ => return Err("no list of entries"),
        }
        Ok(gone)
    }

    fn add_one(&mut self, entry: Value) -> Result<Option<EntryId>, &'static str> {
        const WRONG: &str = "an entry that is none";
        let Value::Array(parts) = entry else { return Err(WRONG) };
        let mut parts = parts.into_iter();
        let (Some(Value::BulkString(id)), Some(fields)) = (parts.next(), parts.next()) else {
            return Err(WRONG);
        };
        let id = EntryId::of_bytes(&id).ok_or(WRONG)?;
        let fields = match fields {
            Value::Array(fields) => fields,
            Value::Nil => return Ok(Some(id)),
            _ => return Err(WRONG),
        };
        self.list.push(Entry { id, first: self.fields.len() as u32 });
        let mut fields = fields.into_iter();
        while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
            (fields.next(), fields.next())
        {
            if self.bytes.len() + name.len() + value.len() > BYTES_MAX {
                return Err("more than 4 GB in one answer");
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&name);
            self.bytes.extend_from_slice(&value);
            self.fields.push(Place {
                name: start as u32,
                value: (start + name.len()) as u32,
                end: self.bytes.len() as u32,
            });
        }
        Ok(None)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The memory that they take.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.fields.len() * size_of::<Place>()
            + self.list.len() * size_of::<Entry>()
    }

    /// How many bytes the fields of the longest entry have.
    pub fn longest(&self) -> usize {
        let length = |index| self.fields(index).map(|(name, value)| name.len() + value.len()).sum();
        (0..self.len()).map(length).max().unwrap_or(0)
    }

    pub fn id(&self, index: usize) -> EntryId {
        self.list[index].id
    }

    pub fn last_id(&self) -> Option<EntryId> {
        self.list.last().map(|entry| entry.id)
    }

    /// How many of the first entries have ids up to `id`.
    pub fn up_to(&self, id: EntryId) -> usize {
        self.list.partition_point(|entry| entry.id <= id)
    }

    /// Drops all but the first `count` entries.
    pub fn truncate(&mut self, count: usize) {
        if let Some(dropped) = self.list.get(count) {
            self.fields.truncate(dropped.first as usize);
        }
        self.list.truncate(count);
    }

    /// Drops the first `count` entries.
    pub fn skip(&mut self, count: usize) {
        self.list.drain(..count);
    }

    /// Names and values of the fields of entry `index`, in order.
    pub fn fields(&self, index: usize) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let first = self.list[index].first as usize;
        let next = self.list.get(index + 1).map_or(self.fields.len(), |next| next.first as usize);
        self.fields[first..next].iter().map(|place| {
            let (name, value, end) =
                (place.name as usize, place.value as usize, place.end as usize);
            (&self.bytes[name..value], &self.bytes[value..end])
        })
    }

    /// The value of the last field called `name`, of entry `index`.
    pub fn field(&self, index: usize, name: &[u8]) -> Option<&[u8]> {
        self.fields(index).filter(|(other, _)| *other == name).map(|(_, value)| value).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_again_byte_for_byte() {
        let answer = "*3\r\n*2\r\n$3\r\n1-0\r\n*4\r\n$1\r\na\r\n$2\r\n\r\n\r\n$0\r\n\r\n$0\r\n\r\n\
                      *2\r\n$3\r\n2-0\r\n*-1\r\n*2\r\n$4\r\n10-7\r\n*2\r\n$1\r\na\r\n$1\r\nx\r\n";
        let mut entries = Entries::default();
        let gone = entries.add(redis::parse_redis_value(answer.as_bytes()).unwrap()).unwrap();
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert_eq!(gone, [id("2-0")]);
        assert_eq!(
            (entries.len(), entries.id(0), entries.last_id()),
            (2, id("1-0"), Some(id("10-7")))
        );
        let fields: Vec<_> = entries.fields(0).collect();
        assert_eq!(fields, [(&b"a"[..], &b"\r\n"[..]), (b"", b"")]);
        assert_eq!((entries.field(1, b"a"), entries.field(1, b"b")), (Some(&b"x"[..]), None));
        assert_eq!((entries.up_to(id("0-9")), entries.up_to(id("10-6"))), (0, 1));
        entries.truncate(1);
        assert_eq!((entries.last_id(), entries.fields(0).count()), (Some(id("1-0")), 2));
    }
}
