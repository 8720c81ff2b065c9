//! Files that are cut, beside the same files read in one go.

use proptest::prelude::*;

use super::source::{csv_file, gzip, numbers, put};
use super::*;
use crate::lanes::Cut;
use crate::{FileSource, FormattedFiles};

/// The same file twice: as one split, and cut into blocks of `block` bytes.
struct Both {
    folder: tempfile::TempDir,
    chunk: usize,
    block: u64,
    lanes: u64,
    record_max: usize,
}

impl Both {
    fn new(text: &[u8], block: u64, lanes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", text);
        Self { folder, chunk: 7, block, lanes, record_max: 1 << 20 }
    }

    fn source(&self, is_json: bool, is_cut: bool) -> FormattedFiles {
        let path = FileSource::new(self.folder.path().join("a"));
        let source = if is_json { path.json(numbers()) } else { path.csv(numbers()) };
        let size = std::fs::metadata(self.folder.path().join("a")).unwrap().len();
        let lane_bytes_min = if is_cut { (size / self.lanes).max(1) } else { u64::MAX };
        let cut = Cut { lane_bytes_min, block_bytes: self.block };
        source.with_limits(self.chunk, self.record_max).with_cut(cut)
    }

    /// Reads all splits of the cut file, and checks that they are the file.
    fn check(&self, is_json: bool, max_rows: usize) {
        let whole = &read_all(&self.source(is_json, false))[0];
        let cut = self.source(is_json, true);
        let splits = cut.splits().unwrap();
        let lanes: Vec<_> =
            splits.iter().map(|split| read_split(&cut, split, None, max_rows).unwrap()).collect();
        assert_eq!(merged(&lanes), *whole);
        for (split, lane) in splits.iter().zip(&lanes) {
            for (records, offset) in &lane.offsets {
                // Another source, as after a restart: nothing is known of the file.
                let cut = self.source(is_json, true);
                assert_eq!(cut.splits_again(&splits).unwrap(), splits);
                let rest = read_split(&cut, split, Some(offset), 8_192).unwrap();
                let dead = lane.dead_letters.len() - rest.dead_letters.len();
                let rows = records - dead;
                assert_eq!(rest.rows, lane.rows.slice(rows, lane.rows.num_rows() - rows));
                assert_eq!(rest.records, lane.records[rows..]);
                assert_eq!(rest.dead_letters, lane.dead_letters[dead..]);
            }
        }
    }
}

/// What the lanes of a file have read, in the order of the file.
fn merged(lanes: &[Everything]) -> Whole {
    let byte = |position: &str| position.strip_prefix("byte ").unwrap().parse::<u64>().unwrap();
    let (mut rows, mut letters) = (vec![], vec![]);
    for lane in lanes {
        for (row, (position, payload)) in lane.records.iter().enumerate() {
            rows.push((byte(position), payload.clone(), lane.rows.slice(row, 1)));
        }
        for letter in &lane.dead_letters {
            let payload = letter.record.payload.clone().unwrap();
            letters.push((byte(&letter.record.position), payload, letter.reason.clone()));
        }
    }
    rows.sort_by_key(|row| row.0);
    letters.sort();
    let batches: Vec<_> = rows.iter().map(|row| row.2.clone()).collect();
    Whole {
        rows: concat_batches(&numbers(), &batches).unwrap(),
        payloads: rows.into_iter().map(|row| row.1).collect(),
        letters: letters.into_iter().map(|letter| (letter.1, letter.2)).collect(),
    }
}

/// All of a file.
#[derive(Debug, PartialEq)]
struct Whole {
    rows: RecordBatch,
    payloads: Vec<String>,
    letters: Vec<(Vec<u8>, String)>,
}

impl PartialEq<Everything> for Whole {
    fn eq(&self, other: &Everything) -> bool {
        let letter =
            |letter: &DeadLetter| (letter.record.payload.clone().unwrap(), letter.reason.clone());
        let other = Self {
            rows: other.rows.clone(),
            payloads: other.records.iter().map(|record| record.1.clone()).collect(),
            letters: other.dead_letters.iter().map(letter).collect(),
        };
        *self == other
    }
}

impl std::fmt::Debug for Everything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.rows, self.records, self.dead_letters)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lanes_of_csv_are_the_file_whatever_is_quoted(
        text in csv_file(), block in 8u64..60, lanes in 2u64..9, max_rows in 1usize..9,
        mark in any::<bool>()
    ) {
        let text = if mark { format!("\u{feff}{text}") } else { text };
        let mut both = Both::new(text.as_bytes(), block, lanes);
        both.check(false, max_rows);
        both.record_max = 30;
        both.check(false, max_rows);
        both.chunk = 1 << 20;
        both.check(false, max_rows);
    }

    #[test]
    fn lanes_of_json_are_the_file(
        lines in prop::collection::vec(("[0-9]{1,4}|x", "[a-z\u{e9}]{0,40}", "\n|\r\n|\n\n"), 0..30),
        block in 8u64..60, lanes in 2u64..9, max_rows in 1usize..9
    ) {
        let line = |(n, s, end): (String, String, String)| format!("{{\"n\":{n},\"s\":\"{s}\"}}{end}");
        let text: String = lines.into_iter().map(line).collect();
        let mut both = Both::new(text.as_bytes(), block, lanes);
        both.check(true, max_rows);
        both.record_max = 40;
        both.check(true, max_rows);
        both.chunk = 1 << 20;
        both.check(true, max_rows);
    }
}

#[test]
fn a_header_is_of_no_lane_and_known_to_all() {
    let mut text = "s,unused,n\n".to_owned();
    (0..100).for_each(|n| text.push_str(&format!("\"row\n{n}\",0,{n}\n")));
    let both = Both::new(text.as_bytes(), 50, 4);
    let whole = &read_all(&both.source(false, false).with_header())[0];
    let lanes = read_all(&both.source(false, true).with_header());
    assert_eq!((whole.rows.num_rows(), lanes.len()), (100, 4));
    assert_eq!(merged(&lanes), *whole);
}

#[test]
fn what_a_checkpoint_knows_stays_cut_as_it_is() {
    let both = Both::new("1,a\n".repeat(100).as_bytes(), 16, 4);
    let (whole, cut) = (both.source(false, false), both.source(false, true));
    let one = whole.splits().unwrap();
    let lanes = cut.splits().unwrap();
    assert_eq!((one.len(), lanes.len()), (1, 4));
    // A checkpoint of a version that did not cut files.
    assert_eq!(cut.splits_again(&one).unwrap(), one);
    let rest = read_split(&cut, &one[0], Some(&Offset("396:100".to_owned())), 10).unwrap();
    assert_eq!(rest.records, [("line 100".to_owned(), "1,a".to_owned())]);
    // One of a version that cut others.
    assert_eq!(whole.splits_again(&lanes[2..3]).unwrap(), lanes);
    let mut blocks = both.source(false, true);
    blocks = blocks.with_cut(Cut { lane_bytes_min: 1, block_bytes: 1 << 20 });
    let rest = read_split(&blocks, &lanes[0], Some(&Offset("4/16".to_owned())), 100).unwrap();
    assert_eq!(rest.rows.num_rows(), 27, "28 rows begin in blocks 0, 4, 8 and so on");
}

#[test]
fn a_lane_of_a_file_that_was_cut_off_is_an_error_and_so_is_a_strange_offset() {
    let both = Both::new("1,a\n".repeat(100).as_bytes(), 16, 4);
    let cut = both.source(false, true);
    let split = &cut.splits().unwrap()[1];
    for (offset, words) in [
        ("404/16", "was cut or replaced"),
        ("1040/16", "was cut or replaced"),
        ("20:3", "is no offset"),
        ("4/16", "is no offset"),
        ("4/0", "is no offset"),
        ("0/9223372036854775807", "is no offset"),
    ] {
        let error = read_split(&cut, split, Some(&Offset(offset.to_owned())), 1).err().unwrap();
        assert!(error.to_string().contains(words), "{offset}: {error}");
    }
    // The lane has ended, and its next block would lie behind the file.
    let rest = read_split(&cut, split, Some(&Offset("400/16".to_owned())), 1);
    assert_eq!(rest.unwrap().rows.num_rows(), 0);
}

#[test]
fn what_is_compressed_is_not_cut() {
    let both = Both::new(b"", 16, 4);
    put(both.folder.path(), "b.csv.gz", gzip("1,a\n".repeat(100).as_bytes()));
    let path = FileSource::new(both.folder.path().join("b.csv.gz"));
    let source = path.csv(numbers()).with_cut(Cut { lane_bytes_min: 1, block_bytes: 16 });
    assert_eq!(source.splits().unwrap().len(), 1);
}

#[test]
fn progress_of_lanes_ends_where_the_file_does() {
    let text = "1,some text\n".repeat(100);
    let both = Both::new(text.as_bytes(), 64, 4);
    let cut = both.source(false, true);
    let ends = cut.splits().unwrap().into_iter().map(|split| {
        let mut reader = cut.open(&split, None, &context()).unwrap();
        while !matches!(reader.read(10).unwrap(), Read::End) {}
        let (read, size) = reader.progress().unwrap();
        assert_eq!(read, size);
        size
    });
    assert_eq!(ends.sum::<u64>(), text.len() as u64);
}

#[test]
fn a_line_of_many_blocks_is_of_the_one_it_begins_in() {
    let long = format!("{{\"n\":2,\"s\":\"{}\"}}\n", "x".repeat(1_000));
    let text = format!("{{\"n\":1}}\n{long}{{\"n\":3}}\n");
    let both = Both::new(text.as_bytes(), 16, 4);
    both.check(true, 5);
    let lanes = read_all(&both.source(true, true));
    let rows: Vec<_> = lanes.iter().map(|lane| lane.rows.num_rows()).collect();
    assert_eq!(rows.iter().sum::<usize>(), 3);
}

#[test]
fn what_has_been_added_to_a_file_since_the_checkpoint_is_read_by_its_lanes() {
    for (is_json, first, last) in [(false, "1,a\n", "2,b\n"), (true, "{\"n\":1}\n", "{\"n\":2}\n")]
    {
        let both = Both::new(first.repeat(30).as_bytes(), 64, 2);
        let cut = both.source(is_json, true);
        let splits = cut.splits().unwrap();
        let ends: Vec<_> = splits
            .iter()
            .map(|split| read_split(&cut, split, None, 7).unwrap().offsets.pop().unwrap().1)
            .collect();
        put(both.folder.path(), "a", first.repeat(30) + &last.repeat(30));
        let cut = both.source(is_json, true);
        assert_eq!(cut.splits_again(&splits).unwrap(), splits);
        let more = splits.iter().zip(&ends).map(|(split, end)| {
            let more = read_split(&cut, split, Some(end), 7).unwrap();
            assert!(more.records.iter().all(|(_, record)| record == last.trim_end()));
            more.rows.num_rows()
        });
        assert_eq!(more.sum::<usize>(), 30);
    }
}

#[test]
fn nothing_is_known_any_more_of_a_file_that_a_job_before_has_read() {
    let both = Both::new("1,a\n".repeat(100).as_bytes(), 16, 4);
    let cut = both.source(false, true);
    read_all(&cut);
    let quoted = "\"1\",\"b\nb\"\n".repeat(40);
    put(both.folder.path(), "a", quoted);
    let rows = read_all(&cut).iter().map(|lane| lane.rows.num_rows()).sum::<usize>();
    assert_eq!(rows, 40);
}
