//! The real binary in a private home: every command, mount and process of a test ends with it.
//!
//! **Invariant:** a home that is dropped leaves no mount and no serving process, whether the test passed or not;
//! a test that passed and left one fails.
#![expect(clippy::unwrap_used, reason = "a harness that cannot set up its test has to stop it")]

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::package::PackageBuilder;

/// How long a test waits for something that takes milliseconds, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the slotfs binary, built once for each test run.
///
/// `SLOTFS_TEST_BINARY` names another one, which is then used as it is.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("SLOTFS_TEST_BINARY") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "--package", "slotfs"]).status().unwrap();
        assert!(built.success(), "slotfs does not build");
        // The test is `target/{profile}/deps/name-hash`.
        let path = std::env::current_exe().unwrap().parent().unwrap().with_file_name("slotfs");
        assert!(path.exists(), "`{}` is missing; set SLOTFS_TEST_BINARY", path.display());
        path
    })
}

/// Tells why this machine cannot run mounted tests, if it cannot. With `SLOTFS_TEST_STRICT` that is a failure.
#[must_use]
pub fn missing_fuse() -> Option<String> {
    let missing = match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => return None,
        Err(error) => format!("/dev/fuse cannot be opened: {error}"),
    };
    Some(skip(missing))
}

/// Reports a skipped test, or fails it with `SLOTFS_TEST_STRICT`.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn skip(reason: String) -> String {
    assert!(std::env::var_os("SLOTFS_TEST_STRICT").is_none(), "cannot be tested: {reason}");
    eprintln!("skipped: {reason}");
    reason
}

/// Returns a package that FlavorPack's own builders made; `None` when there are none here.
#[must_use]
pub fn real_package(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("SLOTFS_TEST_PACKAGES") else {
        skip("SLOTFS_TEST_PACKAGES does not name a folder of packages".into());
        return None;
    };
    let path = Path::new(&folder).join(name);
    if !path.exists() {
        skip(format!("there is no `{}`", path.display()));
        return None;
    }
    Some(path)
}

/// Returns FlavorPack's `flavor` command; `None` when it is not installed.
#[must_use]
pub fn flavor() -> Option<PathBuf> {
    let flavor = std::env::var_os("SLOTFS_TEST_FLAVOR").map(PathBuf::from);
    if flavor.is_none() {
        skip("SLOTFS_TEST_FLAVOR does not name an installed `flavor`".into());
    }
    flavor
}

/// Returns FlavorPack's own launcher for this machine, `rs` or `go`; `None` when it is not installed.
#[must_use]
pub fn real_launcher(language: &str) -> Option<PathBuf> {
    real_helper(language, "launcher")
}

/// Returns FlavorPack's own builder for this machine, `rs` or `go`; `None` when it is not installed.
#[must_use]
pub fn real_builder(language: &str) -> Option<PathBuf> {
    real_helper(language, "builder")
}

fn real_helper(language: &str, kind: &str) -> Option<PathBuf> {
    let flavor = flavor()?;
    let libraries = flavor.parent()?.parent()?.join("lib");
    let prefix = format!("flavor-{language}-{kind}-");
    let found = std::fs::read_dir(libraries).ok().into_iter().flatten().flatten().find_map(|python| {
        let helpers = python.path().join("site-packages/flavor/helpers/bin");
        let mut files = std::fs::read_dir(helpers).ok()?.flatten();
        files.find(|file| file.file_name().to_string_lossy().starts_with(&prefix)).map(|file| file.path())
    });
    if found.is_none() {
        skip(format!("no `{prefix}…` is installed beside `{}`", flavor.display()));
    }
    found
}

/// A user's home with nothing in it, and everything that a test starts there.
#[derive(Debug)]
pub struct Home {
    folder: Option<tempfile::TempDir>,
    root: PathBuf,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("slotfs-home-").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        Self { folder: Some(folder), root }
    }

    /// Takes `folder` for one, and leaves it there in the end.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self { folder: None, root: folder.canonicalize().unwrap() }
    }

    /// Returns the home's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a path in the home.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Returns where work environments are.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join(".cache/flavor/workenv")
    }

    /// Returns the work environment `name`.
    #[must_use]
    pub fn workenv(&self, name: &str) -> PathBuf {
        self.cache().join(name)
    }

    /// Returns the session folder of the work environment `name`.
    #[must_use]
    pub fn session(&self, name: &str) -> PathBuf {
        self.cache().join(format!(".{name}.pspf/slotfs"))
    }

    /// Writes a package into the home and returns where it is.
    pub fn package(&self, file: &str, package: PackageBuilder) -> PathBuf {
        let path = self.root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        package.write(&path);
        path
    }

    /// Prepares a program in this home's environment, which holds nothing of the tester's own.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", &self.root)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .current_dir(&self.root)
            .stdin(Stdio::null());
        command
    }

    /// Prepares slotfs with `arguments`.
    pub fn slotfs<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = self.program(binary());
        command.args(arguments);
        command
    }

    /// Runs slotfs to its end.
    pub fn run<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, arguments: I) -> Done {
        Done::of(&mut self.slotfs(arguments))
    }

    /// Returns the mounts in this home, as the kernel lists them.
    #[must_use]
    pub fn mounts(&self) -> Vec<PathBuf> {
        mounts_below(&self.root)
    }

    /// Returns the live serving processes of this home, as their session records name them.
    #[must_use]
    pub fn servers(&self) -> Vec<i32> {
        let entries = std::fs::read_dir(self.cache()).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| std::fs::read(entry.path().join("slotfs/session.json")).ok())
            .filter_map(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
            .filter_map(|record| i32::try_from(record["pid"].as_i64()?).ok())
            .filter(|&pid| is_ours(pid))
            .collect()
    }

    /// Waits until this home has neither mount nor server, and no server that is still putting away what it has read: its
    /// session is over by then, and it has no record any more.
    pub fn settle(&self) {
        wait_for("no mount and no server", || self.mounts().is_empty() && !self.is_at_work());
    }

    /// Tells whether any process that runs slotfs was started in this home.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let home = [b"HOME=", self.root.as_os_str().as_encoded_bytes()].concat();
        let started_here = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_ours(pid) && environment.split(|&byte| byte == 0).any(|variable| variable == home)
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).any(started_here)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = (self.mounts(), self.servers());
        for &server in &left.1 {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
        for _ in 0..3 {
            for mount in self.mounts().iter().rev() {
                let _ = slotfs_fs::driver::unmount(mount, true);
            }
        }
        if !self.mounts().is_empty() {
            // Never delete through a mount that could not be taken away.
            if let Some(folder) = self.folder.take() {
                let _ = folder.keep();
            }
        }
        if !std::thread::panicking() {
            assert!(left.0.is_empty(), "mounts were left: {:?}", left.0);
            assert!(left.1.is_empty(), "serving processes were left: {:?}", left.1);
        }
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Done {
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self::from(child.wait_with_output().unwrap())
    }

    /// Runs `command` to its end, which has to come within `limit`.
    ///
    /// # Panics
    /// It does not end; it is killed then.
    #[track_caller]
    pub fn within(limit: Duration, command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(limit) else {
            // Not waited for yet, so the number is still its own.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = receiver.recv_timeout(PATIENCE);
            panic!("not ended after {} s: {command:?}", limit.as_secs());
        };
        waiting.join().unwrap().unwrap();
        Self::from(output.unwrap())
    }

    /// Returns the run if it succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Returns the run if it ended with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        Self {
            code: code.unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program that runs beside the test, killed with it.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
}

impl Running {
    /// Starts `command` with pipes at all three ends.
    pub fn start(command: &mut Command) -> Self {
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child) }
    }

    /// Returns its process number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().cast_signed())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Reads its standard output up to the end of the line.
    pub fn line(&mut self) -> String {
        let output = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, text: &str) {
        use std::io::Write as _;
        self.child.as_mut().unwrap().stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(mut self) -> Done {
        let mut child = self.child.take().unwrap();
        drop(child.stdin.take());
        child.wait_with_output().unwrap().into()
    }

    /// Tells whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until `condition` holds, or fails the test with `what` was waited for.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(condition), "waited in vain for: {what}");
}

/// Waits until `condition` holds; tells whether it does.
#[must_use]
pub fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Tells whether the process runs slotfs, and not something that got its number since.
#[must_use]
pub fn is_ours(pid: i32) -> bool {
    // A killed process that nobody waited for has no executable any more.
    let Ok(now) = std::fs::metadata(format!("/proc/{pid}/exe")) else { return false };
    let ours = std::fs::metadata(binary()).unwrap();
    (now.dev(), now.ino()) == (ours.dev(), ours.ino())
}

/// Returns every mount below `folder`, from the kernel's table, in the order in which they were made.
#[must_use]
pub fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap();
    let lines = table.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4).map(unescape))
        .filter(|mount| mount.starts_with(folder))
        .collect()
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits =
            rest.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &rest[3..];
            }
            None => bytes.push(byte),
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Starts a package whose program is this shell script. It may hold no single quote; `{workenv}` is replaced in it, and
/// further arguments are its `$0`, `$1`, ….
#[must_use]
pub fn shell_package(name: &str, script: &str) -> PackageBuilder {
    assert!(!script.contains('\''), "the command line would end there");
    PackageBuilder::new(name, "1.0").command(&format!("/bin/sh -c '{script}'"))
}

/// Returns a setup command that runs this shell script, which may hold no single quote.
#[must_use]
pub fn setup_script(script: &str) -> serde_json::Value {
    assert!(!script.contains('\''), "the command line would end there");
    serde_json::json!({ "type": "execute", "command": format!("/bin/sh -c '{script}'") })
}
