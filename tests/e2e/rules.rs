//! Who may import whom, as DESIGN says it: normal dependencies, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// For each crate of the workspace by folder: the names of its normal dependencies.
fn imports() -> Imports {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let mut imports = Imports::from([(String::new(), dependencies(&manifest))]);
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    for folder in members.split('"').skip(1).step_by(2) {
        let manifest = std::fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
        imports.insert(folder.to_owned(), dependencies(&manifest));
    }
    imports
}

/// The keys of `[dependencies]`, and of `[target.….dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').filter(|_| !line.contains('=')) {
            let section = section.trim_end_matches(']');
            inside = section == "dependencies"
                || (section.starts_with("target.") && section.ends_with(".dependencies"));
            assert!(!section.contains("dependencies."), "write {line} as an inline table");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().split('.').next().unwrap().to_owned());
        }
    }
    names
}

/// What the crate in a folder may import of the workspace.
fn allowed(folder: &str) -> &'static [&'static str] {
    match folder {
        "engine/core" | "tools/devdeps" | "tools/registry" => &[],
        "engine/runtime" => &["tidemill-core", "tidemill-checkpoint"],
        "sql" => &["tidemill-core", "tidemill-operators"],
        "connectors/formats" => &["tidemill-core"],
        "connectors/bus" => {
            &["tidemill-core", "tidemill-formats", "tidemill-kafka", "tidemill-redis"]
        }
        _ if folder.starts_with("connectors/") => &["tidemill-core", "tidemill-formats"],
        "engine/checkpoint" | "operators" | "server" => &["tidemill-core"],
        // What is counted is what a shard's thread calls for every row, below the runtime.
        "benches/instructions" => {
            &["tidemill-core", "tidemill-formats", "tidemill-generator", "tidemill-operators"]
        }
        _ => panic!("the new crate {folder} needs a rule here, and in DESIGN"),
    }
}

#[test]
fn crates_import_only_what_their_layer_may_know() {
    for (folder, imports) in imports().into_iter().filter(|(folder, _)| !folder.is_empty()) {
        for name in imports.iter().filter(|name| name.starts_with("tidemill")) {
            let known = allowed(&folder);
            assert!(known.contains(&name.as_str()), "{folder} must not import {name}: {known:?}");
        }
    }
}

#[test]
fn the_contracts_know_no_executor_no_query_engine_and_no_io() {
    let forbidden = |name: &&String| {
        let names = ["tokio", "object_store", "axum", "futures", "parquet", "fail", "tempfile"];
        name.starts_with("datafusion") || names.contains(&name.as_str())
    };
    let imports = imports();
    assert_eq!(imports["engine/core"].iter().find(forbidden), None);
    assert!(imports["engine/core"].contains("arrow"), "the manifest was read");
}

#[test]
fn the_facade_imports_every_layer() {
    let imports = imports();
    let beside = |folder: &String| folder.starts_with("tools/") || folder.starts_with("benches/");
    let layers = |folder: &&String| !folder.is_empty() && !beside(folder);
    for folder in imports.keys().filter(layers) {
        let name = format!("tidemill-{}", folder.rsplit('/').next().unwrap());
        assert!(imports[""].contains(&name), "the root package does not import {name}");
    }
}
