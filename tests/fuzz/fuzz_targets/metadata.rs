//! Bytes to the metadata's two parsers: decompression and JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slotfs_fs::package::Limits;
use slotfs_fs::package::metadata::{Metadata, decompress};

fuzz_target!(|input: &[u8]| {
    let limits = Limits { metadata_size: 1 << 20, ..Limits::default() };
    if let Ok(json) = decompress(input, &limits) {
        assert!(json.len() <= 1 << 20);
        let _ = Metadata::parse(&json, &limits);
    }
    if let Ok(metadata) = Metadata::parse(input, &limits) {
        // What was read can be written, and reads as the same.
        let written = serde_json::to_vec(&metadata).expect("plain data");
        let again = Metadata::parse(&written, &limits).expect("as deep as what was read");
        assert_eq!(again.package.name, metadata.package.name);
        assert_eq!(again.slots.len(), metadata.slots.len());
        assert_eq!(again.setup_commands.len(), metadata.setup_commands.len());
    }
});
