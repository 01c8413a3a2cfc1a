//! What `slotfs inspect` finds out; as JSON it is printed as it is.

use std::path::Path;

use serde::Serialize;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::{Container, Package, PackageKind, Slot};
use slotfs_fs::slot::index::{Identity, Index};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::notices;
use crate::cli::status::Status;
use crate::extract::layers;
use crate::plan::{self, KeyStores, SlotPlan, Wishes};
use crate::workenv::Cache;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) package: Option<PackageReport>,
    pub(super) environment: Option<Status>,
}

#[derive(Debug, Serialize)]
pub(super) struct PackageReport {
    pub(super) path: String,
    pub(super) kind: PackageKind,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) id: String,
    pub(super) size: u64,
    pub(super) launcher_size: Option<u64>,
    pub(super) command: Option<String>,
    pub(super) setup_commands: usize,
    pub(super) builder: Option<String>,
    pub(super) built: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) signature: Option<SignatureReport>,
    pub(super) slots: Vec<SlotReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct SignatureReport {
    pub(super) state: SignatureState,
    pub(super) key_fingerprint: String,
    /// The name under which the key is trusted here.
    pub(super) signer: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SlotReport {
    pub(super) position: u32,
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) target: String,
    pub(super) chain: String,
    pub(super) container: &'static str,
    pub(super) stored_bytes: u64,
    pub(super) digest: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) lifecycle: LifecycleReport,
    pub(super) writable: bool,
    /// `None` for a directory and for a file stored as it is, which are not indexed, and where the digest is not known before the package is hashed.
    pub(super) index: Option<IndexReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct IndexReport {
    pub(super) exists: bool,
    /// Whether the package brings one along.
    pub(super) carried: bool,
    pub(super) path: String,
    pub(super) entries: Option<u32>,
    pub(super) decoded_bytes: Option<u64>,
    pub(super) notices: Vec<NoticeReport>,
    /// What to tell a person of the notices.
    #[serde(skip)]
    pub(super) lines: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct NoticeReport {
    pub(super) path: String,
    pub(super) what: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct LifecycleReport {
    /// As the metadata spells it.
    pub(super) name: String,
    /// What slotfs takes it for.
    pub(super) meaning: &'static str,
    pub(super) in_setup: bool,
    pub(super) in_run: bool,
    /// Why the program does not see the slot.
    pub(super) absence: Option<String>,
    /// What is to be said about an unknown name.
    pub(super) note: Option<String>,
}

/// Describes a package, and what is known here about its slots.
pub(super) fn describe(
    package: &Package,
    cache: &Cache,
    context: &Context,
) -> Result<PackageReport, Failure> {
    let shared = cache.shared();
    // An archive says nothing of itself; an earlier verification knows its digest.
    let known = layers::ledger(&cache.shared()).recall(package);
    let digest = |slot: &Slot| known.as_ref()?.slots.get(usize::try_from(slot.position).ok()?)?.digest;
    let plans = plan::slots(package, &Wishes::default(), plan::machine())?;
    let metadata = package.metadata();
    let build = |key: &str| Some(metadata.build.as_ref()?.get(key)?.as_str()?.to_owned());
    let platform = || {
        let platform = metadata.build.as_ref()?.get("platform")?;
        Some(format!("{} {}", platform.get("os")?.as_str()?, platform.get("arch")?.as_str()?))
    };
    let keys = KeyStores::read(&context.settings.trusted_keys.value);
    Ok(PackageReport {
        path: package.path().display().to_string(),
        kind: package.kind(),
        name: package.name().to_owned(),
        version: package.version().to_owned(),
        id: package.id().to_owned(),
        size: package.identity().size,
        launcher_size: package.index().map(|index| index.launcher_size.get()),
        command: metadata.execution.as_ref().map(|execution| execution.command.clone()),
        setup_commands: metadata.setup_commands.len(),
        builder: build("tool")
            .map(|tool| format!("{tool} {}", build("tool_version").unwrap_or_default()).trim().to_owned()),
        built: build("timestamp"),
        platform: platform(),
        signature: package.evidence().map(|evidence| SignatureReport {
            state: evidence.signature,
            key_fingerprint: evidence.key_fingerprint.to_string(),
            signer: keys.name_of(&evidence.public_key).map(str::to_owned),
        }),
        slots: package
            .slots()
            .iter()
            .zip(&plans)
            .map(|(slot, plan)| describe_slot(slot, plan, index(slot, slot.digest.or(digest(slot)), &shared)))
            .collect(),
    })
}

/// Looks for the slot's index, without making it.
fn index(slot: &Slot, digest: Option<Digest>, shared: &Path) -> Option<IndexReport> {
    let is_plain = slot.source.container == Container::File && slot.source.compressions.is_empty();
    let is_plain = is_plain && slot.carried_index.is_none();
    if is_plain || matches!(slot.source.container, Container::Directory(_)) {
        return None;
    }
    let identity = Identity::of(&slot.source, digest?);
    let open = |path: &Path| {
        Index::open(path, &identity).unwrap_or_else(|error| {
            tracing::info!("`{}` will be made anew: {error}", path.display());
            None
        })
    };
    let mut path = identity.path(shared);
    let mut opened = open(&path);
    if let (None, Some(carried)) = (&opened, &slot.carried_index) {
        path = identity.carried_path(shared, carried);
        opened = open(&path);
    }
    let notices = opened.as_ref().and_then(|index| index.notices().ok()).unwrap_or_default();
    Some(IndexReport {
        exists: opened.is_some(),
        carried: slot.carried_index.is_some(),
        path: path.display().to_string(),
        entries: opened.as_ref().map(Index::count),
        decoded_bytes: opened.as_ref().map(Index::decoded),
        lines: notices::lines(&slot.id, &notices),
        notices: notices
            .into_iter()
            .map(|notice| NoticeReport {
                path: String::from_utf8_lossy(&notice.path).into_owned(),
                what: notice.what.text(),
            })
            .collect(),
    })
}

fn describe_slot(slot: &Slot, plan: &SlotPlan, index: Option<IndexReport>) -> SlotReport {
    let container = match slot.source.container {
        Container::File => "file",
        Container::Tar => "tar",
        Container::Zip => "zip",
        Container::Directory(_) => "directory",
    };
    let target: Vec<_> = slot.target.iter().map(|part| String::from_utf8_lossy(part)).collect();
    SlotReport {
        position: slot.position,
        id: slot.id.clone(),
        purpose: slot.purpose.clone(),
        target: target.join("/"),
        chain: slot.chain.clone(),
        container,
        stored_bytes: slot.source.stored.len(),
        digest: slot.digest.map(|digest| digest.to_string()),
        mode: (slot.source.container == Container::File).then(|| format!("{:04o}", slot.permissions)),
        lifecycle: LifecycleReport {
            name: slot.lifecycle.clone(),
            meaning: plan.lifecycle.name(),
            in_setup: plan.in_setup,
            in_run: plan.in_run,
            absence: plan.absence.clone(),
            note: plan.note.clone(),
        },
        writable: plan.writable,
        index,
    }
}
