//! The book and the README: every SQL block is planned, every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidemill::core::table::ConnectorFactory;
use tidemill::sql::{Registry, plan};

/// The README, the architecture and all pages of the book.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 10, "the book was found");
    pages
}

/// Fenced blocks: the line they start at, what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(usize, String, String)> {
    let mut blocks: Vec<(usize, String, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(info) => {
                inside = true;
                blocks.push((number + 1, info.trim().to_owned(), String::new()));
            }
            None if inside => {
                let (_, _, text) = blocks.last_mut().unwrap();
                *text += line;
                text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

#[test]
fn every_sql_block_is_a_job_file_that_can_be_planned() {
    let connectors: Vec<std::sync::Arc<dyn ConnectorFactory>> = tidemill::cli::connectors();
    let registry = Registry::new(connectors);
    let (mut planned, mut wrong) = (0, String::new());
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for (line, _, text) in blocks(&page).into_iter().filter(|(_, info, _)| info == "sql") {
            let name = format!("{} from line {line}", path.display());
            match plan(&name, &text, &|_| None, &registry) {
                Ok(_) => planned += 1,
                Err(errors) => wrong += &errors.to_string(),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(planned > 5, "only {planned} blocks of SQL were found");
}

#[test]
fn the_example_jobs_can_be_planned() {
    let registry = Registry::new(tidemill::cli::connectors());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/jobs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(errors) = plan(&path.display().to_string(), &text, &|_| None, &registry) {
            panic!("{errors}");
        }
    }
}

/// `[text](target)`, outside of code.
fn links(page: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut inside = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            let outside_code = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            prose += &outside_code;
            prose.push('\n');
        }
    }
    let ends = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors that headings get.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading_that_exist() {
    let mut broken = Vec::new();
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for link in links(&page).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_summary_names_every_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let named: BTreeSet<PathBuf> = links(&summary).iter().map(|link| docs.join(link)).collect();
    for page in pages().into_iter().filter(|page| page.starts_with(&docs)) {
        assert!(page.ends_with("SUMMARY.md") || named.contains(&page), "{}", page.display());
    }
}
