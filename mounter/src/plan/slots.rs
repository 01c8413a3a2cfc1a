//! Which slots are mounted when, who may write over them, and what becomes of that.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use slotfs_fs::package::{Package, Slot};
use slotfs_policy::access::{self, Access, AccessError, SlotAccess, SlotFacts};
use slotfs_policy::lifecycle::{Circumstances, Lifecycle, Moment, Phase, Prefetch, Presence, Reading, Rules};
use slotfs_policy::platform::{self, Platform};

use crate::host::files::path_from_bytes;

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `--ro` or `--rw`.
    pub access: Option<Access>,
    /// Each `--slot NAME=ro|rw`.
    pub slots: Vec<SlotAccess>,
    /// Slots for development stay away.
    pub production: bool,
}

/// What is to be done with one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPlan {
    /// Its position in the package.
    pub position: u32,
    /// Its id.
    pub id: String,
    /// What its lifecycle is taken for.
    pub lifecycle: Lifecycle,
    /// Whether setup commands see it.
    pub in_setup: bool,
    /// Whether the program sees it.
    pub in_run: bool,
    /// Why the program does not see it.
    pub absence: Option<String>,
    /// Whether it may be written over.
    pub writable: bool,
    /// Whether its content is fetched before anything asks for it.
    pub prefetch: bool,
    /// What follows from the lifecycle.
    pub rules: Rules,
    /// A sentence for the user about the lifecycle's name, where nobody knows it.
    pub note: Option<String>,
}

impl SlotPlan {
    /// Tells whether what is written over the slot goes at `moment`.
    #[must_use]
    pub fn drops_writes_at(&self, moment: Moment) -> bool {
        self.rules.drops_writes_at(moment)
    }
}

/// Returns this machine's platform.
#[must_use]
pub fn machine() -> Platform {
    Platform::of_machine(std::env::consts::OS, std::env::consts::ARCH)
}

/// Plans every slot of `package` on `machine`, in the package's order.
///
/// # Errors
/// A wish names no slot, contradicts another one, or asks to write what can only be read.
pub fn slots(package: &Package, wishes: &Wishes, machine: Platform) -> Result<Vec<SlotPlan>, AccessError> {
    let slots = package.slots();
    let readings: Vec<Reading> = slots.iter().map(reading).collect();
    let facts: Vec<SlotFacts<'_>> = slots
        .iter()
        .zip(&readings)
        .map(|(slot, reading)| SlotFacts { id: &slot.id, writable: reading.lifecycle.rules().writable })
        .collect();
    let accesses = access::decide(&facts, wishes.access, &wishes.slots)?;
    let planned = slots.iter().zip(readings).zip(accesses);
    Ok(planned.map(|((slot, reading), access)| plan(slot, reading, access, wishes, machine)).collect())
}

/// Returns the top-level names below which an upgrade of the package keeps what was written: the user's own
/// directories, and those of `persistent` slots. Of `config` slots only what the user has changed is kept.
#[must_use]
pub fn kept_on_upgrade(package: &Package, plans: &[SlotPlan]) -> BTreeSet<OsString> {
    let directories = package.metadata().workenv.iter().flat_map(|section| &section.directories);
    let own = directories.filter_map(|directory| {
        let below = directory.path.strip_prefix("{workenv}").unwrap_or(&directory.path);
        let first = below.split('/').find(|part| !part.is_empty() && *part != ".")?;
        // What is temporary is nobody's to keep.
        (first != "tmp" && first != "..").then(|| OsString::from(first))
    });
    let kept = plans.iter().filter(|plan| plan.lifecycle == Lifecycle::Persistent);
    let targets = kept.filter_map(|plan| {
        let slot = package.slot(plan.position)?;
        slot.target.first().map(|name| PathBuf::into_os_string(path_from_bytes(name.clone())))
    });
    own.chain(targets).collect()
}

fn plan(slot: &Slot, reading: Reading, access: Access, wishes: &Wishes, machine: Platform) -> SlotPlan {
    let rules = reading.lifecycle.rules();
    let wanted = wanted_platform(slot, reading.lifecycle);
    let presence = |phase| {
        let circumstances = Circumstances {
            phase,
            production: wishes.production,
            platform_matches: wanted.belongs_on(&machine),
        };
        rules.presence(&circumstances)
    };
    let in_run = presence(Phase::Run);
    SlotPlan {
        position: slot.position,
        id: slot.id.clone(),
        lifecycle: reading.lifecycle,
        in_setup: presence(Phase::Setup) == Presence::Mounted,
        in_run: in_run == Presence::Mounted,
        absence: match in_run {
            Presence::Mounted => None,
            Presence::Absent(absence) => Some(absence.to_string()),
        },
        writable: access == Access::ReadWrite,
        prefetch: rules.prefetch == Prefetch::Eager,
        rules,
        note: reading.note(&slot.lifecycle),
    }
}

/// The attestation is known by its descriptor alone where a builder gave it an ordinary name.
fn reading(slot: &Slot) -> Reading {
    let named = Lifecycle::from_name(&slot.lifecycle);
    match Lifecycle::from_code(slot.lifecycle_code) {
        Some(Lifecycle::Attestation) => Reading { lifecycle: Lifecycle::Attestation, known: true },
        _ => named,
    }
}

fn wanted_platform(slot: &Slot, lifecycle: Lifecycle) -> Platform {
    let named = Platform::from_name(&slot.platform).filter(|platform| *platform != Platform::ANY);
    named.unwrap_or_else(|| platform::of_slot(slot.platform_code, &slot.id, lifecycle == Lifecycle::Platform))
}
