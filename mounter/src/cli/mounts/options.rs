//! Mount options as people and mount(8) write them: `lowerdir=/a:/b,upperdir=/u,workdir=/w,nosuid,x-note`.
//!
//! A comma ends an option and a colon a lower directory, unless a backslash stands before it, as in overlayfs.
//!
//! **Invariant:** an option that is not known is named, never dropped, unless the caller asked for that (`-s`).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use slotfs_fs::driver::GenericFlag;

use crate::session::overlay::request::GivenOptions;

/// What is for mount(8), systemd and people, and says nothing about the mount itself.
const OTHERS: &[&str] = &[
    "defaults",
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "silent",
    "loud",
    // What is always so.
    "default_permissions",
    "userxattr",
    "async",
    "redirect_dir=on",
    "index=on",
];

/// Beginnings of the same kind.
const OTHER_BEGINNINGS: &[&str] = &["x-", "X-", "comment=", "user=", "subtype="];

/// What a list of options says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Lower directories and packages, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The upper directory.
    pub upper: Option<PathBuf>,
    /// The work directory.
    pub work: Option<PathBuf>,
    /// What the mount table is to show.
    pub source: Option<OsString>,
    /// Whether large files are copied up without content where that will do; with `false` those of earlier mounts get
    /// their content.
    pub metacopy: Option<bool>,
    /// How to mount.
    pub mount: GivenOptions,
}

/// Why a list of options cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Options that nobody knows.
    #[error("unknown mount option{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))]
    Unknown {
        /// Each in backticks.
        names: Vec<String>,
    },
    /// A path is missing.
    #[error("the mount option `{name}` has an empty path in it")]
    Empty {
        /// The option.
        name: String,
    },
    /// One without the other.
    #[error("the mount option `{present}` needs `{missing}`, too")]
    Incomplete {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
}

impl Parsed {
    /// Reads lists of options, later ones over earlier ones. With `sloppy` those that are not known are left out.
    ///
    /// # Errors
    /// Names every option that is not known, or the one that cannot be used.
    pub fn new(lists: &[OsString], sloppy: bool) -> Result<Self, OptionsError> {
        let mut parsed = Self::default();
        let mut unknown = Vec::new();
        for list in lists {
            for option in split(list.as_bytes(), b',') {
                if !option.is_empty() && !parsed.take(option)? {
                    unknown.push(format!("`{}`", String::from_utf8_lossy(option)));
                }
            }
        }
        if !unknown.is_empty() && !sloppy {
            return Err(OptionsError::Unknown { names: unknown });
        }
        match (&parsed.upper, &parsed.work) {
            (Some(_), None) => Err(OptionsError::Incomplete { present: "upperdir", missing: "workdir" }),
            (None, Some(_)) => Err(OptionsError::Incomplete { present: "workdir", missing: "upperdir" }),
            _ => Ok(parsed),
        }
    }

    /// Takes one option in; `false` when it is not known.
    fn take(&mut self, option: &[u8]) -> Result<bool, OptionsError> {
        if let Some(at) = option.iter().position(|&byte| byte == b'=') {
            let (name, value) = (&option[..at], &option[at + 1..]);
            if self.take_value(name, value)? {
                return Ok(true);
            }
        }
        let Ok(option) = std::str::from_utf8(option) else { return Ok(false) };
        if let Some(wish) = option.strip_prefix("metacopy=") {
            self.metacopy = Some(wish == "on");
            return Ok(matches!(wish, "on" | "off"));
        }
        if self.mount_switch(option) {
            return Ok(true);
        }
        Ok(OTHERS.contains(&option) || OTHER_BEGINNINGS.iter().any(|beginning| option.starts_with(beginning)))
    }

    fn take_value(&mut self, name: &[u8], value: &[u8]) -> Result<bool, OptionsError> {
        let path = |value: &[u8]| {
            let path = PathBuf::from(OsString::from_vec(unescaped(value)));
            let empty = || OptionsError::Empty { name: String::from_utf8_lossy(name).into_owned() };
            if path.as_os_str().is_empty() { Err(empty()) } else { Ok(path) }
        };
        match name {
            b"lowerdir" => self.lowers = split(value, b':').map(path).collect::<Result<_, _>>()?,
            b"lowerdir+" => self.lowers.push(path(value)?),
            b"upperdir" => self.upper = Some(path(value)?),
            b"workdir" => self.work = Some(path(value)?),
            b"fsname" => self.source = Some(path(value)?.into_os_string()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mount_switch(&mut self, option: &str) -> bool {
        let mount = &mut self.mount;
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "suid" => mount.set_id = true,
            "nosuid" => mount.set_id = false,
            "dev" => mount.devices = true,
            "nodev" => mount.devices = false,
            "exec" => mount.no_execution = false,
            "noexec" => mount.no_execution = true,
            "atime" => mount.access_times = true,
            "noatime" => mount.access_times = false,
            "passthrough" => mount.no_passthrough = false,
            "nopassthrough" => mount.no_passthrough = true,
            "ac" => mount.layers_change = false,
            "noac" => mount.layers_change = true,
            "allow_other" => mount.allow_other = Some(true),
            _ => return self.flag(option),
        }
        true
    }

    /// A generic flag, or its opposite.
    fn flag(&mut self, option: &str) -> bool {
        let opposite = match option {
            "diratime" => Some("nodiratime"),
            "norelatime" => Some("relatime"),
            "nostrictatime" => Some("strictatime"),
            "nolazytime" => Some("lazytime"),
            "symfollow" => Some("nosymfollow"),
            _ => None,
        };
        let flags = &mut self.mount.flags;
        if let Some(name) = opposite {
            flags.retain(|flag| flag != name);
            return true;
        }
        let Some(flag) = GenericFlag::ALL.into_iter().find(|flag| flag.name() == option) else {
            return false;
        };
        flags.retain(|name| name != option);
        flags.push(option.to_owned());
        if matches!(flag, GenericFlag::RelativeAccessTimes | GenericFlag::StrictAccessTimes) {
            self.mount.access_times = true;
        }
        true
    }
}

/// Splits at `separator` where no backslash stands before it.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    text.split(move |&byte| {
        let ends = byte == separator && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    plain
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Parsed, OptionsError> {
        Parsed::new(&[text.into()], false)
    }

    #[test]
    fn paths_may_hold_what_separates_them() {
        let found = parsed(r"lowerdir=/a\:b:/c\,d:/e\\f,upperdir=/u\,v,workdir=/w,lowerdir+=/g:h").unwrap();
        assert_eq!(found.lowers, ["/a:b", "/c,d", r"/e\f", "/g:h"].map(PathBuf::from));
        assert_eq!(found.upper, Some("/u,v".into()));
    }

    #[test]
    fn what_is_not_known_is_named_all_of_it() {
        let error = parsed("lowerdir=/a,volatile,nosuid,metacopy=maybe,x-systemd.automount").unwrap_err();
        assert_eq!(error.to_string(), "unknown mount options `volatile`, `metacopy=maybe`");
        let sloppy = Parsed::new(&["lowerdir=/a,volatile".into()], true).unwrap();
        assert_eq!(sloppy.lowers, [PathBuf::from("/a")]);
        assert_eq!(parsed("lowerdir=/a::/b").unwrap_err(), OptionsError::Empty { name: "lowerdir".into() });
        assert!(matches!(parsed("upperdir=/u"), Err(OptionsError::Incomplete { missing: "workdir", .. })));
    }

    #[test]
    fn the_last_word_counts() {
        let found = parsed("ro,suid,noexec,relatime,rw,nosuid,norelatime,lazytime,lazytime").unwrap();
        assert!(!found.mount.read_only && !found.mount.set_id && found.mount.no_execution);
        assert_eq!(found.mount.flags, ["lazytime"]);
    }
}
