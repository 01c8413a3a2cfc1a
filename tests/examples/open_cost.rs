//! What one open, read and close costs, for each way of opening a file and several sizes. By hand:
//! `cargo run --release --example open_cost`.

fn main() {
    #[cfg(unix)]
    measure::main();
}

#[cfg(unix)]
#[expect(clippy::print_stdout, reason = "a program that shows figures")]
mod measure {
    use std::io::Read;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use slotfs_fs::driver::OpenMode;
    use slotfs_fs::layer::memory::MemoryLayer;
    use slotfs_tests::mounted::{Mounted, Writable, volume};

    const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 16 << 20];

    fn name(size: usize) -> String {
        format!("file{size}")
    }

    /// Returns the time of one open, read to the end and close, best of many batches.
    fn once(path: &Path, size: usize) -> Duration {
        let repeat = (4_usize << 20).div_ceil(size).clamp(3, 300) as u32;
        let mut buffer = vec![0; size.min(1 << 20)];
        let mut batch = || {
            let start = Instant::now();
            for _ in 0..repeat {
                let mut file = std::fs::File::open(path).expect("it opens");
                while file.read(&mut buffer).expect("it reads") > 0 {}
            }
            start.elapsed() / repeat
        };
        (0..40).map(|_| batch()).min().unwrap_or_default()
    }

    fn measure(title: &str, place: &Path) {
        let times = SIZES.map(|size| format!("{:>9.1?}", once(&place.join(name(size)), size)));
        println!("{title:<24} {}", times.join(" "));
    }

    fn fill(place: &Path) {
        for size in SIZES {
            std::fs::write(place.join(name(size)), vec![7; size]).expect("a file");
        }
    }

    pub(super) fn main() {
        println!("{:<24} {}", "bytes", SIZES.map(|size| format!("{size:>9}")).join(" "));
        let plain = tempfile::tempdir().expect("a temporary directory");
        fill(plain.path());
        measure("plain directory", plain.path());
        let layer = || {
            SIZES
                .iter()
                .fold(MemoryLayer::builder(), |layer, &size| layer.file(name(size), 0o644, vec![7; size]))
        };
        for (title, mode) in [("no opens", OpenMode::Automatic), ("opens, cached", OpenMode::Requests)] {
            if let Some(mounted) = Mounted::with(volume(layer()), |options| options.open = mode) {
                measure(title, mounted.root());
            }
        }
        for (title, mode) in
            [("upper, cached", OpenMode::Requests), ("upper, passthrough", OpenMode::Passthrough)]
        {
            let Some(writable) = Writable::new(MemoryLayer::builder(), mode) else { return };
            fill(writable.root());
            measure(title, writable.root());
        }
    }
}
