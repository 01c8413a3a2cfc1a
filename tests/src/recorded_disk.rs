//! A real ext4 on a disk that remembers every write and every flush in their order, and what such a disk may hold
//! after the power has failed.
//!
//! The disk is one file of a small FUSE file system in this process; a loop device over it carries the ext4. The
//! loop device passes each write and each flush (as `fsync`) on as the kernel issues them, so the record is what a
//! drive would have been told. A flush makes what was written before it last; of what came later any part may be
//! there, in pieces of one block. No sync is added by the recording.
//!
//! **Invariant:** every mount goes with its guard, the inner ones first, also when a test panics.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Of the disk, in bytes.
const SIZE: usize = 16 << 20;
/// What a drive writes whole or not at all, in bytes.
const BLOCK: usize = 4096;
const NAME: &str = "disk";
/// Where the file system is, before a failure and after it.
const MOUNTPOINT: &str = "ext4";
const FILE: INodeNo = INodeNo(2);
/// The kernel need not ask again.
const LONG: Duration = Duration::from_secs(3600);
/// How long a disk may stay busy: another test's child holds copies of our files between fork and exec.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the drive was told.
#[derive(Debug)]
enum Event {
    Write { offset: usize, bytes: Vec<u8> },
    Flush,
}

#[derive(Debug)]
struct Recorded {
    content: Vec<u8>,
    events: Vec<Event>,
}

fn lock(recorded: &Mutex<Recorded>) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something mounted, until it is dropped.
#[derive(Debug)]
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let started = Instant::now();
        while umount2(&self.0, MntFlags::empty()).is_err() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Gone already, or too busy: then at least nobody finds it any more.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A folder in memory.
#[derive(Debug)]
struct Memory {
    _mount: Mount,
    folder: tempfile::TempDir,
}

impl Memory {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        mount(Some("memory"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=128m"))
            .expect("root mounts memory");
        Self { _mount: Mount(folder.path().into()), folder }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("memory takes a folder");
        path
    }
}

/// Puts the ext4 in `image` at `place`.
fn mount_image(image: &Path, place: PathBuf) -> Mount {
    let output =
        Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime"]).arg(image).arg(&place).output();
    let output = output.expect("there is a mount command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Mount(place)
}

/// A disk with an ext4 in use, everything of it being recorded.
#[derive(Debug)]
pub struct RecordedDisk {
    ext4: Option<Mount>,
    drive: Option<(Mount, BackgroundSession)>,
    base: Vec<u8>,
    recorded: Arc<Mutex<Recorded>>,
    memory: Option<Memory>,
}

impl RecordedDisk {
    /// Makes an empty one; nothing where a test cannot do that and is to be skipped.
    ///
    /// # Panics
    /// It should work here, and does not.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    pub fn new() -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: a disk to record needs root and loop devices");
            return None;
        }
        if !crate::mounted::require_fuse() {
            return None;
        }
        let memory = Memory::new();
        let base = empty_ext4(&memory.folder.path().join("base"));
        let recorded = Arc::new(Mutex::new(Recorded { content: base.clone(), events: Vec::new() }));
        let drive = memory.folder("drive");
        let session = fuser::spawn_mount(Drive(Arc::clone(&recorded)), &drive, &fuser::Config::default());
        let session = session.expect("the drive is mounted");
        let ext4 = Some(mount_image(&drive.join(NAME), memory.folder(MOUNTPOINT)));
        let drive = Some((Mount(drive), session));
        Some(Self { ext4, drive, base, recorded, memory: Some(memory) })
    }

    /// Returns a folder on the disk.
    ///
    /// # Panics
    /// Never: the disk is there until it fails.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.ext4.as_ref().expect("the disk is there").0
    }

    /// Returns how many writes and flushes the drive was told by now.
    #[must_use]
    pub fn position(&self) -> usize {
        lock(&self.recorded).events.len()
    }

    /// Ends the use. What is written while unmounting is recorded, too.
    ///
    /// # Panics
    /// Never: a disk ends once.
    #[must_use]
    pub fn end(mut self) -> Recording {
        self.stop();
        let events = std::mem::take(&mut lock(&self.recorded).events);
        let memory = self.memory.take().expect("it is there until the end");
        Recording { base: std::mem::take(&mut self.base), events, memory }
    }

    fn stop(&mut self) {
        self.ext4 = None;
        // The loop device lets go of the drive a moment after its file system is gone.
        if let Some((mount, session)) = self.drive.take() {
            drop(mount);
            let ended = session.join();
            // What the kernel says to who was just taking a request when the mount went.
            let cut = |error: &std::io::Error| error.raw_os_error() == Some(libc::ECONNABORTED);
            let is_over = ended.as_ref().map_or_else(cut, |()| true);
            assert!(std::thread::panicking() || is_over, "the drive ended: {ended:?}");
        }
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Nothing is left for later in the background, so that every write belongs to somebody.
fn empty_ext4(image: &Path) -> Vec<u8> {
    let file = File::create(image).expect("memory takes a file");
    file.set_len(SIZE as u64).expect("memory takes a file");
    let options = ["-q", "-F", "-b", "4096", "-N", "4096", "-J", "size=4", "-E"];
    let extended = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    let made = Command::new("mkfs.ext4").args(options).arg(extended).arg(image).output();
    let made = made.expect("there is mkfs.ext4 (Debian: e2fsprogs)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let content = std::fs::read(image).expect("it can be read");
    std::fs::remove_file(image).expect("it can be removed");
    content
}

/// Everything that a drive was told.
#[derive(Debug)]
pub struct Recording {
    base: Vec<u8>,
    events: Vec<Event>,
    memory: Memory,
}

/// The disk after the power is back.
#[derive(Debug)]
pub struct RevivedDisk(Mount);

impl RevivedDisk {
    /// Returns the same folder as [`RecordedDisk::folder`], as the failure left it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.0
    }
}

impl Recording {
    /// Returns how many writes and flushes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.events.len()
    }

    /// Lets the power fail after `position` writes and flushes: what was flushed by then is there, and those of the
    /// later blocks that `reaches` chooses. The kernel then repairs the file system as it always does.
    ///
    /// # Panics
    /// The disk cannot be mounted again.
    #[must_use]
    pub fn fail_at(&self, position: usize, mut reaches: impl FnMut() -> bool) -> RevivedDisk {
        let before = &self.events[..position];
        let flushed = before.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let image = self.memory.folder.path().join("revived.img");
        let _ = std::fs::remove_file(&image);
        let file = OpenOptions::new().write(true).create_new(true).open(&image).expect("memory takes a file");
        let mut content = self.base.clone();
        for (place, event) in before.iter().enumerate() {
            let Event::Write { offset, bytes } = event else { continue };
            for (number, piece) in bytes.chunks(BLOCK).enumerate() {
                let start = offset + number * BLOCK;
                if place < flushed || reaches() {
                    content[start..start + piece.len()].copy_from_slice(piece);
                }
            }
        }
        file.write_all_at(&content, 0).expect("memory takes a disk");
        RevivedDisk(mount_image(&image, self.memory.folder(MOUNTPOINT)))
    }
}

/// The file system with the one file that is the disk.
#[derive(Debug)]
struct Drive(Arc<Mutex<Recorded>>);

fn attributes(number: INodeNo) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: number,
        size: if number == FILE { SIZE as u64 } else { 0 },
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: if number == FILE { FileType::RegularFile } else { FileType::Directory },
        perm: 0o700,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Drive {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&LONG, &attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LONG, &attributes(number));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing is held back in this kernel's page cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let recorded = lock(&self.0);
        let start = usize::try_from(offset).unwrap_or(SIZE).min(SIZE);
        reply.data(&recorded.content[start..(start + size as usize).min(SIZE)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut recorded = lock(&self.0);
        let start = usize::try_from(offset).unwrap_or(SIZE).min(SIZE);
        let Some(place) = recorded.content.get_mut(start..start + bytes.len()) else {
            return reply.error(Errno::ENOSPC);
        };
        place.copy_from_slice(bytes);
        recorded.events.push(Event::Write { offset: start, bytes: bytes.into() });
        reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A descriptor was closed, which tells a drive nothing.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.0).events.push(Event::Flush);
        reply.ok();
    }
}
