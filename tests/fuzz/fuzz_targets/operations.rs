//! Bytes to descriptors, operation chains, targets and checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slotfs_fs::package::descriptor::Descriptor;
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::{StatedChecksum, target, trailer::Index};

fuzz_target!(|input: &[u8]| {
    let rows = Descriptor::table(input);
    assert_eq!(rows.len(), input.len() / 64);
    for row in rows {
        if let Ok(chain) = Chain::unpack(row.operations.get()) {
            assert!(chain.compressions().len() <= 8);
            assert!(!chain.to_string().is_empty());
        }
    }
    let _ = Index::parse(input);
    let text = String::from_utf8_lossy(input);
    if let Ok(components) = target::components(&text) {
        for name in components {
            assert!(!name.is_empty() && name != b"." && name != b".." && name.len() <= 255);
            assert!(!name.contains(&b'/') && !name.contains(&0));
        }
    }
    let name = target::fallback_name(7, &text);
    assert!(name.starts_with(b"slot_7_") && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0));
    let _ = StatedChecksum::parse(&text);
});
