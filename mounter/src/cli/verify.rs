//! `slotfs verify`: every check of a package by name, with its result.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use slotfs_fs::disk::digest::Digest;
use slotfs_fs::package::signature::{Claim, Evidence, SignatureState};
use slotfs_fs::package::verify::{Outcome, Verification, VerifiedSlot};
use slotfs_fs::package::{CarriedIndex, Package, PackageKind, Slot};
use slotfs_fs::slot::index::{Identity, Index, IndexError};
use slotfs_policy::trust::Verdict;

use super::arguments::PackageArguments;
use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::output::{Output, Tone, human_size};
use super::package::{self, Recall};
use super::table::{Cell, Side, Table};
use crate::plan::Judgement;

/// Check packages and show the result of every check
///
/// Checked are the form, the signature, every slot against the SHA-256 in the signed metadata, and the policies of
/// this machine and of the package's author. The exit code is 0 when `slotfs run` would accept every package, 107 when one
/// is damaged, changed or not trusted, and 102 when one is no package at all. Slots are hashed afresh each time. The index
/// of a slot that a package carries is checked, too, with the digests of chunks in it; a wrong one is not used, and no reason to
/// refuse the package.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Packages, archives or directories
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How packages are judged.
    #[command(flatten)]
    pub package: PackageArguments,
}

/// Everything found out about one package.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    accepted: bool,
    kind: Option<PackageKind>,
    name: Option<String>,
    version: Option<String>,
    id: Option<String>,
    size: Option<u64>,
    checks: Vec<Check>,
    warnings: Vec<String>,
    /// Why it is not accepted.
    reason: Option<String>,
    hint: Option<String>,
    #[serde(skip)]
    exit_code: u8,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// SHA-256 of a slot's stored bytes as found, of an index as stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Number of a slot's stored bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    result: Result,
    detail: String,
}

impl Check {
    /// Returns a check of the package as a whole.
    fn of_package(name: &'static str, result: Result, detail: impl Into<String>) -> Self {
        Self { name, slot: None, digest: None, stored_bytes: None, result, detail: detail.into() }
    }
}

/// What a check gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Result {
    Passed,
    Failed,
    /// The package states nothing to compare with.
    NotStated,
}

/// Carries the command out.
///
/// # Errors
/// Standard output cannot be written, or a policy of this machine cannot be understood.
pub fn run(arguments: &Arguments, context: &Context) -> std::result::Result<u8, Failure> {
    let reports = arguments
        .packages
        .iter()
        .map(|path| report(path, context))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if arguments.json {
        context.output.json(&serde_json::json!({ "packages": reports }))?;
    } else {
        let texts: Vec<String> = reports.iter().map(|report| text(report, &context.output)).collect();
        context.output.data(&texts.join("\n"))?;
    }
    Ok(reports.iter().map(|report| report.exit_code).find(|code| *code != 0).unwrap_or(0))
}

fn report(path: &Path, context: &Context) -> std::result::Result<Report, Failure> {
    let package = match package::open(path) {
        Ok(package) => package,
        Err(failure) => return Ok(unopened(path, &failure)),
    };
    let verification = match package::hash(&package, Recall::Never, context) {
        Ok(verification) => verification,
        Err(failure) => return Ok(unopened(path, &failure)),
    };
    let judgement = match package::judge(&package, &verification, context) {
        Err(failure) if failure.kind == FailureKind::Verification => return Ok(unopened(path, &failure)),
        other => other?,
    };
    let mut checks = form(&package);
    if let Some(evidence) = package.evidence() {
        checks.extend(claims(evidence, &judgement));
    }
    checks.extend(slots(&package, &verification));
    checks.extend(carried_indexes(&package));
    let (accepted, warnings, reason, hint) = match judgement.verdict {
        Verdict::Proceed => (true, Vec::new(), None, None),
        Verdict::Warn(warnings) => (true, warnings, None, None),
        Verdict::Refuse { reason, hint } => (false, Vec::new(), Some(reason), Some(hint)),
    };
    Ok(Report {
        path: path.display().to_string(),
        accepted,
        kind: Some(package.kind()),
        name: Some(package.name().to_owned()),
        version: Some(package.version().to_owned()).filter(|version| !version.is_empty()),
        id: Some(package.id().to_owned()),
        size: (package.kind() != PackageKind::Directory).then(|| package.identity().size),
        checks,
        warnings,
        reason,
        hint,
        exit_code: if accepted { 0 } else { FailureKind::Verification.exit_code() },
    })
}

fn unopened(path: &Path, failure: &Failure) -> Report {
    Report {
        path: path.display().to_string(),
        accepted: false,
        kind: None,
        name: None,
        version: None,
        id: None,
        size: None,
        checks: Vec::new(),
        warnings: Vec::new(),
        reason: Some(failure.message.clone()),
        hint: failure.hints.first().cloned(),
        exit_code: failure.kind.exit_code(),
    }
}

/// What opening the package has checked already: it does not open otherwise.
fn form(package: &Package) -> Vec<Check> {
    let passed = |name, detail: String| Check::of_package(name, Result::Passed, detail);
    let Some(index) = package.index() else {
        let detail = match package.kind() {
            PackageKind::Directory => "a directory",
            PackageKind::Archive => "an archive",
            PackageKind::CompressedFile => "a compressed file",
            PackageKind::Pspf => "a package",
        };
        return vec![passed("form", format!("{detail}, a package of one slot"))];
    };
    vec![
        passed("index", format!("checksum {}", index.checksum_text())),
        passed("metadata", format!("SHA-256 {}", short_digits(&index.metadata_checksum))),
    ]
}

fn claims(evidence: &Evidence, judgement: &Judgement) -> Vec<Check> {
    let fingerprint = evidence.key_fingerprint.to_string();
    let key = fingerprint.get(..16).unwrap_or(&fingerprint);
    let (result, detail) = match (evidence.signature, &judgement.signer) {
        (SignatureState::Valid, Some(name)) => (Result::Passed, format!("by `{name}`, key {key}")),
        (SignatureState::Valid, None) => (Result::Passed, format!("by key {key}")),
        (SignatureState::Invalid, _) => (Result::Failed, format!("not made by key {key}")),
        (SignatureState::Absent, _) => (Result::Failed, "not signed".to_owned()),
    };
    let claim = |name, claim| match claim {
        Claim::True => Check::of_package(name, Result::Passed, "as the index states"),
        Claim::False => Check::of_package(name, Result::Failed, "not what the index states"),
        Claim::Absent => Check::of_package(name, Result::NotStated, "the index states none"),
    };
    vec![
        Check::of_package("signature", result, detail),
        claim("key fingerprint", evidence.fingerprint_claim),
        claim("attestation", evidence.attestation_claim),
        claim("policy", evidence.policy_claim),
    ]
}

fn slots<'a>(package: &'a Package, verification: &'a Verification) -> impl Iterator<Item = Check> + 'a {
    let signed = package.evidence().is_some_and(|evidence| evidence.signature == SignatureState::Valid);
    package.slots().iter().zip(&verification.slots).map(move |(slot, verified)| {
        let (result, finding) = judged(verified, signed);
        let digest = verified.digest.map(|digest| digest.to_string());
        let detail = match &verified.digest {
            Some(digest) => {
                let size = human_size(slot.source.stored.len());
                format!("{size}, SHA-256 {}, {finding}", short_digits(&digest.0))
            }
            None => finding.to_owned(),
        };
        let stored_bytes = digest.as_ref().map(|_| slot.source.stored.len());
        Check { name: "slot", slot: Some(slot.id.clone()), digest, stored_bytes, result, detail }
    })
}

/// Checks the indexes of slots that the package brings along, and the digests of chunks in them. One that is wrong makes the
/// package no worse: it is not used, or what it does not vouch for is not served.
fn carried_indexes(package: &Package) -> impl Iterator<Item = Check> {
    package.slots().iter().filter_map(|slot| {
        let carried = slot.carried_index.as_ref()?;
        let size = human_size(carried.stored.len());
        let (result, finding) = match carried_index(slot, carried) {
            Ok(finding) => (Result::Passed, finding.to_owned()),
            Err(reason) => (Result::Failed, reason),
        };
        let (digest, detail) = (Some(carried.root.to_string()), format!("{size}, {finding}"));
        let stored_bytes = Some(carried.stored.len());
        Some(Check { name: "index of", slot: Some(slot.id.clone()), digest, stored_bytes, result, detail })
    })
}

fn carried_index(slot: &Slot, carried: &CarriedIndex) -> std::result::Result<&'static str, String> {
    let unused = |error: IndexError| {
        if matches!(error, IndexError::OtherVersion) {
            "of another version of slotfs: it is not used".to_owned()
        } else if matches!(error, IndexError::Damaged { what: "digest", .. }) {
            "not the one in the metadata: it is not used".to_owned()
        } else {
            format!("it is not used: {error}")
        }
    };
    let digest = slot.digest.ok_or("the metadata state no digest of the slot: it is not used")?;
    let index = Index::open_in_package(&Identity::of(&slot.source, digest), carried).map_err(unused)?;
    index.check().map_err(unused)?;
    let Some(length) = index.chunk_length() else { return Ok("as the metadata say") };
    let find = move |number| index.chunk(number).map_err(std::io::Error::other);
    let stored = slot.source.stored.clone().checked(digest, length, Box::new(find));
    match Digest::of_range(&stored) {
        Ok(_) => Ok("as the metadata say, and so are all chunks"),
        Err(error) => Err(error.to_string()),
    }
}

fn judged(slot: &VerifiedSlot, signed: bool) -> (Result, &'static str) {
    match (&slot.outcome, signed) {
        (Outcome::Full, true) => (Result::Passed, "as signed"),
        (Outcome::Full, false) => (Result::Passed, "as the metadata say, which nobody signed"),
        (Outcome::Short, true) => (Result::Passed, "its first 8 bytes as signed"),
        (Outcome::Short, false) => {
            (Result::Passed, "its first 8 bytes as the metadata say, which nobody signed")
        }
        (Outcome::DescriptorOnly, _) => (Result::Passed, "as its descriptor says, which nobody signed"),
        (Outcome::InChunks | Outcome::Beside, _) => (Result::NotStated, "not hashed"),
        (Outcome::Unstated, _) => (Result::NotStated, "nothing to compare with"),
        (Outcome::Wrong { metadata: true, .. }, true) => (Result::Failed, "not the signed one"),
        (Outcome::Wrong { metadata: true, .. }, false) => (Result::Failed, "not the one in the metadata"),
        (Outcome::Wrong { metadata: false, .. }, _) => (Result::Failed, "not the one in its descriptor"),
    }
}

/// The first 16 digits tell digests apart well enough for a person.
fn short_digits(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>() + "…"
}

fn text(report: &Report, output: &Output) -> String {
    let mut text = output.paint(Tone::Heading, &report.path);
    if let Some(name) = &report.name {
        let version = report.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let size = report.size.map(|size| format!(", {}", human_size(size))).unwrap_or_default();
        let _ = write!(text, ": {}{size}", output.paint(Tone::Plain, &format!("{name}{version}")));
    }
    text.push('\n');
    let mut table = Table::new([("", Side::Left), ("CHECK", Side::Left), ("RESULT", Side::Left)]);
    for check in &report.checks {
        let mark = match check.result {
            Result::Passed => Cell::toned(Tone::Good, "✓"),
            Result::Failed => Cell::toned(Tone::Bad, "✗"),
            Result::NotStated => Cell::toned(Tone::Faint, "–"),
        };
        let name = match &check.slot {
            Some(slot) => format!("{} {slot}", check.name),
            None => check.name.to_owned(),
        };
        let tone = if check.result == Result::Failed { Tone::Bad } else { Tone::Plain };
        table.row([mark, name.into(), Cell::toned(tone, check.detail.as_str())]);
    }
    if !report.checks.is_empty() {
        text.push_str(&table.render(output, 2));
    }
    for warning in &report.warnings {
        let _ =
            writeln!(text, "  {} {}", output.paint(Tone::Warning, "!"), output.paint(Tone::Plain, warning));
    }
    let verdict = match &report.reason {
        None => output.paint(Tone::Good, "accepted"),
        Some(reason) => output.paint(Tone::Bad, &format!("refused: {reason}")),
    };
    let _ = writeln!(text, "  {verdict}");
    if let Some(hint) = &report.hint {
        let _ =
            writeln!(text, "  {} {}", output.paint(Tone::Faint, "hint:"), output.paint(Tone::Plain, hint));
    }
    text
}
