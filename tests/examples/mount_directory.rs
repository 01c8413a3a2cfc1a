//! Mounts a directory of the host, writable over an upper directory, as conformance suites need it.
//!
//! `mount_directory [--settled] [--requests] LOWER UPPER WORK MOUNTPOINT`
//!
//! `--settled` reads the directory into memory first, so that it is immutable as a package is; `--requests` does
//! without kernel passthrough. Prints `ready`; then each line of standard input is answered with the counts of what
//! the server holds, and its end unmounts.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "a program that shows figures")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use slotfs_fs::driver::{self, MountOptions, OpenMode, Served};
use slotfs_fs::layer::Layer;
use slotfs_fs::layer::directory::DirectoryLayer;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{PlacedLayer, Volume, VolumeOptions};
use slotfs_tests::tree;

fn main() -> Result<(), Box<dyn Error>> {
    let (switches, places): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [lower, upper, work, mountpoint] = &places[..] else {
        return Err("usage: mount_directory [--settled] [--requests] LOWER UPPER WORK MOUNTPOINT".into());
    };
    let has = |name: &str| switches.iter().any(|switch| switch == name);
    let lower = Path::new(lower);
    let layer: Arc<dyn Layer> = if has("--settled") {
        Arc::new(tree::layer(lower).build()?)
    } else {
        Arc::new(DirectoryLayer::open(lower)?)
    };
    let placed = PlacedLayer { name: "directory".into(), layer, target: Vec::new(), writable: true };
    let upper = Upper::open(Path::new(upper), Path::new(work))?;
    let volume = Arc::new(Volume::new(
        vec![placed],
        Some(upper),
        VolumeOptions { devices: true, ..VolumeOptions::default() },
    )?);
    let mut options = MountOptions::new(lower);
    (options.devices, options.set_id) = (true, true);
    if has("--requests") {
        options.open = OpenMode::Requests;
    }
    let served = driver::serve(Arc::clone(&volume), Path::new(mountpoint), &options)?;
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        report(&volume, &served);
    }
    let statistics = served.statistics();
    served.unmount(false)?;
    served.join()?;
    println!(
        "handles {} nodes {} panics {}",
        volume.open_handles(),
        volume.known_nodes(),
        statistics.panics()
    );
    Ok(())
}

fn report(volume: &Volume, served: &Served) {
    let statistics = served.statistics();
    let requests: Vec<_> = statistics
        .by_operation()
        .into_iter()
        .map(|(operation, count)| format!("{} {count}", operation.name()))
        .collect();
    println!(
        "handles {} nodes {} panics {} read {} written {}; {}",
        volume.open_handles(),
        volume.known_nodes(),
        statistics.panics(),
        statistics.bytes_read(),
        statistics.bytes_written(),
        requests.join(", ")
    );
}
