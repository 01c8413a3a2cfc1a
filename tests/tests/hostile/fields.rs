//! Fields that claim more than there is, parts that overlap, and lists without end.

use std::time::Duration;

use slotfs_tests::command::{Done, Home, missing_fuse, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, descriptor, index, put_u32, put_u64};

use super::support::{all_refuse, application, says, slotfs};

#[test]
fn fields_that_claim_more_than_there_is_are_refused() {
    let home = Home::new();
    let path = home.path("app.psp");
    for value in [1 << 40, (1 << 63) - 1, u64::MAX] {
        for (field, part) in [
            (index::PACKAGE_SIZE, "index says"),
            (index::LAUNCHER_SIZE, "launcher"),
            (index::METADATA_OFFSET, "metadata"),
            (index::METADATA_SIZE, "metadata"),
            (index::SLOT_TABLE_OFFSET, "slot table"),
            (index::SLOT_TABLE_SIZE, "slot table"),
        ] {
            application().build().with_index(|block| put_u64(block, field, value)).write(&path);
            let done = slotfs(&home, ["run", path.to_str().unwrap()]);
            says(&done, part, 102, &["app.psp", part, &value.to_string()]);
        }
        for field in [descriptor::OFFSET, descriptor::STORED_SIZE] {
            application().build().with_descriptor(1, |row| put_u64(row, field, value)).write(&path);
            all_refuse(&home, &path, 102, &["app.psp", "slot 1", &value.to_string()]);
        }
    }
    application().build().with_index(|block| put_u32(block, index::SLOT_COUNT, u32::MAX)).write(&path);
    all_refuse(&home, &path, 102, &["app.psp", "4294967295 slots"]);
}

#[test]
fn overlapping_slots_are_refused() {
    let home = Home::new();
    let path = home.path("app.psp");
    let built = application().build();
    let first = built.slots[0].start as u64;
    for (offset, other) in [(first + 1, "slot 0"), (built.table.start as u64, "slot table")] {
        built.clone().with_descriptor(1, |row| put_u64(row, descriptor::OFFSET, offset)).write(&path);
        all_refuse(&home, &path, 102, &["app.psp", "overlap", "slot 1", other]);
    }
}

#[test]
fn targets_and_operations_that_cannot_be_are_refused() {
    let home = Home::new();
    let path = home.path("app.psp");
    for (target, reason) in [
        ("../outside", "leaves the work environment"),
        ("{workenv}/a/../../b", "leaves the work environment"),
        ("/etc/slotfs-test", "absolute"),
    ] {
        PackageBuilder::new("app", "1").slot(SlotSpec::file("a", target, "raw", b"x")).write(&path);
        all_refuse(&home, &path, 102, &["app.psp", target, reason]);
    }
    for code in [0x02, 0x31, 0xFF] {
        PackageBuilder::new("app", "1").slot(SlotSpec::stored("a", "a", &[code], b"x")).write(&path);
        all_refuse(&home, &path, 102, &["app.psp", "slot 0", &format!("{code:#04x}")]);
    }
}

#[test]
fn metadata_nested_a_hundred_levels_deep_is_refused() {
    let home = Home::new();
    let path = home.path("app.psp");
    for levels in [100, 1_000_000] {
        let json = format!(r#"{{"policy": {}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        PackageBuilder::new("app", "1").json_text(json).write(&path);
        all_refuse(&home, &path, 102, &["app.psp", "nested deeper than the limit of 64 levels"]);
    }
}

/// As many slots as the format's Go launcher takes, each a file of its own.
#[test]
fn sixty_five_thousand_slots_are_served() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let count: usize = 65_535;
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let slots: Vec<String> = (0..count)
        .map(|number| {
            format!(
                r#"{{"slot": {number}, "id": "s{number}", "target": "{}/{number}", "checksum": "sha256:{digest}"}}"#,
                number % 256
            )
        })
        .collect();
    let script = "ls {workenv}/7 | wc -l; wc -c < {workenv}/254/65534";
    let json = format!(
        r#"{{"format": "PSPF/2025", "package": {{"name": "many", "version": "1"}}, "slots": [{}],
            "execution": {{"command": "/bin/sh -c '{script}'"}}}}"#,
        slots.join(",")
    );
    let empty = [0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14];
    let package =
        shell_package("many", "true").json_text(json).extra_descriptors(count).edit_table(move |table| {
            for (number, row) in table.chunks_mut(descriptor::SIZE).enumerate() {
                row.fill(0);
                put_u64(row, descriptor::ID, number as u64);
                row[descriptor::CHECKSUM..][..8].copy_from_slice(&empty);
            }
        });
    let path = home.package("many.psp", package);
    // Seconds on an idle machine, most of them for the metadata of 8 MB.
    let mut command = home.slotfs(["run", path.to_str().unwrap()]);
    let done = Done::within(Duration::from_secs(100), &mut command).success();
    assert_eq!(done.stdout, "256\n0\n");
}
