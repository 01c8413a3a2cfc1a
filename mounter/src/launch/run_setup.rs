//! Setup carried out, step by step, in the environment's final place. What a command prints is kept for the
//! error alone.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use slotfs_fs::disk::Context;

use super::setup::{Action, Step};
use super::{LaunchError, Program, command_line, inside, pattern};
use crate::host::{files, program};
use crate::settings::Environment;

/// How much of a command's output is kept: its end.
const KEPT_OUTPUT: usize = 64 << 10;
/// How long to wait for the last output of a command that has ended, when something it started still holds
/// its outputs open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Carries out the steps in order and stops at the first that fails. `told` hears of each before it starts.
pub(super) fn run(
    program: &Program<'_>,
    environment: &Environment,
    steps: &[Step],
    mut told: impl FnMut(&Step),
) -> Result<(), LaunchError> {
    for step in steps {
        told(step);
        match &step.action {
            Action::Execute { words } => execute(program, environment, step.position, words)?,
            Action::ExecuteEach { words, path, pattern } => {
                for found in enumerate(program.workenv, Path::new(path), pattern)? {
                    let mut words = words.clone();
                    words.push(found.into_os_string());
                    execute(program, environment, step.position, &words)?;
                }
            }
            Action::Write { path, content, mode } => write(program.workenv, Path::new(path), content, *mode)?,
            Action::ChangeMode { path, mode } => change_mode(program.workenv, Path::new(path), *mode)?,
        }
    }
    Ok(())
}

fn enumerate(workenv: &Path, path: &Path, wanted: &str) -> Result<Vec<PathBuf>, LaunchError> {
    let base = inside::locate(workenv, path, "the enumerated directory")?;
    // Only to refuse `..`: the pattern itself is matched part by part.
    inside::locate(workenv, &base.join(wanted), "the pattern")?;
    Ok(pattern::paths(&base, wanted)?)
}

fn write(workenv: &Path, path: &Path, content: &OsStr, mode: Option<u32>) -> Result<(), LaunchError> {
    let path = inside::locate(workenv, path, "the file to write")?;
    if let Some(parent) = path.parent() {
        files::create_directories(parent).context("create the directory", parent)?;
    }
    std::fs::write(&path, files::path_bytes(Path::new(content))).context("write", &path)?;
    if let Some(mode) = mode {
        files::set_mode(&path, mode).context("set the mode of", &path)?;
    }
    Ok(())
}

/// Directories are left alone, and so is what a link outside leads to.
fn change_mode(workenv: &Path, path: &Path, mode: u32) -> Result<(), LaunchError> {
    let plain = inside::locate(workenv, path, "the path to chmod")?;
    let below = plain.strip_prefix(workenv).unwrap_or(Path::new(""));
    let parts: Vec<_> = below.iter().map(OsStr::to_string_lossy).collect();
    for file in pattern::paths(workenv, &parts.join("/"))? {
        // A dangling link has no mode to set.
        let is_file = std::fs::metadata(&file).is_ok_and(|known| known.is_file());
        if is_file && inside::stays_inside(workenv, &file)? {
            // In a mount every change copies the file up; what is right already stays in its slot.
            if files::mode(&file).context("examine", &file)? != Some(mode) {
                files::set_mode(&file, mode).context("set the mode of", &file)?;
            }
        } else {
            tracing::debug!(path = %file.display(), "left its mode as it is");
        }
    }
    Ok(())
}

fn execute(
    program: &Program<'_>,
    environment: &Environment,
    position: usize,
    words: &[OsString],
) -> Result<(), LaunchError> {
    let Some((first, arguments)) = words.split_first() else { return Ok(()) };
    let executable =
        super::find_program(first, program.workenv, &environment.search_path(), environment.family())?;
    let shown = || command_line::join(words.iter().map(OsString::as_os_str));
    let not_started = |source| LaunchError::SetupStart { position, command: shown(), source };

    let (reader, writer) = std::io::pipe().map_err(not_started)?;
    let mut command = Command::new(&executable);
    command.args(arguments).env_clear().envs(environment.variables()).stdin(Stdio::null());
    command.stdout(writer.try_clone().map_err(not_started)?).stderr(writer);
    // Setup that goes on after slotfs was killed would write into what the next start prepares.
    program::die_with_this_process(&mut command);
    let output = Output::collect(reader).map_err(not_started)?;
    let mut child = command.spawn().map_err(not_started)?;
    // The command holds our ends of the pipe; without them its end is seen when the child has ended.
    drop(command);
    let status = child.wait().map_err(not_started)?;
    if status.success() {
        return Ok(());
    }
    Err(LaunchError::SetupFailed {
        position,
        command: shown(),
        status: describe(status),
        output: output.end(),
    })
}

fn describe(status: ExitStatus) -> String {
    // `ExitStatus` prints itself as `exit status: 3` or `signal: 9 (SIGKILL)`.
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

/// The end of what a command printed, read by a thread of its own so that the command never waits for us.
struct Output {
    kept: Arc<Mutex<VecDeque<u8>>>,
    done: mpsc::Receiver<()>,
}

impl Output {
    fn collect(mut reader: impl Read + Send + 'static) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (finished, done) = mpsc::channel();
        let shared = Arc::clone(&kept);
        let read = move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&piece[..count]);
                let surplus = kept.len().saturating_sub(KEPT_OUTPUT);
                kept.drain(..surplus);
            }
            // Nobody may be waiting any more.
            let _ = finished.send(());
        };
        slotfs_fs::worker::spawn_small("setup-output", read)?;
        Ok(Self { kept, done })
    }

    fn end(self) -> String {
        // Either it is finished, or something in the background keeps the pipe: what there is must do.
        let _ = self.done.recv_timeout(LAST_OUTPUT);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}
