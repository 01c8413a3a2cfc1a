//! Bytes from another thread, a few buffers ahead of whoever uses them: decoded by one of its own, or fed by somebody else.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::slot::SlotError;
use crate::slot::chain::Decoded;
use crate::slot::scan::Input;
use crate::worker;

const BUFFER: usize = 256 << 10;
/// Buffers that are full or being filled; one more is being read.
const AHEAD: usize = 4;
/// The same for content that is fed: who feeds it should not wait where this thread has to wait for a processor.
const FED_AHEAD: usize = 32;

type Piece = Result<Vec<u8>, SlotError>;

/// An [`Input`] over bytes that another thread decodes.
#[derive(Debug)]
pub(super) struct AheadInput {
    full: Option<Receiver<Piece>>,
    empty: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
    buffer: Vec<u8>,
    start: usize,
    position: u64,
    ended: bool,
}

impl AheadInput {
    /// Starts decoding.
    pub(super) fn start(decoded: Decoded) -> Result<Self, SlotError> {
        let (send_full, full) = sync_channel(AHEAD);
        let (empty, take_empty) = channel();
        let thread = worker::spawn("slot-decode", move || fill(decoded, &send_full, &take_empty))
            .map_err(|source| SlotError::Thread { source })?;
        let (full, thread) = (Some(full), Some(thread));
        Ok(Self { full, empty, thread, buffer: Vec::new(), start: 0, position: 0, ended: false })
    }
}

/// Returns two ends: what is written to the one can be read from the other.
#[must_use]
pub fn feed() -> (Feed, Fed) {
    let (send_full, full) = sync_channel(FED_AHEAD);
    let (empty, take_empty) = channel();
    let feed = Feed { full: send_full, empty: take_empty, buffer: Vec::with_capacity(BUFFER) };
    let (full, thread) = (Some(full), None);
    (feed, Fed(AheadInput { full, empty, thread, buffer: Vec::new(), start: 0, position: 0, ended: false }))
}

/// Where content goes in. Writing waits while nobody reads.
#[derive(Debug)]
pub struct Feed {
    full: SyncSender<Piece>,
    empty: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Where content comes out.
#[derive(Debug)]
pub struct Fed(pub(super) AheadInput);

impl Feed {
    /// Says that all content has come.
    pub fn end(mut self) {
        // Whoever does not read any more says why.
        let _ = self.send();
    }

    fn send(&mut self) -> io::Result<()> {
        let mut next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        next.clear();
        let full = std::mem::replace(&mut self.buffer, next);
        self.full.send(Ok(full)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER {
            self.send()?;
        }
        Ok(count)
    }

    /// Does nothing: what is read depends on the bytes alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes until the end, an error, or until nobody takes the pieces any more.
fn fill(mut decoded: Decoded, full: &SyncSender<Piece>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        let mut filled = 0;
        let outcome = loop {
            if filled == buffer.len() {
                break Ok(false);
            }
            match decoded.read(&mut buffer[filled..]) {
                Ok(0) => break Ok(true),
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break Err(SlotError::from_read(error)),
            }
        };
        buffer.truncate(filled);
        // What was decoded before an error is good.
        let sent = full.send(Ok(buffer)).is_ok();
        match outcome {
            Ok(false) if sent => {}
            Ok(_) => return,
            Err(error) => {
                let _ = full.send(Err(error));
                return;
            }
        }
    }
}

impl Input for AheadInput {
    fn peek(&mut self) -> Result<&[u8], SlotError> {
        while self.start == self.buffer.len() && !self.ended {
            let used = std::mem::take(&mut self.buffer);
            self.start = 0;
            if used.capacity() > 0 {
                // The decoder may have ended; then nobody needs buffers.
                let _ = self.empty.send(used);
            }
            match self.full.as_ref().and_then(|full| full.recv().ok()) {
                Some(Ok(piece)) => self.buffer = piece,
                Some(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                None => self.ended = true,
            }
        }
        Ok(&self.buffer[self.start..])
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.buffer.len() - self.start);
        self.start += count;
        self.position += count as u64;
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn skip(&mut self, mut count: u64) -> Result<bool, SlotError> {
        while count > 0 {
            let available = self.peek()?.len();
            if available == 0 {
                return Ok(false);
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            count -= step as u64;
        }
        Ok(true)
    }

    fn shows_content(&self) -> bool {
        true
    }
}

impl Drop for AheadInput {
    fn drop(&mut self) {
        // Without a receiver the decoder stops at its next piece.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn what_is_fed_comes_out_and_ends() {
        let content: Vec<u8> = (0..3 * BUFFER + 17).map(|at| (at / 7) as u8).collect();
        for end in [0, 1, BUFFER, 2 * BUFFER, content.len()] {
            let (mut feed, Fed(mut input)) = feed();
            let fed = content[..end].to_vec();
            let feeding = worker::spawn("feed", move || {
                fed.chunks(1000).for_each(|part| feed.write_all(part).unwrap());
                feed.end();
            });
            let mut out = vec![0; content.len() + 1];
            assert_eq!(input.read(&mut out).unwrap(), end);
            assert!(out[..end] == content[..end]);
            assert_eq!((input.position(), input.peek().unwrap()), (end as u64, &[][..]));
            feeding.unwrap().join().unwrap();
        }
    }

    #[test]
    fn who_feeds_hears_that_nobody_reads() {
        let (mut feed, fed) = feed();
        drop(fed);
        let error = feed.write_all(&[0; 2 * BUFFER]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
