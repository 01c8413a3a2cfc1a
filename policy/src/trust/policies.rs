//! What the operator of a machine and the author of a package ask for. Plain data in the words of the files.

use serde::Deserialize;

/// `policy.json` of a machine (`/etc/flavor`) or a user (`~/.config/flavor`). Unknown sections are ignored, as
/// launchers ignore them; what is absent stays open, so that two files can be laid over each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct OperatorPolicy {
    /// Version of the file's form; must be there, and 1.
    pub version: u32,
    /// Whose packages may run.
    #[serde(default)]
    pub trust: TrustSection,
    /// Where and how long packages may run.
    #[serde(default)]
    pub execution: ExecutionSection,
    /// What packages must say about themselves.
    #[serde(default)]
    pub attestation: AttestationSection,
    /// What a violation leads to.
    #[serde(default)]
    pub enforcement: EnforcementSection,
}

/// `trust`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TrustSection {
    /// The signing key must be in a `trusted-keys` directory.
    pub require_trusted_key: Option<bool>,
    /// The operating system's keychain counts as a key store.
    pub use_os_keychain: Option<bool>,
}

/// `execution`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExecutionSection {
    /// Nothing runs as root.
    pub refuse_root: Option<bool>,
    /// Packages built longer ago do not run.
    pub max_age_days: Option<u64>,
    /// Machines on which packages may run; empty or absent means all.
    pub allow_platforms: Option<Vec<String>>,
}

/// `attestation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AttestationSection {
    /// The attestation must hold a bill of materials.
    pub require_sbom: Option<bool>,
}

/// `enforcement`: the mode of each rule, else `default`, else deny.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EnforcementSection {
    /// For rules without their own mode.
    pub default: Option<Mode>,
    /// A package does not belong on this machine.
    pub platform_mismatch: Option<Mode>,
    /// A package is run as root.
    pub root_execution: Option<Mode>,
    /// A package is too old.
    pub expired_package: Option<Mode>,
    /// A variable the package needs is not set.
    pub missing_env: Option<Mode>,
    /// There is no bill of materials.
    pub missing_sbom: Option<Mode>,
    /// The signing key is not a trusted one.
    pub untrusted_key: Option<Mode>,
    /// The keychain would have to be asked.
    pub os_keychain: Option<Mode>,
}

/// What a violation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The package does not run.
    Deny,
    /// It runs, and the user is told.
    Warn,
    /// It runs.
    Allow,
}

/// `policy` in a package's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PackagePolicy {
    /// Machines it may run on; empty means all.
    pub platforms: Vec<String>,
    /// It does not run as root.
    pub refuse_root: bool,
    /// It does not run when it was built longer ago.
    pub max_age_days: Option<u64>,
    /// Variables that must be set.
    pub require_env: Vec<String>,
}

impl OperatorPolicy {
    /// The policy of a machine without any file.
    #[must_use]
    pub fn open() -> Self {
        Self { version: 1, ..Self::default() }
    }

    /// Lays the user's policy over this one: what the user's file names counts.
    #[must_use]
    pub fn overridden_by(self, user: Self) -> Self {
        Self {
            version: user.version,
            trust: TrustSection {
                require_trusted_key: user.trust.require_trusted_key.or(self.trust.require_trusted_key),
                use_os_keychain: user.trust.use_os_keychain.or(self.trust.use_os_keychain),
            },
            execution: ExecutionSection {
                refuse_root: user.execution.refuse_root.or(self.execution.refuse_root),
                max_age_days: user.execution.max_age_days.or(self.execution.max_age_days),
                allow_platforms: user.execution.allow_platforms.or(self.execution.allow_platforms),
            },
            attestation: AttestationSection {
                require_sbom: user.attestation.require_sbom.or(self.attestation.require_sbom),
            },
            enforcement: self.enforcement.overridden_by(&user.enforcement),
        }
    }
}

impl EnforcementSection {
    fn overridden_by(&self, user: &Self) -> Self {
        Self {
            default: user.default.or(self.default),
            platform_mismatch: user.platform_mismatch.or(self.platform_mismatch),
            root_execution: user.root_execution.or(self.root_execution),
            expired_package: user.expired_package.or(self.expired_package),
            missing_env: user.missing_env.or(self.missing_env),
            missing_sbom: user.missing_sbom.or(self.missing_sbom),
            untrusted_key: user.untrusted_key.or(self.untrusted_key),
            os_keychain: user.os_keychain.or(self.os_keychain),
        }
    }
}
