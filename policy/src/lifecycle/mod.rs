//! What each slot lifecycle means: when the slot is mounted, how long what is written over it stays.
//!
//! Launchers take these words as hints: they unpack every slot at the first start and honour only `init`.
//! slotfs gives each word the effect that the format's documentation promises.

use std::fmt;

/// How long a slot is there and what becomes of what is written over it.
///
/// | lifecycle | setup | run | prefetch | writes | beyond that |
/// |---|---|---|---|---|---|
/// | `persistent` | mounted | mounted | normal | kept | |
/// | `runtime` | mounted | mounted | normal | kept | the default; also every unknown name |
/// | `eager` | mounted | mounted | first | kept | |
/// | `lazy` | mounted | mounted | never | kept | |
/// | `volatile` | mounted | mounted | normal | dropped at exit | |
/// | `temporary` | mounted | mounted | normal | dropped at exit | content never kept in the store |
/// | `cached` | mounted | mounted | normal | kept until a clean | |
/// | `init` | mounted | absent | normal | dropped after setup | |
/// | `startup` | mounted | mounted | first | dropped at the next start | every start sees the package's content |
/// | `shutdown` | mounted | mounted | never | kept | stays until the very end of the session |
/// | `dev` | mounted | mounted | normal | kept | absent when production mode is asked for |
/// | `config` | mounted | mounted | normal | kept | files the user changed survive a package upgrade |
/// | `platform` | mounted | mounted | normal | kept | absent where its platform does not match |
/// | `attestation` | mounted | mounted | never | none: read-only | the file `_attestation` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// First run only, then gone. Code 0.
    Init,
    /// Fresh at every start. Code 1.
    Startup,
    /// There while the program runs; the default. Code 2.
    Runtime,
    /// Needed last. Code 3.
    Shutdown,
    /// Can be made again. Code 4.
    Cached,
    /// Gone when the session ends, from the store too. Code 5.
    Temporary,
    /// Loaded when touched. Code 6.
    Lazy,
    /// Loaded first. Code 7.
    Eager,
    /// For development only. Code 8.
    Dev,
    /// Files the user may edit. Code 9.
    Config,
    /// For one platform only. Code 10.
    Platform,
    /// What the builder says about the package. Code 11.
    Attestation,
    /// Stays with everything written over it. Without a code: only a name.
    Persistent,
    /// Stays, but forgets at exit what was written over it. Without a code: only a name.
    Volatile,
}

/// When a slot's content is fetched ahead of its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// Before everything else.
    Eager,
    /// As a profile of earlier starts says, at low priority.
    Normal,
    /// Only when it is touched.
    Never,
}

/// When writes over a slot are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They stay until the work environment is removed or reset.
    Kept,
    /// They go when setup is done.
    DroppedAfterSetup,
    /// They go when the last user of the mount goes.
    DroppedAtExit,
    /// They are there until the next start, which begins without them.
    DroppedAtNextStart,
    /// They stay until a clean.
    DroppedByClean,
}

/// A moment in a work environment's life at which writes may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Setup commands have succeeded.
    SetupDone,
    /// The last user of the mount has gone.
    Exit,
    /// A mount is about to be made; also after a crash, when `Exit` never came.
    Start,
    /// The user asked for a clean.
    Clean,
}

/// What a slot is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The package's setup commands.
    Setup,
    /// The program.
    Run,
}

/// What follows from a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether setup commands see the slot.
    pub in_setup: bool,
    /// Whether the program sees the slot.
    pub in_run: bool,
    /// When its content is fetched ahead.
    pub prefetch: Prefetch,
    /// When writes over it are dropped.
    pub writes: Writes,
    /// Whether it can be written over at all.
    pub writable: bool,
    /// Whether its decoded content may stay in the shared store after the session.
    pub keep_in_store: bool,
    /// Whether files that the user changed are kept, and unchanged ones replaced, when the package is upgraded.
    pub keep_modified_on_upgrade: bool,
    /// Whether it is there only where its platform matches.
    pub only_on_matching_platform: bool,
    /// Whether it is absent when production mode is asked for.
    pub only_in_development: bool,
}

/// What is known about the circumstances when slots are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// What the slots are wanted for.
    pub phase: Phase,
    /// Whether production mode was asked for.
    pub production: bool,
    /// Whether the slot's platform is this machine's (also when it names none).
    pub platform_matches: bool,
}

/// Whether a slot is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is mounted.
    Mounted,
    /// It is not, for this reason.
    Absent(Absence),
}

/// Why a slot is not mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It exists for setup only, and setup is done.
    SetupIsDone,
    /// It belongs to another platform.
    OtherPlatform,
    /// It is for development, and production mode was asked for.
    Production,
}

impl fmt::Display for Absence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SetupIsDone => "it exists for setup only",
            Self::OtherPlatform => "it belongs to another platform",
            Self::Production => "it is for development only",
        })
    }
}

/// A lifecycle as read from a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The lifecycle meant, or `Runtime` in place of an unknown name, as the native builders have it.
    pub lifecycle: Lifecycle,
    /// Whether the name is one of either vocabulary.
    pub known: bool,
}

impl Reading {
    /// Returns the sentence to show for a name nobody knows.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<String> {
        (!self.known).then(|| format!("unknown lifecycle `{name}` is treated as `{}`", self.lifecycle.name()))
    }
}

impl Lifecycle {
    /// Every lifecycle, in the order of codes; names without a code last.
    pub const ALL: [Self; 14] = [
        Self::Init,
        Self::Startup,
        Self::Runtime,
        Self::Shutdown,
        Self::Cached,
        Self::Temporary,
        Self::Lazy,
        Self::Eager,
        Self::Dev,
        Self::Config,
        Self::Platform,
        Self::Attestation,
        Self::Persistent,
        Self::Volatile,
    ];

    /// Reads a name of either vocabulary. Names are exact, as they are for the builders; an empty name means the
    /// default.
    #[must_use]
    pub fn from_name(name: &str) -> Reading {
        let lifecycle = match name {
            "init" | "init-only" | "install" => Self::Init,
            "startup" => Self::Startup,
            "runtime" | "" => Self::Runtime,
            "shutdown" => Self::Shutdown,
            "cache" | "cached" => Self::Cached,
            "temporary" | "temp" | "ephemeral" => Self::Temporary,
            "lazy" => Self::Lazy,
            "eager" => Self::Eager,
            "dev" | "development" => Self::Dev,
            "config" => Self::Config,
            "platform" => Self::Platform,
            "attestation" => Self::Attestation,
            "persistent" => Self::Persistent,
            "volatile" => Self::Volatile,
            _ => return Reading { lifecycle: Self::Runtime, known: false },
        };
        Reading { lifecycle, known: true }
    }

    /// Reads the code of a slot descriptor (offset 57); `None` for a code the format does not define.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lifecycle| lifecycle.code() == Some(code))
    }

    /// Returns the code in a slot descriptor; `persistent` and `volatile` have none.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Init => Some(0),
            Self::Startup => Some(1),
            Self::Runtime => Some(2),
            Self::Shutdown => Some(3),
            Self::Cached => Some(4),
            Self::Temporary => Some(5),
            Self::Lazy => Some(6),
            Self::Eager => Some(7),
            Self::Dev => Some(8),
            Self::Config => Some(9),
            Self::Platform => Some(10),
            Self::Attestation => Some(11),
            Self::Persistent | Self::Volatile => None,
        }
    }

    /// Returns the name that slotfs shows, whichever was used.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Startup => "startup",
            Self::Runtime => "runtime",
            Self::Shutdown => "shutdown",
            Self::Cached => "cached",
            Self::Temporary => "temporary",
            Self::Lazy => "lazy",
            Self::Eager => "eager",
            Self::Dev => "dev",
            Self::Config => "config",
            Self::Platform => "platform",
            Self::Attestation => "attestation",
            Self::Persistent => "persistent",
            Self::Volatile => "volatile",
        }
    }

    /// Returns what follows from the lifecycle.
    #[must_use]
    pub fn rules(self) -> Rules {
        let plain = Rules {
            in_setup: true,
            in_run: true,
            prefetch: Prefetch::Normal,
            writes: Writes::Kept,
            writable: true,
            keep_in_store: true,
            keep_modified_on_upgrade: false,
            only_on_matching_platform: false,
            only_in_development: false,
        };
        match self {
            Self::Persistent | Self::Runtime => plain,
            Self::Eager => Rules { prefetch: Prefetch::Eager, ..plain },
            Self::Lazy | Self::Shutdown => Rules { prefetch: Prefetch::Never, ..plain },
            Self::Volatile => Rules { writes: Writes::DroppedAtExit, ..plain },
            Self::Temporary => Rules { writes: Writes::DroppedAtExit, keep_in_store: false, ..plain },
            Self::Cached => Rules { writes: Writes::DroppedByClean, ..plain },
            Self::Init => Rules { in_run: false, writes: Writes::DroppedAfterSetup, ..plain },
            Self::Startup => Rules { prefetch: Prefetch::Eager, writes: Writes::DroppedAtNextStart, ..plain },
            Self::Dev => Rules { only_in_development: true, ..plain },
            Self::Config => Rules { keep_modified_on_upgrade: true, ..plain },
            Self::Platform => Rules { only_on_matching_platform: true, ..plain },
            Self::Attestation => Rules { prefetch: Prefetch::Never, writable: false, ..plain },
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Rules {
    /// Decides whether a slot with these rules is mounted.
    #[must_use]
    pub fn presence(&self, circumstances: &Circumstances) -> Presence {
        let wanted = match circumstances.phase {
            Phase::Setup => self.in_setup,
            Phase::Run => self.in_run,
        };
        // The platform comes first: it is what the user can do something about.
        if self.only_on_matching_platform && !circumstances.platform_matches {
            Presence::Absent(Absence::OtherPlatform)
        } else if self.only_in_development && circumstances.production {
            Presence::Absent(Absence::Production)
        } else if !wanted {
            Presence::Absent(Absence::SetupIsDone)
        } else {
            Presence::Mounted
        }
    }

    /// Decides whether writes over a slot with these rules go at `moment`. What should have gone earlier, had the
    /// session not been killed, goes at every later moment too.
    #[must_use]
    pub fn drops_writes_at(&self, moment: Moment) -> bool {
        match self.writes {
            Writes::Kept => false,
            Writes::DroppedByClean => moment == Moment::Clean,
            Writes::DroppedAtNextStart => matches!(moment, Moment::Start | Moment::Clean),
            Writes::DroppedAtExit => matches!(moment, Moment::Exit | Moment::Start | Moment::Clean),
            Writes::DroppedAfterSetup => true,
        }
    }
}

#[cfg(test)]
mod tests;
