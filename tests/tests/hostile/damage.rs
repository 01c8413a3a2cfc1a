//! Packages cut and changed, by accident and on purpose.
//!
//! The reader's own tests change every byte; here a sample goes through the whole program.

use sha2::{Digest as _, Sha256};
use slotfs_tests::command::{Home, missing_fuse};
use slotfs_tests::package::{Built, descriptor, fix_index_checksum, index};

use super::support::{TEXT, all_refuse, application, nothing_left, says, slotfs, with_package};

#[test]
fn a_truncated_package_is_refused_wherever_it_ends() {
    let home = Home::new();
    let built = application().build();
    let all = built.bytes.len();
    let cut = home.path("cut.psp");
    for length in [1, 3, 4, 100, all / 2, built.slots[0].start + 5, all - 8200, all - 4100, all - 1] {
        std::fs::write(&cut, &built.bytes[..length]).unwrap();
        all_refuse(&home, &cut, 102, &["cut.psp`", "is not a package", "get it again"]);
    }
    std::fs::write(&cut, [&built.bytes[..], b"\n"].concat()).unwrap();
    all_refuse(&home, &cut, 102, &["cut.psp`", "is not a package"]);
}

/// Offsets all over the parts that are parsed, some of the slots, and some that mean nothing.
fn sample(built: &Built) -> Vec<usize> {
    let mut offsets = vec![0, built.metadata.start - 1, built.trailer.start, built.trailer.end - 1];
    offsets.extend(
        [0, 4, 8, 16, 24, 32, 40, 48, 56, 60, 64, 96, 128, 640, 1376, 1568, 8191]
            .map(|o| built.index.start + o),
    );
    offsets.extend([0, 3, 9, 40, built.metadata.len() - 1].map(|o| built.metadata.start + o));
    offsets.extend([0, 8, 16, 24, 32, 40, 48, 56, 57, 58, 59, 60, 62, 63].map(|o| built.table.start + o));
    let slot = built.slots[0].clone();
    offsets.extend([slot.start, slot.start + 10, slot.start + slot.len() / 2, slot.end - 5, slot.end - 1]);
    offsets.push(built.slots[1].start + 2);
    offsets
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_changes_nothing() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let built = application().build();
    let path = home.path("app.psp");
    let mut refused = 0;
    for (number, offset) in sample(&built).into_iter().enumerate() {
        let mut flipped = built.clone();
        flipped.bytes[offset] ^= 1 << (number % 8);
        flipped.write(&path);
        let done = slotfs(&home, ["run", path.to_str().unwrap()]);
        if done.code == 0 {
            assert_eq!(done.stdout, TEXT, "byte {offset}");
            continue;
        }
        refused += 1;
        assert!([102, 107].contains(&done.code), "byte {offset}: {} {}", done.code, done.stderr);
        assert_eq!(done.stdout, "", "byte {offset}: something ran");
        assert!(done.stderr.contains("app.psp`"), "byte {offset}: {}", done.stderr);
        nothing_left(&home, "run");
    }
    // All but the launcher's byte, padding, and what a descriptor says that nobody uses.
    assert!(refused >= 30, "only {refused} were refused");
}

/// The one change that every other reader lets pass: data changed, and the unsigned descriptor made to fit.
#[test]
fn changed_data_with_a_fixed_up_descriptor_is_refused_by_every_command() {
    let home = Home::new();
    for (slot, id) in [(0, "`app`"), (1, "`settings`")] {
        let built = application().build();
        let path = home.path("forged.psp");
        forged(built, slot).write(&path);
        let words = ["forged.psp", id, "not what the metadata promises (SHA-256)", "get it again"];
        for command in ["run", "mount", "extract"] {
            let done = with_package(&home, command, &path);
            says(&done, command, 107, &words);
            nothing_left(&home, command);
        }
        says(
            &with_package(&home, "verify", &path),
            "verify",
            107,
            &["forged.psp", id, "not the signed one", words[2]],
        );
        for level in ["standard", "relaxed", "minimal", "none"] {
            let done = slotfs(&home, ["run", "--verify", level, path.to_str().unwrap()]);
            says(&done, level, 107, &words);
        }
    }
}

/// Changes a byte of the slot and makes the descriptor fit.
fn forged(mut built: Built, slot: usize) -> Built {
    let place = built.slots[slot].clone();
    built.bytes[place.start + 2] ^= 1;
    let checksum = Sha256::digest(&built.bytes[place]);
    built.with_descriptor(slot, |row| row[descriptor::CHECKSUM..][..8].copy_from_slice(&checksum[..8]))
}

/// What an earlier verification found is not believed about a file that was changed since, also when the change hides
/// behind the old size and time.
#[test]
fn a_forgery_behind_a_remembered_verification_is_refused() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = home.package("app.psp", application());
    // Only a file that has rested can be remembered.
    std::thread::sleep(std::time::Duration::from_millis(100));
    for _ in 0..2 {
        assert_eq!(slotfs(&home, ["run", path.to_str().unwrap()]).success().stdout, TEXT);
    }
    let remembered = std::fs::read_dir(home.cache().join(".slotfs/verified-v1")).unwrap().count();
    assert_eq!(remembered, 1);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let times = std::fs::FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
    let bytes = forged(application().build(), 1).bytes;
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    file.set_times(times).unwrap();
    all_refuse(&home, &path, 107, &["settings"]);
}

#[test]
fn a_package_signed_by_nobody_or_wrongly_is_refused() {
    let home = Home::new();
    let path = home.path("app.psp");
    application().build().with_index(|block| block[index::SIGNATURE + 3] ^= 1).write(&path);
    all_refuse(&home, &path, 107, &["app.psp", "signature"]);
    application().build().with_index(|block| block[index::SIGNATURE..][..64].fill(0)).write(&path);
    all_refuse(&home, &path, 107, &["app.psp", "sign"]);
    // A text that somebody else would like to be run.
    let original = application().build();
    let signature = original.bytes[original.index.start + index::SIGNATURE..][..64].to_vec();
    let text = String::from_utf8(original.json).unwrap().replace("cat ", "rm  ");
    let built = application().json_text(text).build();
    let mut built = built.with_index(|block| block[index::SIGNATURE..][..64].copy_from_slice(&signature));
    fix_index_checksum(&mut built.bytes);
    built.write(&path);
    all_refuse(&home, &path, 107, &["app.psp", "signature"]);
}
