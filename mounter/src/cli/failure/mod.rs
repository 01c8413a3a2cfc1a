//! Every error a user can see: what failed, why, what to do next, and the exit code.
//!
//! The `From` implementations in `from.rs` are the complete list of how a library error reaches the user.

pub(super) mod from;

use std::fmt;

/// The kind of a failure; it alone decides the exit code.
///
/// Codes 102 to 109 are those that the package launchers use for the same thing, so that scripts written for
/// `./app.psp` understand `slotfs run app.psp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// 1: a check the user asked for came out negative.
    Negative,
    /// 2: the command line is wrong.
    Usage,
    /// 102: not a package, or a damaged one.
    Format,
    /// 103: mounting or extracting failed.
    Mount,
    /// 104: a setup command or the program could not be run.
    Execution,
    /// 106: the disk refused.
    Disk,
    /// 107: a checksum, digest or signature is wrong, or trust is refused.
    Verification,
    /// 109: a setting or policy file is wrong.
    Configuration,
    /// 110: something is in use.
    Busy,
    /// 111: there is no such environment or mount.
    NotFound,
    /// 112: this machine cannot do it (no FUSE, for example).
    Unavailable,
}

impl FailureKind {
    /// Every kind, in the order of exit codes.
    pub const ALL: [Self; 11] = [
        Self::Negative,
        Self::Usage,
        Self::Format,
        Self::Mount,
        Self::Execution,
        Self::Disk,
        Self::Verification,
        Self::Configuration,
        Self::Busy,
        Self::NotFound,
        Self::Unavailable,
    ];

    /// Returns the process's exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Format => 102,
            Self::Mount => 103,
            Self::Execution => 104,
            Self::Disk => 106,
            Self::Verification => 107,
            Self::Configuration => 109,
            Self::Busy => 110,
            Self::NotFound => 111,
            Self::Unavailable => 112,
        }
    }

    /// Returns what the code means, for help, man page and documentation.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Negative => "a check that was asked for came out negative",
            Self::Usage => "the command line is wrong",
            Self::Format => "not a package, or a damaged one",
            Self::Mount => "mounting or extracting failed",
            Self::Execution => "a setup command or the program could not be run",
            Self::Disk => "the disk refused (full, read-only, no permission)",
            Self::Verification => "a checksum, digest or signature is wrong, or trust is refused",
            Self::Configuration => "a setting or policy file is wrong",
            Self::Busy => "something is in use",
            Self::NotFound => "there is no such package, environment or mount",
            Self::Unavailable => "this machine cannot do it (no FUSE, for example)",
        }
    }
}

/// An error as the user sees it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: FailureKind,
    /// What failed, on which path, and why; no full stop.
    pub message: String,
    /// What to do next, a sentence each.
    pub hints: Vec<String>,
}

impl Failure {
    /// Returns a failure without hints.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Adds a sentence that says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
