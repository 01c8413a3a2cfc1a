//! The package builder of the test harness puts things where the format says, checked by hand-written numbers.

use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree, codes_of, compress};

#[test]
fn a_built_package_has_its_parts_where_the_index_says() {
    let built = PackageBuilder::new("demo", "1.0")
        .gap(8192)
        .alignment(4096)
        .slot(SlotSpec::tree("tree", "tar.gzip", Tree::new().file("a", 0o644, b"x")))
        .slot(SlotSpec::file("file", "b", "raw", b"content").permissions(0o4755).lifecycle("lazy", 6))
        .build();
    let block = &built.bytes[built.bytes.len() - 8196..built.bytes.len() - 4];
    let number = |offset: usize| u64::from_le_bytes(block[offset..offset + 8].try_into().unwrap());
    assert_eq!(number(8), built.bytes.len() as u64);
    assert_eq!(number(24), built.metadata.start as u64);
    assert_eq!(number(40), built.table.start as u64);
    assert_eq!(number(48), 128);
    let second = &built.bytes[built.descriptor(1)];
    let offset = u64::from_le_bytes(second[16..24].try_into().unwrap()) as usize;
    assert_eq!(offset % 4096, 0);
    assert_eq!(&built.bytes[offset..offset + 7], b"content");
    assert_eq!(second[56..], [0, 6, 1, 0, 0, 0, 0xED, 0x09]);
    let first = &built.bytes[built.descriptor(0)];
    assert_eq!(first[40..48], [0x01_u8, 0x10, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn chains_are_spelt_in_the_order_of_building() {
    assert_eq!(codes_of("tar.zstd"), [0x01_u8, 0x1B]);
    assert!(codes_of("raw").is_empty());
    assert_eq!(compress("raw", b"abc"), b"abc");
    assert_eq!(compress("zstd", b"abc")[..4], [0x28, 0xB5, 0x2F, 0xFD]);
}
