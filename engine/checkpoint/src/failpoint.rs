//! Where tests make the protocol fail: one point in every phase of a checkpoint.
//!
//! With the crate feature `failpoints`, the variable `FAILPOINTS` says what happens at a point, in
//! the notation of the crate `fail`, points separated by `;`:
//!
//! ```text
//! FAILPOINTS='checkpoint::before_publish=2*off->return(abort)'
//! ```
//!
//! | action | what happens |
//! |---|---|
//! | `return(text)` | the phase fails with an external error that carries the text |
//! | `return(abort)` | the process aborts, as if killed |
//! | `pause` | the phase stalls until the point is configured anew |
//! | `sleep(ms)` | the phase is slow |
//! | `2*off->…` | the first two times nothing happens |
//!
//! Without the feature the points are compiled out. The names are those of [`Point::name`].

use tidemill_core::error::Result;

/// A phase of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// An epoch is about to start: no barrier has been sent. Hit by the runtime.
    BeforeBarrier,
    /// A state file is about to be written.
    WriteState,
    /// Staged output is about to be written.
    WriteStaged,
    /// All files of the epoch are durable; there is no manifest.
    BeforePublish,
    /// The manifest is in a temporary file (file systems only). Passed at a run's start too, which
    /// takes its number in the same way.
    AfterTemp,
    /// The manifest has its name, which the disk may not know yet (file systems only). Passed at a
    /// run's start too.
    AfterRename,
    /// The epoch exists. Nobody outside knows.
    AfterPublish,
    /// A sink is about to commit. Hit by the runtime.
    BeforeCommit,
    /// A sink has committed. Hit by the runtime.
    AfterCommit,
    /// Old checkpoints are about to be deleted.
    Retain,
    /// A state file is about to be read.
    ReadState,
}

impl Point {
    /// Every point, in the order of a checkpoint's life.
    pub const ALL: [Self; 11] = [
        Self::BeforeBarrier,
        Self::WriteState,
        Self::WriteStaged,
        Self::BeforePublish,
        Self::AfterTemp,
        Self::AfterRename,
        Self::AfterPublish,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::Retain,
        Self::ReadState,
    ];

    /// The name by which `FAILPOINTS` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeBarrier => "checkpoint::before_barrier",
            Self::WriteState => "checkpoint::write_state",
            Self::WriteStaged => "checkpoint::write_staged",
            Self::BeforePublish => "checkpoint::before_publish",
            Self::AfterTemp => "checkpoint::after_temp",
            Self::AfterRename => "checkpoint::after_rename",
            Self::AfterPublish => "checkpoint::after_publish",
            Self::BeforeCommit => "checkpoint::before_commit",
            Self::AfterCommit => "checkpoint::after_commit",
            Self::Retain => "checkpoint::retain",
            Self::ReadState => "checkpoint::read_state",
        }
    }
}

/// Passes a point: does what `FAILPOINTS` says, or nothing.
///
/// # Errors
/// An external error where the variable asks for one.
#[cfg(feature = "failpoints")]
pub fn hit(point: Point) -> Result<()> {
    configure_from_environment();
    fail::fail_point!(point.name(), |argument| {
        let argument = argument.unwrap_or_default();
        if argument == "abort" {
            std::process::abort();
        }
        Err(tidemill_core::Error::external(format!("failpoint {}: {argument}", point.name())))
    });
    Ok(())
}

/// Passes a point: without the feature `failpoints` nothing happens.
///
/// # Errors
/// None.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_: Point) -> Result<()> {
    Ok(())
}

/// Reads the variable once. A mistake in it must not pass for a test that found nothing.
#[cfg(feature = "failpoints")]
fn configure_from_environment() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let variable = std::env::var("FAILPOINTS").unwrap_or_default();
        for setting in variable.split(';').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (name, actions) = setting.split_once('=').unwrap_or((setting, ""));
            let known = Point::ALL.iter().any(|point| point.name() == name);
            assert!(known, "FAILPOINTS names an unknown point: {name}");
            if let Err(reason) = fail::cfg(name, actions) {
                panic!("FAILPOINTS: {setting}: {reason}");
            }
        }
    });
}
