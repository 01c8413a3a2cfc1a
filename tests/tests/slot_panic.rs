//! A decoder that panics: whoever waits for its slot hears of it. The panic is a log's, at the end of the pass, because no
//! decoder is known to have one.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt::Debug;
use std::time::Duration;

use slotfs_fs::layer::{LayerError, SlotOptions};
use slotfs_fs::package::{Compression, Container};
use slotfs_tests::archive::{Cache, TarMaker, compress, slot_of};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics when the end of a pass is told.
struct Breaking;

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Breaking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("slotfs_fs::slot")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        assert_ne!(message.0, "indexed", "the panic that is wanted here");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_pass_that_panics_ends_for_those_who_wait_for_it() {
    tracing::subscriber::set_global_default(Breaking).unwrap();
    let cache = Cache::new();
    let bytes = TarMaker::default().file("a", b"content").finish();
    let path = cache.file("slot", &compress(Compression::Gzip, &bytes));
    let slot = slot_of(&path, Container::Tar, &[Compression::Gzip]);
    let layer = cache.open(&slot, SlotOptions::default());
    assert!(layer.wait_for(Duration::from_secs(20)), "it would be waited for without end");
    let error = layer.wait_until_settled().unwrap_err();
    assert!(matches!(&error, LayerError::Corrupt { reason, .. } if reason.contains("panicked")), "{error}");
}
