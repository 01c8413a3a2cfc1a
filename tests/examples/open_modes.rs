//! How long walking and reading a tree of small files takes, warm, for each way of opening files, beside a plain
//! directory. By hand: `cargo run --release --example open_modes`.

fn main() {
    #[cfg(unix)]
    measure::main();
}

#[cfg(unix)]
#[expect(clippy::print_stdout, reason = "a program that shows figures")]
mod measure {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use slotfs_fs::driver::OpenMode;
    use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
    use slotfs_tests::mounted::{Mounted, Writable, volume};

    const FILES: usize = 22_000;
    const ROUNDS: usize = 7;

    fn path(number: usize) -> String {
        format!("package{}/module{}/file{number}.py", number % 40, number % 11)
    }

    fn content(number: usize) -> Vec<u8> {
        vec![b'#'; 500 + number % 9000]
    }

    fn tree() -> MemoryLayerBuilder {
        (0..FILES)
            .fold(MemoryLayer::builder(), |layer, number| layer.file(path(number), 0o644, content(number)))
    }

    /// Returns the first and the best later time of a command.
    fn time(place: &Path, command: &str) -> (Duration, Duration) {
        let mut times = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            let status =
                Command::new("sh").args(["-c", command]).current_dir(place).stdout(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()), "{command}");
            start.elapsed()
        });
        (times.next().unwrap_or_default(), times.min().unwrap_or_default())
    }

    fn measure(name: &str, place: &Path) {
        let commands = [
            ("find", "find . -printf x"),
            ("cat", "find . -type f -print0 | xargs -0 cat"),
            (
                "python",
                "python3 -c 'import os\nfor r,_,f in os.walk(\".\"):\n for n in f: open(os.path.join(r,n),\"rb\").read()'",
            ),
        ];
        for (what, command) in commands {
            let (first, best) = time(place, command);
            println!("{name:<28} {what:<8} first {first:>10.1?}   warm {best:>10.1?}");
        }
    }

    pub(super) fn main() {
        let plain = tempfile::tempdir().expect("a temporary directory");
        for number in 0..FILES {
            let file = plain.path().join(path(number));
            std::fs::create_dir_all(file.parent().unwrap_or(plain.path())).expect("a directory");
            std::fs::write(file, content(number)).expect("a file");
        }
        measure("plain directory", plain.path());
        for (name, mode) in
            [("read-only, no opens", OpenMode::Automatic), ("read-only, opens", OpenMode::Requests)]
        {
            if let Some(mounted) = Mounted::with(volume(tree()), |options| options.open = mode) {
                measure(name, mounted.root());
                println!("{:?}", mounted.statistics().by_operation());
            }
        }
        if let Some(writable) = Writable::new(tree(), OpenMode::Requests) {
            measure("writable, opens", writable.root());
        }
        for (name, mode) in
            [("upper, opens", OpenMode::Requests), ("upper, passthrough", OpenMode::Passthrough)]
        {
            let Some(writable) = Writable::new(MemoryLayer::builder(), mode) else { return };
            let copied = Command::new("cp")
                .args(["-r", "--"])
                .arg(plain.path().join("."))
                .arg(writable.root())
                .status();
            assert!(copied.is_ok_and(|status| status.success()));
            measure(name, writable.root());
        }
    }
}
