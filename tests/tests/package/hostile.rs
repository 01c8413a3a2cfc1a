//! Packages made to hurt their reader: huge fields, overlaps, overflow, many slots, deep JSON, random bytes.

use std::time::Instant;

use proptest::prelude::*;
use slotfs_fs::package::verify::verify;
use slotfs_tests::package::{
    PackageBuilder, SlotSpec, descriptor, fix_index_checksum, index, put_u32, put_u64,
};

use crate::support::{built, open, refusal, sample};

const HUGE: [u64; 6] = [1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX - 63, u64::MAX];

#[test]
fn huge_fields_of_the_index_end_in_an_error() {
    for field in [
        index::PACKAGE_SIZE,
        index::LAUNCHER_SIZE,
        index::METADATA_OFFSET,
        index::METADATA_SIZE,
        index::SLOT_TABLE_OFFSET,
        index::SLOT_TABLE_SIZE,
    ] {
        for value in HUGE {
            let bytes = built().with_index(|block| put_u64(block, field, value)).bytes;
            assert!(refusal(&bytes).contains(&value.to_string()), "{field} {value}");
        }
    }
    for count in [65_535, u32::MAX] {
        let bytes = built().with_index(|block| put_u32(block, index::SLOT_COUNT, count)).bytes;
        assert!(refusal(&bytes).contains(&format!("{count} slots need")), "{count}");
    }
}

#[test]
fn a_slot_outside_the_file_is_named_with_both_numbers() {
    let available = built().trailer.start;
    for field in [descriptor::OFFSET, descriptor::STORED_SIZE] {
        for value in HUGE.into_iter().chain([available as u64 + 1]) {
            let bytes = built().with_descriptor(2, |row| put_u64(row, field, value)).bytes;
            let refused = refusal(&bytes);
            assert!(refused.starts_with("`app.psp` is damaged: slot 2 should be "), "{refused}");
            let told = format!("but only {available} bytes precede the index");
            assert!(refused.contains(&value.to_string()) && refused.ends_with(&told), "{refused}");
        }
    }
}

#[test]
fn parts_that_overlap_are_named() {
    let original = built();
    let moved = |slot: usize, offset: usize| {
        refusal(
            &original
                .clone()
                .with_descriptor(slot, |row| put_u64(row, descriptor::OFFSET, offset as u64))
                .bytes,
        )
    };
    let first = original.slots[0].start;
    assert_eq!(
        moved(1, first + 1),
        format!("`app.psp` is damaged: slot 0 and slot 1 overlap at offset {}", first + 1)
    );
    let metadata = original.metadata.start;
    assert!(
        moved(1, metadata).contains("the metadata and slot 1 overlap")
            || moved(1, metadata).contains("slot 1 and")
    );
    assert!(moved(1, original.table.start + 8).contains("the slot table and slot 1 overlap"));
    assert!(moved(1, original.trailer.start - 1).contains("slot 1 should be 6 bytes at offset"));
    let table_on_metadata = original.clone().with_index(|block| {
        put_u64(block, index::SLOT_TABLE_OFFSET, metadata as u64 + 1);
    });
    assert!(refusal(&table_on_metadata.bytes).contains("the metadata and the slot table overlap"));
}

#[test]
fn slots_without_bytes_may_claim_to_be_anywhere() {
    let package = PackageBuilder::new("n", "1").slot(SlotSpec::file("a", "a", "raw", b""));
    let built = package.build().with_descriptor(0, |row| put_u64(row, descriptor::OFFSET, u64::MAX));
    let package = open(&built.bytes).unwrap();
    assert!(package.slots()[0].source.stored.is_empty());
    assert!(verify(&package, &|_| {}).unwrap().is_good());
}

#[test]
fn sixty_five_thousand_slots_open() {
    let count = 65_535;
    let slots: Vec<String> =
        (0..count).map(|number| format!(r#"{{"id": "s", "target": "{number}"}}"#)).collect();
    let package = PackageBuilder::new("many", "1")
        .json_text(format!(r#"{{"slots": [{}]}}"#, slots.join(",")))
        .extra_descriptors(count)
        .edit_table(|table| table.fill(0));
    let built = package.build();
    let start = Instant::now();
    let package = open(&built.bytes).unwrap();
    assert_eq!(package.slots().len(), count);
    assert_eq!(package.slots()[65_534].target, [b"65534"]);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_long_list_behind_a_short_table_is_refused() {
    let json = format!(r#"{{"slots": [{}{{}}]}}"#, "{},".repeat(60_000));
    let refused = refusal(&PackageBuilder::new("n", "1").json_text(json).build().bytes);
    assert_eq!(refused, "`app.psp` is damaged: its metadata lists 60001 slots, its slot table has 0");
}

#[test]
fn deeply_nested_metadata_ends_in_an_error() {
    for levels in [100, 5_000, 3_000_000] {
        let json = format!(r#"{{"policy": {}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let refused = refusal(&PackageBuilder::new("n", "1").json_text(json).build().bytes);
        assert_eq!(
            refused, "`app.psp` cannot be used: its metadata is nested deeper than the limit of 64 levels",
            "{levels}"
        );
    }
}

#[test]
fn a_bomb_in_the_metadata_ends_at_the_limit() {
    let json = format!(r#"{{"a": "{}"}}"#, " ".repeat(65 << 20));
    let built = PackageBuilder::new("n", "1").json_text(json).build();
    assert!(built.bytes.len() < 200_000);
    let refused = refusal(&built.bytes);
    assert_eq!(refused, "`app.psp` cannot be used: its metadata is larger than the limit of 67108864 bytes");
}

#[test]
fn hostile_names_cannot_write_control_characters_into_messages() {
    let name = "\u{1b}[2J\u{202e}x".repeat(100);
    let slot = SlotSpec::file(&name, &format!("../{name}"), "raw", b"x");
    let refused = refusal(&PackageBuilder::new("n", "1").slot(slot).build().bytes);
    assert!(!refused.contains('\u{1b}') && !refused.contains('\u{202e}'), "{refused}");
    assert!(refused.len() < 3000, "{}", refused.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is put into a package comes out again, in order.
    #[test]
    fn built_packages_are_read_back(
        slots in prop::collection::vec(
            ("[a-z]{1,8}", prop::sample::select(vec!["raw", "gzip", "bzip2", "xz", "zstd", "gzip.zstd"]),
                prop::collection::vec(any::<u8>(), 0..300), 1_u16..0o7777),
            0..6,
        ),
        alignment in prop::sample::select(vec![1_usize, 8, 4096]),
        gap in prop::sample::select(vec![0_usize, 8192]),
    ) {
        let mut package = PackageBuilder::new("n", "1").alignment(alignment).gap(gap);
        for (name, chain, content, mode) in &slots {
            package = package.slot(SlotSpec::file(name, name, chain, content).permissions(*mode));
        }
        let built = package.build();
        let package = open(&built.bytes).unwrap();
        prop_assert_eq!(package.slots().len(), slots.len());
        let good = verify(&package, &|_| {}).unwrap().is_good();
        prop_assert!(good);
        for ((slot, place), (name, chain, _, mode)) in package.slots().iter().zip(&built.slots).zip(&slots) {
            prop_assert_eq!(&slot.id, name);
            prop_assert_eq!(slot.chain.as_str(), *chain);
            prop_assert_eq!(slot.permissions, u32::from(*mode));
            prop_assert_eq!(slot.source.stored.len(), place.len() as u64);
        }
    }

    /// Any bytes anywhere in the parts that are parsed, checksums made to fit: no panic, and every slot that is
    /// handed out lies before the trailer.
    #[test]
    fn changed_packages_never_hand_out_bytes_outside(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        front in any::<bool>(),
    ) {
        let original = sample().build();
        let mut bytes = original.bytes.clone();
        // The fields that place things: the first of the index, and the table.
        let places: Vec<usize> = if front {
            (original.index.start..original.index.start + 64).collect()
        } else {
            original.table.clone().collect()
        };
        for (place, value) in edits {
            bytes[*place.get(&places)] = value;
        }
        fix_index_checksum(&mut bytes);
        if let Ok(package) = open(&bytes) {
            for slot in package.slots() {
                let stored = &slot.source.stored;
                prop_assert!(stored.offset() + stored.len() <= original.trailer.start as u64);
            }
        }
    }

    /// Random bytes between the marks never break the reader.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..400), tail in any::<bool>()) {
        let mut bytes = noise;
        if tail {
            bytes.extend([0xF0, 0x9F, 0xAA, 0x84]);
        }
        prop_assert!(open(&bytes).is_err());
    }
}
