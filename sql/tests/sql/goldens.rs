//! `jobs/*.sql` become the graphs beside them, `bad/*.sql` the errors beside them. Run with
//! `TIDEMILL_BLESS=1` to write what is there now, and read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{plan, render};

fn compare(folder: &str, extension: &str, of: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let found = of(&fs::read_to_string(&file).unwrap());
        let golden = file.with_extension(extension);
        if std::env::var_os("TIDEMILL_BLESS").is_some() {
            fs::write(&golden, found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}:\n{found}\ninstead of\n{expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn jobs_become_their_graphs() {
    compare("jobs", "graph", |text| match plan(text) {
        Ok(job) => {
            job.graph.validate().unwrap();
            render(&job)
        }
        Err(errors) => format!("{errors}"),
    });
}

#[test]
fn bad_jobs_are_refused_with_their_errors() {
    compare("bad", "errors", |text| match plan(text) {
        Ok(_) => "it was accepted\n".to_owned(),
        Err(errors) => format!("{errors}"),
    });
}
