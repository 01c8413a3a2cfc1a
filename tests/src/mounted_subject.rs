//! A mounted volume as a subject of operations: the same workloads as without a kernel, through system calls.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named cannot happen or does not matter")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid};
use slotfs_fs::driver::MountOptions;
use slotfs_fs::node::Kind;
use slotfs_fs::overlay::{Upper, UpperForm};
use slotfs_fs::volume::{PlacedLayer, RenameMode, Volume, VolumeOptions};

use crate::model::ModelError;
use crate::mounted::Mounted;
use crate::operations::{Operation, OperationPath, PLACES, xattr_name};
use crate::subject::{Observed, Subject};

/// A mounted volume, with an upper directory that outlives the mount.
#[derive(Debug)]
pub struct MountedSubject {
    held: [Option<(File, bool)>; PLACES],
    mounted: Option<Mounted>,
    folder: PathBuf,
    layers: Vec<PlacedLayer>,
    options: fn(&mut MountOptions),
    bare_copies: Option<u64>,
    form: UpperForm,
}

impl MountedSubject {
    /// Starts in an empty `folder`, with copies without content from so many bytes on; nothing when mounting is not
    /// possible here.
    #[must_use]
    pub fn new(
        folder: PathBuf,
        layers: Vec<PlacedLayer>,
        options: fn(&mut MountOptions),
        bare_copies: Option<u64>,
        form: UpperForm,
    ) -> Option<Self> {
        let held = [const { None }; PLACES];
        let mut subject = Self { held, mounted: None, folder, layers, options, bare_copies, form };
        subject.start().then_some(subject)
    }

    fn start(&mut self) -> bool {
        let upper = Upper::open_with(&self.folder.join("upper"), &self.folder.join("work"), self.form);
        let upper = upper.expect("it opens");
        let options =
            VolumeOptions { devices: true, bare_copies: self.bare_copies, ..VolumeOptions::default() };
        let volume = Volume::new(self.layers.clone(), Some(upper), options).expect("it starts");
        self.mounted = Mounted::with(volume, |options| {
            options.devices = true;
            (self.options)(options);
        });
        self.mounted.is_some()
    }

    /// Unmounts and mounts again.
    fn remount(&mut self) {
        self.held = [const { None }; PLACES];
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
        assert!(self.start(), "it was mountable before");
    }

    fn place(&self, path: &[Vec<u8>]) -> PathBuf {
        let root = self.mounted.as_ref().expect("it is mounted").root().to_path_buf();
        path.iter().fold(root, |parent, name| parent.join(OsStr::from_bytes(name)))
    }

    /// Returns a path whose parents are directories: the oracle does not follow symbolic links.
    fn path(&self, path: &[Vec<u8>]) -> std::io::Result<PathBuf> {
        for length in 1..path.len() {
            if !std::fs::symlink_metadata(self.place(&path[..length]))?.is_dir() {
                return Err(rustix::io::Errno::NOTDIR.into());
            }
        }
        Ok(self.place(path))
    }

    fn carry_out(&mut self, operation: &Operation) -> std::io::Result<()> {
        use Operation as O;
        match operation {
            O::Create { path, mode } => {
                let path = self.path(path)?;
                OpenOptions::new().write(true).create_new(true).mode(*mode).open(path).map(drop)
            }
            O::MakeDirectory { path, mode } => Ok(rustix::fs::mkdir(self.path(path)?, Mode::from(*mode))?),
            O::MakeSymlink { path, target } => {
                Ok(rustix::fs::symlink(OsStr::from_bytes(target), self.path(path)?)?)
            }
            O::MakeNode { path, kind, device } => {
                let path = self.path(path)?;
                Ok(rustix::fs::mknodat(CWD, path, file_type(*kind), Mode::from(0o640), *device)?)
            }
            O::Link { from, to } => {
                let from = self.path(from)?;
                std::fs::symlink_metadata(&from)?;
                Ok(rustix::fs::linkat(CWD, from, CWD, self.path(to)?, AtFlags::empty())?)
            }
            O::Unlink { path } => std::fs::remove_file(self.path(path)?),
            O::RemoveDirectory { path } => std::fs::remove_dir(self.path(path)?),
            O::Rename { from, to, mode } => {
                let flags = match mode {
                    RenameMode::Replace => RenameFlags::empty(),
                    RenameMode::NoReplace => RenameFlags::NOREPLACE,
                    RenameMode::Exchange => RenameFlags::EXCHANGE,
                    RenameMode::Whiteout => RenameFlags::WHITEOUT,
                };
                Ok(rustix::fs::renameat_with(CWD, self.path(from)?, CWD, self.path(to)?, flags)?)
            }
            O::Write { .. }
            | O::Append { .. }
            | O::OpenTruncate { .. }
            | O::Truncate { .. }
            | O::Punch { .. } => self.change_content(operation),
            O::Hold { .. } | O::WriteHeld { .. } | O::SetModeHeld { .. } | O::Release { .. } => {
                self.change_held(operation)
            }
            O::Remount => {
                self.remount();
                Ok(())
            }
            O::Sync { .. } | O::SyncHeld { .. } | O::SyncAll => self.sync(operation),
            _ => self.change_attributes(operation),
        }
    }

    fn change_attributes(&self, operation: &Operation) -> std::io::Result<()> {
        use Operation as O;
        match operation {
            O::SetMode { path, mode } => {
                let path = self.path(path)?;
                // `chmod(2)` follows links, and the oracle speaks of the link itself.
                if std::fs::symlink_metadata(&path)?.file_type().is_symlink() {
                    return Err(rustix::io::Errno::OPNOTSUPP.into());
                }
                std::fs::set_permissions(path, PermissionsExt::from_mode(*mode))
            }
            O::SetOwner { path, user, group } => {
                let (user, group) = (Uid::from_raw(*user), Gid::from_raw(*group));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::chownat(CWD, self.path(path)?, Some(user), Some(group), flags)?)
            }
            O::SetModified { path, seconds } => {
                let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
                let modified = Timespec { tv_sec: *seconds, tv_nsec: 0 };
                let times = Timestamps { last_access: omit, last_modification: modified };
                Ok(rustix::fs::utimensat(CWD, self.path(path)?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
            }
            O::SetXattr { path, name, value } => {
                let name = OsStr::from_bytes(&xattr_name(*name)).to_owned();
                let flags = rustix::fs::XattrFlags::empty();
                Ok(rustix::fs::lsetxattr(self.path(path)?, name.as_os_str(), &[*value], flags)?)
            }
            O::RemoveXattr { path, name } => {
                let name = OsStr::from_bytes(&xattr_name(*name)).to_owned();
                Ok(rustix::fs::lremovexattr(self.path(path)?, name.as_os_str())?)
            }
            _ => Ok(()),
        }
    }

    fn change_content(&self, operation: &Operation) -> std::io::Result<()> {
        use Operation as O;
        let open =
            |path: &OperationPath| opened(&self.path(path)?, OpenOptions::new().read(true).write(true));
        match operation {
            O::Write { path, offset, length, byte } => {
                open(path)?.write_all_at(&vec![*byte; *length], *offset as u64)
            }
            O::Append { path, length, byte } => {
                let mut file = opened(&self.path(path)?, OpenOptions::new().append(true))?;
                std::io::Write::write_all(&mut file, &vec![*byte; *length])
            }
            O::OpenTruncate { path } => {
                opened(&self.path(path)?, OpenOptions::new().write(true).truncate(true)).map(drop)
            }
            O::Truncate { path, size } => open(path)?.set_len(*size as u64),
            O::Punch { path, offset, length } => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                Ok(rustix::fs::fallocate(open(path)?, flags, *offset as u64, *length as u64)?)
            }
            _ => Ok(()),
        }
    }

    fn sync(&self, operation: &Operation) -> std::io::Result<()> {
        use Operation as O;
        match operation {
            O::Sync { path, data_only } => {
                let path = self.path(path)?;
                let kind = std::fs::symlink_metadata(&path)?.file_type();
                if kind.is_dir() {
                    return File::open(path)?.sync_all();
                }
                let file = opened(&path, OpenOptions::new().read(true))?;
                if *data_only { file.sync_data() } else { file.sync_all() }
            }
            O::SyncHeld { place } => match &self.held[*place] {
                Some((file, _)) => file.sync_all(),
                None => Ok(()),
            },
            _ => Ok(rustix::fs::syncfs(File::open(self.place(&[]))?)?),
        }
    }

    fn change_held(&mut self, operation: &Operation) -> std::io::Result<()> {
        use Operation as O;
        match operation {
            O::Hold { path, place, write } => {
                self.held[*place] = None;
                self.held[*place] =
                    Some((opened(&self.path(path)?, OpenOptions::new().read(true).write(*write))?, *write));
            }
            O::WriteHeld { place, offset, length, byte } => {
                if let Some((file, true)) = &self.held[*place] {
                    file.write_all_at(&vec![*byte; *length], *offset as u64)?;
                }
            }
            O::SetModeHeld { place, mode } => {
                if let Some((file, _)) = &self.held[*place] {
                    file.set_permissions(PermissionsExt::from_mode(*mode))?;
                }
            }
            O::Release { place } => self.held[*place] = None,
            _ => {}
        }
        Ok(())
    }
}

/// Opens the thing itself, as the oracle does, and refuses what is no file as the volume does without a kernel.
fn opened(path: &Path, options: &OpenOptions) -> std::io::Result<File> {
    let kind = std::fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    if !kind.is_file() {
        return Err(rustix::io::Errno::INVAL.into());
    }
    options.open(path)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn kind_of(kind: std::fs::FileType) -> Kind {
    let table = [
        (kind.is_dir(), Kind::Directory),
        (kind.is_symlink(), Kind::Symlink),
        (kind.is_fifo(), Kind::Fifo),
        (kind.is_socket(), Kind::Socket),
        (kind.is_char_device(), Kind::CharacterDevice),
        (kind.is_block_device(), Kind::BlockDevice),
    ];
    table.into_iter().find_map(|(is, kind)| is.then_some(kind)).unwrap_or(Kind::File)
}

fn named(error: &std::io::Error) -> ModelError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => ModelError::NotFound,
        Some(libc::EEXIST) => ModelError::Exists,
        Some(libc::ENOTDIR) => ModelError::NotDirectory,
        Some(libc::EISDIR) => ModelError::IsDirectory,
        Some(libc::ENOTEMPTY) => ModelError::NotEmpty,
        Some(libc::EPERM) => ModelError::NotPermitted,
        Some(libc::EINVAL) => ModelError::Invalid,
        Some(libc::ENODATA) => ModelError::NoAttribute,
        Some(libc::EOPNOTSUPP) => ModelError::NotSupported,
        // Opening a link itself.
        Some(libc::ELOOP) => ModelError::Invalid,
        _ => panic!("no answer of a file system: {error}"),
    }
}

impl Subject for MountedSubject {
    fn apply(&mut self, operation: &Operation) -> Result<(), ModelError> {
        self.carry_out(operation).map_err(|error| named(&error))
    }

    fn observe(&mut self) -> BTreeMap<OperationPath, Observed> {
        let mut all = BTreeMap::new();
        let mut waiting: Vec<OperationPath> = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let place = self.place(&path);
            let observed = look(&place);
            if observed.kind == Kind::Directory {
                for entry in std::fs::read_dir(&place).expect("it can be listed") {
                    let entry = entry.expect("it can be listed");
                    let metadata = std::fs::symlink_metadata(entry.path()).expect("what is listed is there");
                    assert_eq!(entry.ino(), metadata.ino(), "{:?}", entry.path());
                    let listed = kind_of(entry.file_type().expect("the kind is listed"));
                    assert_eq!(listed, kind_of(metadata.file_type()), "{:?}", entry.path());
                    waiting.push([path.clone(), vec![entry.file_name().into_vec()]].concat());
                }
            }
            all.insert(path, observed);
        }
        all
    }

    fn observe_held(&mut self, place: usize) -> Option<Observed> {
        let (file, _) = self.held[place].as_ref()?;
        let metadata = file.metadata().expect("an open file has attributes");
        let mut bytes = vec![0; metadata.len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("an open file can be read");
        Some(observed(&metadata, bytes, Path::new(&format!("/proc/self/fd/{}", fd(file)))))
    }
}

fn fd(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}

fn look(path: &Path) -> Observed {
    let metadata = std::fs::symlink_metadata(path).expect("it is there");
    let bytes = if metadata.is_file() {
        std::fs::read(path).expect("it can be read")
    } else if metadata.is_symlink() {
        std::fs::read_link(path).expect("it can be read").into_os_string().into_vec()
    } else {
        Vec::new()
    };
    if metadata.is_file() {
        assert_eq!(metadata.len(), bytes.len() as u64, "{}", path.display());
    }
    observed(&metadata, bytes, path)
}

fn observed(metadata: &std::fs::Metadata, bytes: Vec<u8>, path: &Path) -> Observed {
    let is_open_file = path.starts_with("/proc");
    let mut list = vec![0; 4096];
    let names = if is_open_file {
        rustix::fs::listxattr(path, &mut list)
    } else {
        rustix::fs::llistxattr(path, &mut list)
    };
    list.truncate(names.expect("attributes can be listed"));
    let xattrs = list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(|name| {
        let mut value = vec![0; 4096];
        let shown = OsStr::from_bytes(name);
        let count = if is_open_file {
            rustix::fs::getxattr(path, shown, &mut value)
        } else {
            rustix::fs::lgetxattr(path, shown, &mut value)
        };
        value.truncate(count.expect("a listed attribute is there"));
        (name.to_vec(), value)
    });
    Observed {
        kind: kind_of(metadata.file_type()),
        mode: metadata.mode() & 0o7777,
        user: metadata.uid(),
        group: metadata.gid(),
        links: metadata.nlink() as u32,
        device: metadata.rdev(),
        modified: metadata.mtime(),
        inode: metadata.ino(),
        bytes,
        xattrs: xattrs.collect(),
    }
}
