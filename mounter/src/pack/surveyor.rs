//! The index of a slot, made while the slot is written: what goes to the compressor goes to a second thread, too.

use std::io::{self, Write};
use std::thread::JoinHandle;

use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::write::WrittenSlot;
use slotfs_fs::slot::index::{Identity, Index};
use slotfs_fs::slot::pass::{self, Feed, Survey};
use slotfs_fs::slot::{Limits, SlotError};
use slotfs_fs::worker;

/// A thread that goes over a slot's content.
pub(super) struct Surveyor {
    feed: Feed,
    thread: JoinHandle<(Survey, Result<u64, SlotError>)>,
}

impl Surveyor {
    pub(super) fn start(chain: &Chain, limits: Limits) -> io::Result<Self> {
        let (feed, content) = pass::feed();
        let survey = Survey::new(&chain.container(), limits);
        let thread = worker::spawn("survey", move || {
            let length = survey.run(content);
            (survey, length)
        })?;
        Ok(Self { feed, thread })
    }

    /// Tells the thread that all content has come, and makes the index of the slot as it was `written`; with `None`, where
    /// writing failed, says whether that was because of the thread.
    pub(super) fn finish(
        self,
        chain: &Chain,
        written: Option<&WrittenSlot>,
    ) -> Result<Option<Index>, SlotError> {
        self.feed.end();
        let gone = || SlotError::PassFailed { reason: "the thread that makes the index has ended".into() };
        let (survey, length) = self.thread.join().map_err(|_| gone())?;
        let Some(written) = written else { return length.map(|_| None) };
        let identity = Identity::new(&chain.container(), &chain.compressions(), written.size, written.digest);
        let compression = chain.compressions().first().copied();
        survey.finish(&identity, compression, written, length?).map(Some)
    }

    /// Returns a writer to `out` that this thread reads along.
    pub(super) fn beside<'a>(&'a mut self, out: &'a mut dyn Write) -> Beside<'a> {
        Beside { out, feed: &mut self.feed }
    }
}

/// Writes to two places.
pub(super) struct Beside<'a> {
    out: &'a mut dyn Write,
    feed: &'a mut Feed,
}

impl Write for Beside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.feed.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
