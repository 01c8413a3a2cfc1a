//! How much memory decoding takes.

use std::io::Write as _;

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{SlotSpec, Tree, codes_of};

/// Binary logarithm of what a decoder of these slots must remember.
const WINDOW: u32 = 25;
const SLOTS: usize = 5;

/// Content that takes a while to decode, so that those who decode at the same time meet.
fn content() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Four values, so that it is compressed.
        (state & 0x0303_0303_0303_0303).to_le_bytes()
    };
    (0..((1 << WINDOW) + (8 << 20)) / 8).flat_map(|_| next()).collect()
}

/// A slot whose decoder fills its whole window.
fn slot(number: usize, content: &[u8]) -> SlotSpec {
    let archive = Tree::new().file(format!("file-{number}"), 0o644, content).archive();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(WINDOW).unwrap();
    encoder.write_all(&archive).unwrap();
    let name = format!("slot-{number}");
    SlotSpec::stored(&name, "{workenv}", &codes_of("tar.zstd"), &encoder.finish().unwrap())
}

/// The most that the server ever had resident, in bytes (`VmHWM`, proc_pid_status(5)).
fn most_resident(server: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_bound_on_memory_holds_for_all_slots_together_and_refuses_what_needs_more() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let content = content();
    let package =
        (0..SLOTS).fold(shell_package("app", "true"), |package, number| package.slot(slot(number, &content)));
    let package = home.package("app.psp", package);
    let package = package.to_str().unwrap();
    let mounted = |flags: &[&str]| {
        home.run(["mount", package].iter().chain(flags)).success();
        let names = std::fs::read_dir(home.workenv("app")).unwrap().count();
        let most = most_resident(home.servers()[0]);
        home.run(["unmount", "app"]).success();
        // The next mount makes its indexes itself.
        std::fs::remove_dir_all(home.cache().join(".slotfs/indexes-v1")).unwrap();
        (names, most >> 20)
    };
    let (names, most) = mounted(&["--decode-memory", "96MiB"]);
    // The window of one decoder at a time, and what every server takes.
    assert!(names == SLOTS && most < 62, "{names} names, {most} MiB");
    // Without a bound, as many at a time as there are processors.
    let processors = std::thread::available_parallelism().unwrap().get();
    let (names, most) = mounted(&[]);
    assert!(
        names == SLOTS && (most > 66 || processors == 1),
        "{most} MiB without a bound: this proves nothing"
    );

    let refused = home.run(["warm", package, "--decode-memory", "48MiB"]).code(107);
    assert!(refused.stderr.contains("too much memory for decoding"), "{}", refused.stderr);
    home.run(["warm", package]).success();
    home.run(["unmount", "app"]).success();
}
