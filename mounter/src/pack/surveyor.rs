//! The index of a slot, made while the slot is written: what goes to the compressor goes through a pipe to a second
//! thread, too.

use std::io::{self, PipeWriter, Write};
use std::thread::JoinHandle;

use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::write::WrittenSlot;
use slotfs_fs::slot::index::{Identity, Index};
use slotfs_fs::slot::pass::Survey;
use slotfs_fs::slot::{Limits, SlotError};
use slotfs_fs::worker;

/// A thread that goes over a slot's content.
pub(super) struct Surveyor {
    pipe: Option<PipeWriter>,
    thread: JoinHandle<(Survey, Result<u64, SlotError>)>,
}

impl Surveyor {
    pub(super) fn start(chain: &Chain, limits: Limits) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        let survey = Survey::new(&chain.container(), limits);
        let thread = worker::spawn("survey", move || {
            let length = survey.run(Box::new(reader));
            (survey, length)
        })?;
        Ok(Self { pipe: Some(pipe), thread })
    }

    /// Tells the thread that all content has come, and makes the index of the slot as it was `written`; with `None`, where
    /// writing failed, says whether that was because of the thread.
    pub(super) fn finish(
        mut self,
        chain: &Chain,
        written: Option<&WrittenSlot>,
    ) -> Result<Option<Index>, SlotError> {
        drop(self.pipe.take());
        let gone = || SlotError::PassFailed { reason: "the thread that makes the index has ended".into() };
        let (survey, length) = self.thread.join().map_err(|_| gone())?;
        let Some(written) = written else { return length.map(|_| None) };
        let identity = Identity::new(&chain.container(), &chain.compressions(), written.size, written.digest);
        let compression = chain.compressions().first().copied();
        survey.finish(&identity, compression, written, length?).map(Some)
    }

    /// Returns a writer to `out` that this thread reads along.
    pub(super) fn beside<'a>(&'a mut self, out: &'a mut dyn Write) -> Beside<'a> {
        Beside { out, pipe: self.pipe.as_mut() }
    }
}

/// Writes to two places.
pub(super) struct Beside<'a> {
    out: &'a mut dyn Write,
    pipe: Option<&'a mut PipeWriter>,
}

impl Write for Beside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        if let Some(pipe) = &mut self.pipe {
            pipe.write_all(&bytes[..count])?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
