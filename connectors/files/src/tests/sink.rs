use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::task::Poll;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use tidemill_core::ErrorKind;
use tidemill_core::sink::{Delivery, Sink, SinkContext, SinkWriter, Staged};
use tidemill_core::testing;

use super::*;
use crate::{FileSink, FileSource};

fn numbers() -> SchemaRef {
    schema(&[("n", DataType::Int64), ("s", DataType::Utf8View)])
}

fn rows(numbers_in: &[i64]) -> RecordBatch {
    let text: StringViewArray =
        numbers_in.iter().map(|n| Some(format!("row, {}", n % 2))).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(numbers_in.to_vec())), Arc::new(text)];
    RecordBatch::try_new(numbers(), columns).unwrap()
}

fn sink_context(job: &str, shard: usize, first_epoch: u64) -> SinkContext {
    SinkContext { job: job.into(), ..testing::sink_context(shard, first_epoch, numbers()) }
}

fn stage(writer: &mut dyn SinkWriter, epoch: u64) -> Staged {
    match writer.poll_stage(epoch).unwrap() {
        Poll::Ready(staged) => staged,
        Poll::Pending => panic!("files are staged at once"),
    }
}

fn commit(sink: &FileSink, epoch: u64, staged: &[Staged]) -> tidemill_core::Result<()> {
    sink.committer(&sink_context("job", 0, 1))?.commit(epoch, staged)
}

/// Visible files with their content, by their path in the folder.
fn visible(folder: &Path) -> BTreeMap<String, String> {
    let Ok(splits) = FileSource::new(folder).raw(schema(&[("line", DataType::Utf8View)])).splits()
    else {
        return BTreeMap::new();
    };
    let read = |name: &SplitId| {
        let content = fs::read(folder.join(name.as_str())).unwrap();
        (name.to_string(), String::from_utf8_lossy(&content).into_owned())
    };
    splits.iter().map(read).collect()
}

fn hidden(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".inprogress")).count()
}

#[test]
fn files_appear_with_their_commit_and_committing_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::new(folder.path().join("out")).csv().with_header();
    let folder = folder.path().join("out");
    let mut writer = sink.writer(&sink_context("job", 3, 1)).unwrap();
    assert_eq!(stage(writer.as_mut(), 1), Staged::default(), "no empty part files");
    writer.write(&rows(&[1, 2]).into()).unwrap();
    writer.write(&rows(&[3]).into()).unwrap();
    let staged = [stage(writer.as_mut(), 2), Staged::default()];
    writer.write(&rows(&[4]).into()).unwrap();
    assert!(visible(&folder).is_empty());
    for _ in 0..2 {
        commit(&sink, 2, &staged).unwrap();
        let files = visible(&folder);
        assert_eq!(files.len(), 1);
        let text = "n,s\n1,\"row, 1\"\n2,\"row, 0\"\n3,\"row, 1\"\n";
        assert_eq!(files["part-job-3-0000000002.csv"], text);
    }
    fs::remove_file(folder.join("part-job-3-0000000002.csv")).unwrap();
    let error = commit(&sink, 2, &staged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let damaged = [Staged(b"{".to_vec())];
    assert_eq!(commit(&sink, 2, &damaged).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(sink.guarantee(true).delivery, Delivery::ExactlyOnce);
    assert_eq!(sink.guarantee(false).delivery, Delivery::AtLeastOnce);
}

/// One run: writes `epochs` and commits them; the last is staged, its commit left to the restart.
fn run(folder: &Path, first_epoch: u64, epochs: u64, rows_of: impl Fn(u64) -> i64) -> Staged {
    let sink = FileSink::new(folder);
    let mut writer = sink.writer(&sink_context("job", 0, first_epoch)).unwrap();
    let mut last = Staged::default();
    for epoch in first_epoch..first_epoch + epochs {
        commit(&sink, epoch - 1, &[std::mem::take(&mut last)]).unwrap();
        writer.write(&rows(&[rows_of(epoch)]).into()).unwrap();
        last = stage(writer.as_mut(), epoch);
    }
    writer.write(&rows(&[-1]).into()).unwrap();
    last
}

fn numbers_in(folder: &Path) -> Vec<i64> {
    let source = FileSource::new(folder).json(numbers());
    let mut all = Vec::new();
    for read in read_all(&source) {
        let column = read.rows.column(0).clone();
        let column = column.as_any().downcast_ref::<Int64Array>().unwrap();
        all.extend(column.values());
    }
    all.sort_unstable();
    all
}

#[test]
fn a_crash_leaves_nothing_behind_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let staged = run(folder, 1, 3, |epoch| epoch as i64);
    assert_eq!(hidden(folder), 2, "epoch 3 is staged, epoch 4 was being written");
    // Restored from epoch 3: its commit comes first, or after the writers; both must work.
    let sink = FileSink::new(folder);
    let mut writer = sink.writer(&sink_context("job", 1, 4)).unwrap();
    assert_eq!(hidden(folder), 1, "what epoch 4 had written is gone, what epoch 3 staged is not");
    commit(&sink, 3, &[staged]).unwrap();
    writer.write(&rows(&[4]).into()).unwrap();
    let four = stage(writer.as_mut(), 4);
    commit(&sink, 4, &[four]).unwrap();
    assert_eq!(numbers_in(folder), [1, 2, 3, 4]);
    drop(writer);

    // The checkpoint of epoch 4 turns out to be damaged: back to 3, and 4 is written again.
    let staged_again = run(folder, 4, 1, |_| 40);
    commit(&FileSink::new(folder), 4, &[staged_again]).unwrap();
    assert_eq!(numbers_in(folder), [1, 2, 3, 40]);
}

#[test]
fn another_job_and_another_run_do_not_collide() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let first = run(folder, 1, 1, |_| 1);
    commit(&FileSink::new(folder), 1, &[first]).unwrap();
    let again = run(folder, 1, 2, |epoch| 10 * epoch as i64);
    commit(&FileSink::new(folder), 2, &[again]).unwrap();
    assert_eq!(numbers_in(folder), [1, 10, 20], "a fresh run adds to what is there");
    let names: Vec<_> = visible(folder).into_keys().collect();
    assert_eq!(names[1], "part-job~2-0-0000000001.json");
    // The second run goes on after epoch 1: only its own epoch 2 is written again.
    let resumed = run(folder, 2, 1, |_| 21);
    commit(&FileSink::new(folder), 2, &[resumed]).unwrap();
    assert_eq!(numbers_in(folder), [1, 10, 21]);

    // Two sinks of one job, open at the same moment.
    let (one, two) = (FileSink::new(folder), FileSink::new(folder));
    let mut writers = Vec::new();
    for sink in [&one, &two] {
        let mut writer = sink.writer(&sink_context("other", 0, 1)).unwrap();
        writer.write(&rows(&[5]).into()).unwrap();
        writers.push(writer);
    }
    let staged: Vec<_> = writers.iter_mut().map(|writer| stage(writer.as_mut(), 1)).collect();
    commit(&one, 1, &staged).unwrap();
    assert_eq!(numbers_in(folder), [1, 5, 5, 10, 21]);
}

#[test]
fn partitions_become_folders_and_read_back_as_columns() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sink = FileSink::new(folder).parquet().partitioned_by(vec![1]);
    let mut writer = sink.writer(&sink_context("job", 0, 1)).unwrap();
    writer.write(&rows(&[1, 2, 3]).into()).unwrap();
    writer.write(&rows(&[4]).into()).unwrap();
    let staged = [stage(writer.as_mut(), 1)];
    commit(&sink, 1, &staged).unwrap();
    commit(&sink, 1, &staged).unwrap();
    let names: Vec<_> = visible(folder).into_keys().collect();
    assert_eq!(
        names,
        ["s=row%2C 0/part-job-0-0000000001.parquet", "s=row%2C 1/part-job-0-0000000001-1.parquet"]
    );
    let stored = schema(&[("n", DataType::Int64)]);
    let read: Vec<_> = read_all(&FileSource::new(folder).parquet(stored));
    let counts: Vec<_> = read.iter().map(|read| read.rows.num_rows()).collect();
    assert_eq!(counts, [2, 2]);
}
