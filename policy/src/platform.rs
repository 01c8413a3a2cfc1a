//! Does a slot, or a package, belong on this machine?

use std::fmt;

/// An operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// Linux.
    Linux,
    /// macOS; `darwin` in the format.
    Macos,
    /// Windows.
    Windows,
}

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// 64-bit x86; `amd64` in the format.
    X86_64,
    /// 64-bit Arm; `arm64` in the format.
    Aarch64,
    /// 32-bit x86.
    X86,
    /// 32-bit Arm.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit little-endian POWER.
    Powerpc64,
    /// IBM Z.
    S390x,
}

/// What a slot or package asks of a machine; what it does not name may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The operating system.
    pub system: Option<System>,
    /// The architecture.
    pub architecture: Option<Architecture>,
}

impl System {
    /// Reads a name or alias, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "linux" => Self::Linux,
            "darwin" | "macos" | "macosx" | "osx" | "mac" => Self::Macos,
            "windows" | "win" | "win32" | "win64" => Self::Windows,
            _ => return None,
        })
    }

    /// Returns the name the format uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "darwin",
            Self::Windows => "windows",
        }
    }
}

impl Architecture {
    /// Reads a name or alias, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "amd64" | "x86_64" | "x86-64" | "x64" => Self::X86_64,
            "arm64" | "aarch64" | "arm64e" => Self::Aarch64,
            "x86" | "i386" | "i486" | "i586" | "i686" | "386" => Self::X86,
            "arm" | "armv6" | "armv6l" | "armv7" | "armv7l" | "armhf" => Self::Arm,
            "riscv64" | "riscv64gc" => Self::Riscv64,
            "ppc64le" | "powerpc64le" => Self::Powerpc64,
            "s390x" => Self::S390x,
            _ => return None,
        })
    }

    /// Returns the name the format uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::X86 => "386",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
            Self::Powerpc64 => "ppc64le",
            Self::S390x => "s390x",
        }
    }
}

impl Platform {
    /// Asks for nothing.
    pub const ANY: Self = Self { system: None, architecture: None };

    /// Returns a machine's platform from the names its compiler uses (`linux`, `x86_64`); an unknown name matches
    /// only what does not ask for one.
    #[must_use]
    pub fn of_machine(system: &str, architecture: &str) -> Self {
        Self { system: System::from_name(system), architecture: Architecture::from_name(architecture) }
    }

    /// Reads the platform byte of a slot descriptor (offset 59); `None` for a code the format does not define.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let system = match code {
            0 => None,
            1 => Some(System::Linux),
            2 => Some(System::Macos),
            3 => Some(System::Windows),
            _ => return None,
        };
        Some(Self { system, architecture: None })
    }

    /// Reads `linux_amd64`, `darwin-arm64`, `linux/x86_64`, `macos`, `arm64`, `any`, in any case; `None` when a
    /// part is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if matches!(name.to_ascii_lowercase().as_str(), "any" | "all" | "*" | "") {
            return Some(Self::ANY);
        }
        if let Some(system) = System::from_name(name) {
            return Some(Self { system: Some(system), architecture: None });
        }
        if let Some(architecture) = Architecture::from_name(name) {
            return Some(Self { system: None, architecture: Some(architecture) });
        }
        // Only the first separator: the architecture itself may hold one (`x86_64`).
        let (system, architecture) = name.split_once(['_', '-', '/', '.', ' '])?;
        Some(Self {
            system: Some(System::from_name(system)?),
            architecture: Some(Architecture::from_name(architecture)?),
        })
    }

    /// Finds the platform at the end of an identifier that names a system: `tools-linux_amd64`, `lib.darwin`.
    #[must_use]
    pub fn at_end_of(identifier: &str) -> Option<Self> {
        let starts =
            identifier.char_indices().filter(|(_, letter)| matches!(letter, '_' | '-' | '.' | ':' | '/'));
        std::iter::once(identifier)
            .chain(starts.map(|(place, _)| &identifier[place + 1..]))
            .filter_map(Self::from_name)
            .find(|platform| platform.system.is_some())
    }

    /// Decides whether something that asks for `self` belongs on `machine`. What asks for something the machine
    /// does not know about itself does not.
    #[must_use]
    pub fn belongs_on(&self, machine: &Self) -> bool {
        let system = self.system.is_none() || self.system == machine.system;
        let architecture = self.architecture.is_none() || self.architecture == machine.architecture;
        system && architecture
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.system, self.architecture) {
            (None, None) => formatter.write_str("any"),
            (Some(system), None) => formatter.write_str(system.name()),
            (None, Some(architecture)) => formatter.write_str(architecture.name()),
            (Some(system), Some(architecture)) => {
                write!(formatter, "{}_{}", system.name(), architecture.name())
            }
        }
    }
}

/// Decides what platform a slot asks for: its descriptor's byte where that names one; for a slot whose lifecycle
/// is `platform` else what its id ends with; else nothing.
#[must_use]
pub fn of_slot(code: u8, id: &str, lifecycle_is_platform: bool) -> Platform {
    match Platform::from_code(code) {
        Some(platform) if platform != Platform::ANY => platform,
        _ if lifecycle_is_platform => Platform::at_end_of(id).unwrap_or_default(),
        _ => Platform::ANY,
    }
}

/// Decides whether a package with this list of `platforms` (or an operator with this `allow_platforms`) accepts
/// `machine`. An empty list accepts all; a name nobody knows accepts none.
#[must_use]
pub fn accepts(platforms: &[String], machine: &Platform) -> bool {
    platforms.is_empty()
        || platforms
            .iter()
            .filter_map(|name| Platform::from_name(name))
            .any(|platform| platform.belongs_on(machine))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    const LINUX: Platform =
        Platform { system: Some(System::Linux), architecture: Some(Architecture::X86_64) };
    const MAC: Platform = Platform { system: Some(System::Macos), architecture: Some(Architecture::Aarch64) };

    #[test]
    fn names_and_aliases_are_read() {
        let table = [
            ("linux_amd64", Some("linux_amd64")),
            ("linux-x86_64", Some("linux_amd64")),
            ("Linux/X86_64", Some("linux_amd64")),
            ("macos_arm64", Some("darwin_arm64")),
            ("darwin-aarch64", Some("darwin_arm64")),
            ("windows_amd64", Some("windows_amd64")),
            ("win32", Some("windows")),
            ("linux", Some("linux")),
            ("x86_64", Some("amd64")),
            ("any", Some("any")),
            ("", Some("any")),
            ("*", Some("any")),
            ("plan9_amd64", None),
            ("linux_vax", None),
            ("linux_", None),
        ];
        for (name, expected) in table {
            let read = Platform::from_name(name).map(|platform| platform.to_string());
            assert_eq!(read.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_named_may_be_anything() {
        let table = [
            ("any", true, true),
            ("linux", true, false),
            ("amd64", true, false),
            ("linux_amd64", true, false),
            ("linux_arm64", false, false),
            ("darwin", false, true),
            ("arm64", false, true),
            ("windows", false, false),
        ];
        for (name, on_linux, on_mac) in table {
            let platform = Platform::from_name(name).unwrap();
            assert_eq!(platform.belongs_on(&LINUX), on_linux, "{name} on Linux");
            assert_eq!(platform.belongs_on(&MAC), on_mac, "{name} on macOS");
        }
        let unknown = Platform::of_machine("haiku", "x86_64");
        assert!(Platform::ANY.belongs_on(&unknown));
        assert!(!LINUX.belongs_on(&unknown));
    }

    #[test]
    fn a_slot_names_its_platform_in_its_byte_or_its_id() {
        let table = [
            (0, "tools", true, "any"),
            (1, "tools", false, "linux"),
            (2, "tools", true, "darwin"),
            (3, "tools-linux", true, "windows"),
            (0, "tools-linux_amd64", true, "linux_amd64"),
            (0, "native.darwin-arm64", true, "darwin_arm64"),
            (0, "windows", true, "windows"),
            (0, "tools-linux_amd64", false, "any"),
            (0, "my-arm", true, "any"),
            (77, "tools", true, "any"),
        ];
        for (code, id, lifecycle, expected) in table {
            assert_eq!(of_slot(code, id, lifecycle).to_string(), expected, "{code} {id}");
        }
    }

    #[test]
    fn a_list_of_platforms_accepts_when_one_matches() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(accepts(&[], &LINUX));
        assert!(accepts(&list(&["darwin_arm64", "linux_amd64"]), &LINUX));
        assert!(!accepts(&list(&["darwin_arm64"]), &LINUX));
        assert!(!accepts(&list(&["amiga"]), &LINUX));
    }
}
