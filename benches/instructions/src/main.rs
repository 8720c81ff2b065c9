//! `instructions`: counts the kernels, compares the counts with the baseline, fails where they
//! differ. Started by `benches/instructions/run`, which builds it the way that is meant.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tidemill_core::{Error, Result};
use tidemill_instructions::baseline::Baseline;
use tidemill_instructions::callgrind::{self, RUN_KERNEL};
use tidemill_instructions::kernels::{self, KERNELS, Kernel, counted_region};

const BLESS: &str = "--bless";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [flag, name] if flag == RUN_KERNEL => run_kernel(name).map(|()| true),
        _ => check(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one kernel; callgrind looks on.
fn run_kernel(name: &str) -> Result<()> {
    let mut prepared = (kernels::named(name)?.prepare)()?;
    counted_region(&mut prepared.work)?;
    println!("{}", prepared.elements);
    Ok(())
}

/// Counts and compares, or blesses; whether all is as it was.
fn check(arguments: &[String]) -> Result<bool> {
    if cfg!(debug_assertions) {
        let message = "this build is not the one that is counted: use benches/instructions/run";
        return Err(Error::configuration(message));
    }
    let (flags, words): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| a.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| *flag != &BLESS) {
        return Err(Error::configuration(format!("{unknown} is not known: there is only {BLESS}")));
    }
    let chosen = choose(&words)?;
    let counts = count_all(&chosen)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut baseline = Baseline::read(&path)?;
    let report = baseline.report(&counts);
    print!("{}", report.text);
    if flags.is_empty() {
        return Ok(report.passed);
    }
    let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    baseline.bless(&counts, &known, &path)?;
    println!("\nThis is the baseline now.");
    Ok(true)
}

/// The kernels whose name contains one of these words; without words, all.
fn choose(words: &[&String]) -> Result<Vec<&'static Kernel>> {
    let wanted = |kernel: &&Kernel| {
        words.is_empty() || words.iter().any(|word| kernel.name.contains(word.as_str()))
    };
    let chosen: Vec<_> = KERNELS.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        let message = format!("no kernel's name contains that; there are: {}", names.join("; "));
        return Err(Error::configuration(message));
    }
    Ok(chosen)
}

/// Counts kernels, as many at a time as there are processors: counts do not depend on what else
/// the machine does.
fn count_all(kernels: &[&'static Kernel]) -> Result<Vec<(&'static str, f64)>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut counted = Vec::new();
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            counted.push((kernel.name, callgrind::per_element(kernel)?));
        }
        Ok(counted)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
    let counted: Result<Vec<Vec<_>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(Error::internal("counting has panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let counted: Vec<_> = counted?.into_iter().flatten().collect();
    let in_order = kernels
        .iter()
        .filter_map(|kernel| counted.iter().find(|(name, _)| *name == kernel.name).copied());
    Ok(in_order.collect())
}
