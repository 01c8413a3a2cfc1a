//! zstd frames (RFC 8878) decoded into the very memory that keeps them, block by block, as far as somebody wants them.
//!
//! A decoder that streams has a window of its own and copies out of it. Here what came out before is the window: it stays where
//! it is until the run is at its end.
//!
//! **Invariant:** a run that was decoded to its end was compared with the checksums of its frames.

use std::io;
use std::sync::{Mutex, PoisonError};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use crate::disk::range::FileRange;
use crate::slot::{Limits, SlotError};

/// Stored bytes that are read at a time, about. The longest compressed block takes twice as many.
const PIECE: u64 = 64 << 10;
/// What zstd looks at first in a frame: it then says what it needs.
const START: usize = 5;
/// The longest block, and the header of the next one.
const LONGEST_STEP: usize = (128 << 10) + 3;

/// A decoder and the stored bytes that it is given.
struct Machine {
    context: DCtx<'static>,
    input: Vec<u8>,
}

/// Machines that nobody uses: each takes up to 400 KiB, and would be made for every few blocks.
static SPARE: Mutex<Vec<Machine>> = Mutex::new(Vec::new());
/// As many as are decoding at a time.
const MOST_SPARE: usize = 2;

/// Decoder of a run of whole frames.
pub struct FrameRun {
    /// There until this value is dropped, unless there was no memory for it.
    machine: Option<Machine>,
    stored: FileRange,
    /// The next stored byte to be read.
    position: u64,
    /// Where what was read and not decoded begins in the input.
    start: usize,
    /// How many stored bytes the decoder needs to go on.
    wanted: usize,
    /// At the end of a frame.
    between: bool,
}

impl FrameRun {
    /// Starts with the frame that begins at stored byte `position`.
    pub(super) fn new(stored: &FileRange, position: u64, limits: &Limits) -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let machine = spare.or_else(Machine::new).and_then(|mut machine| {
            let window = DParameter::WindowLogMax(limits.longest_window());
            machine.context.set_parameter(window).ok()?;
            Some(machine)
        });
        Self { machine, stored: stored.clone(), position, start: 0, wanted: START, between: true }
    }

    /// Decodes on in `bytes`, of which `filled` are there, until at least `needed` are. Returns how many are.
    ///
    /// # Errors
    /// The data is damaged or ends before; then nothing behind `filled` is to be used.
    pub(super) fn fill(&mut self, bytes: &mut [u8], filled: usize, needed: usize) -> io::Result<usize> {
        let mut done = filled;
        // Behind the last block comes the checksum.
        while done < needed || (done == bytes.len() && !self.between) {
            self.read_on()?;
            let at = self.position;
            let Some(machine) = &mut self.machine else { return Err(io::ErrorKind::OutOfMemory.into()) };
            let rest = machine.input.get(self.start..).unwrap_or_default();
            let mut source = InBuffer::around(&rest[..self.wanted.min(rest.len())]);
            let mut target = OutBuffer::around_pos(&mut *bytes, done);
            let result = machine.context.decompress_stream(&mut target, &mut source);
            let progress = (source.pos(), target.pos() - done);
            self.start += source.pos();
            done = target.pos();
            let hint = result.map_err(|code| damaged(at, get_error_name(code)))?;
            if progress == (0, 0) {
                return Err(damaged(at, "the decoder makes no progress"));
            }
            self.between = hint == 0;
            self.wanted = if self.between { START } else { hint.min(LONGEST_STEP) };
        }
        Ok(done)
    }

    /// Reads as many stored bytes as the decoder needs, up to the end of a chunk that is checked as a whole.
    fn read_on(&mut self) -> io::Result<()> {
        let Some(machine) = &mut self.machine else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let input = &mut machine.input;
        if input.len() - self.start.min(input.len()) >= self.wanted {
            return Ok(());
        }
        input.drain(..self.start.min(input.len()));
        self.start = 0;
        while input.len() < self.wanted {
            let left = self.stored.len().saturating_sub(self.position);
            let count = self.stored.to_chunk_end(self.position, PIECE).min(left);
            if count == 0 {
                return Err(damaged(self.position, "it ends too early"));
            }
            let before = input.len();
            input.resize(before + usize::try_from(count).unwrap_or(0), 0);
            self.stored.read_exact_at(self.position, &mut input[before..])?;
            self.position += count;
        }
        Ok(())
    }
}

impl std::fmt::Debug for FrameRun {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FrameRun").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Machine {
    fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::StableOutBuffer(true)).ok()?;
        Some(Self { context, input: Vec::new() })
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        let Some(mut machine) = self.machine.take() else { return };
        // It must not remember the memory that it decoded into.
        if machine.context.reset(ResetDirective::SessionOnly).is_err() {
            return;
        }
        machine.input.clear();
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(machine);
        }
    }
}

/// Gives back what is kept for the next run.
pub(super) fn release() {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn damaged(at: u64, reason: &str) -> io::Error {
    SlotError::Decode { format: "zstd", at, reason: reason.into() }.into_read()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use crate::slot::chain::tests::range;

    const FRAME: usize = 300_000;

    fn content(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// Frames with checksums, each of `FRAME` bytes of the content, and where they begin.
    fn frames(content: &[u8]) -> (Vec<u8>, Vec<u64>) {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.include_checksum(true).unwrap();
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for part in content.chunks(FRAME) {
            starts.push(bytes.len() as u64);
            bytes.extend(compressor.compress(part).unwrap());
        }
        (bytes, starts)
    }

    #[test]
    fn frames_come_step_by_step_and_no_further_than_a_block() {
        let content = content(2 * FRAME + 1000);
        let (bytes, _) = frames(&content);
        for step in [1000, FRAME - 1, FRAME, content.len()] {
            let mut run = FrameRun::new(&range(&bytes), 0, &Limits::default());
            let mut room = vec![0; content.len()];
            let (mut filled, mut needed) = (0, 0);
            while filled < content.len() {
                needed = (needed + step).min(content.len());
                filled = run.fill(&mut room, filled, needed).unwrap();
                assert!(filled >= needed && filled <= needed + (128 << 10), "{step}: {filled} for {needed}");
                assert!(room[..filled] == content[..filled], "{step}");
            }
        }
    }

    #[test]
    fn runs_that_take_turns_do_not_disturb_each_other() {
        let content = content(3 * FRAME);
        let (bytes, starts) = frames(&content);
        let range = range(&bytes);
        let mut rooms = vec![vec![0; FRAME]; 3];
        let mut runs: Vec<_> =
            starts.iter().map(|start| FrameRun::new(&range, *start, &Limits::default())).collect();
        let mut filled = [0; 3];
        for needed in [1, 140_000, FRAME] {
            for ((run, room), filled) in runs.iter_mut().zip(&mut rooms).zip(&mut filled) {
                *filled = run.fill(room, *filled, needed).unwrap();
            }
            // One is given up in between, and its decoder goes to whoever begins next.
            drop(FrameRun::new(&range, 0, &Limits::default()));
        }
        assert!(rooms.concat() == content);
    }

    #[test]
    fn what_is_damaged_cut_or_longer_than_stated_is_refused_by_the_end() {
        let content = content(FRAME);
        let (bytes, _) = frames(&content);
        let decode = |bytes: &[u8], length: usize| {
            let mut run = FrameRun::new(&range(bytes), 0, &Limits::default());
            let mut room = vec![0; length];
            run.fill(&mut room, 0, length).map(|_| room)
        };
        assert!(decode(&bytes, FRAME).unwrap() == content);
        // The checksum at the end, and some bytes all over.
        for at in (0..bytes.len()).step_by(bytes.len() / 40).chain([bytes.len() - 1]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let decoded = decode(&damaged, FRAME);
            assert!(decoded.is_err() || decoded.is_ok_and(|decoded| decoded == content), "byte {at}");
        }
        assert!(decode(&bytes[..bytes.len() - 1], FRAME).is_err());
        assert!(decode(&bytes, FRAME - 1).is_err());
        assert!(decode(&bytes, FRAME + 1).is_err());
        assert!(decode(&[], 1).is_err());
    }
}
