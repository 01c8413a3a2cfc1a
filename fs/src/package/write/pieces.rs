//! A stream in pieces that no other piece is needed for: made on all processors, and read from the start of any piece.
//!
//! **Invariant:** the bytes depend on the content, the level and the places where a piece may end, and not on how many
//! threads there are or how the content came.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::codec::{Codec, Compressor, Ending};
use crate::worker;

/// Pieces that may wait beside two for each thread: whoever brings content, and whoever writes what was made of it, may have
/// to wait for a processor or a disk while all threads go on.
const MORE_WAITING: usize = 12;

/// Where a piece begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceStart {
    /// Bytes of content before it.
    pub content: u64,
    /// Stored bytes before it.
    pub stored: u64,
}

/// A piece of content, what it is compressed into, and where both are to be sent then.
struct Job {
    buffers: Buffers,
    result: Sender<io::Result<Buffers>>,
}

/// What a piece needs; used again for another one, so that the system need not give new memory each time.
#[derive(Default)]
struct Buffers {
    content: Vec<u8>,
    compressed: Vec<u8>,
}

/// Compresses what is written to it.
pub(super) struct PieceWriter<'a> {
    out: &'a mut dyn Write,
    codec: Codec,
    /// The piece that is being written.
    piece: Buffers,
    spare: Vec<Buffers>,
    /// How long the piece may get.
    longest: usize,
    /// Content since the last good place for a piece to end.
    unbroken: u64,
    ending: Ending,
    stored: u64,
    content: u64,
    starts: Vec<PieceStart>,
    /// Pieces that are being compressed, in order.
    waiting: VecDeque<Receiver<io::Result<Buffers>>>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> PieceWriter<'a> {
    /// Starts a stream in `out`.
    pub(super) fn start(out: &'a mut dyn Write, codec: Codec) -> io::Result<Self> {
        let head = codec.head();
        out.write_all(head)?;
        Ok(Self {
            out,
            codec,
            piece: Buffers::default(),
            spare: Vec::new(),
            longest: codec.longest(),
            unbroken: 0,
            ending: Ending::of(codec),
            stored: head.len() as u64,
            content: 0,
            starts: Vec::new(),
            waiting: VecDeque::new(),
            jobs: None,
            threads: Vec::new(),
        })
    }

    /// Ends the stream, and returns where its pieces begin.
    pub(super) fn finish(mut self) -> io::Result<Vec<PieceStart>> {
        if !self.piece.content.is_empty() || (self.starts.is_empty() && self.waiting.is_empty()) {
            self.send()?;
        }
        while !self.waiting.is_empty() {
            self.take()?;
        }
        self.out.write_all(&self.ending.bytes())?;
        Ok(std::mem::take(&mut self.starts))
    }

    /// Gives the piece to a thread, or compresses it here where there is none.
    fn send(&mut self) -> io::Result<()> {
        let buffers = std::mem::replace(&mut self.piece, self.spare.pop().unwrap_or_default());
        let (result, receiver) = channel();
        self.waiting.push_back(receiver);
        // A short content is not worth a thread.
        if self.jobs.is_none() && buffers.content.len() >= self.codec.shortest() {
            self.hire();
        }
        let job = Job { buffers, result };
        match &self.jobs {
            Some(jobs) if !self.threads.is_empty() => {
                if let Err(error) = jobs.send(job) {
                    compress_job(&mut Compressor::new(self.codec), error.0);
                }
            }
            _ => compress_job(&mut Compressor::new(self.codec), job),
        }
        // Bounds what is in memory.
        let most = if self.threads.is_empty() { 0 } else { 2 * self.threads.len() + MORE_WAITING };
        while self.waiting.len() > most {
            self.take()?;
        }
        Ok(())
    }

    fn hire(&mut self) {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            let (receiver, codec) = (Arc::clone(&receiver), self.codec);
            // Those that there are do it all.
            self.threads.extend(worker::spawn("compress", move || work(&receiver, codec)));
        }
        self.jobs = Some(jobs);
    }

    /// Writes the first piece that waits.
    fn take(&mut self) -> io::Result<()> {
        let Some(receiver) = self.waiting.pop_front() else { return Ok(()) };
        let gone = || io::Error::other("a thread that compresses has ended");
        let mut buffers = receiver.recv().map_err(|_| gone())??;
        let (length, piece) = (buffers.content.len() as u64, &buffers.compressed);
        self.starts.push(PieceStart { content: self.content, stored: self.stored });
        self.out.write_all(piece)?;
        self.ending.piece(piece.len(), length);
        self.content += length;
        self.stored += piece.len() as u64;
        buffers.content.clear();
        self.spare.push(buffers);
        Ok(())
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &mut self.piece.content;
        if piece.is_empty() {
            // Once for each piece: where it ends does not depend on how its content comes.
            self.longest = self.codec.longest_after(self.unbroken);
        }
        let count = bytes.len().min(self.longest - piece.len());
        piece.reserve_exact(self.longest - piece.len());
        piece.extend_from_slice(&bytes[..count]);
        self.unbroken += count as u64;
        self.ending.content(&bytes[..count]);
        if self.piece.content.len() == self.longest {
            self.send()?;
        }
        Ok(count)
    }

    /// Says that this is a good place for a piece to end. It ends unless it would be too short.
    fn flush(&mut self) -> io::Result<()> {
        self.unbroken = 0;
        if self.piece.content.len() >= self.codec.shortest() { self.send() } else { Ok(()) }
    }
}

impl Drop for PieceWriter<'_> {
    fn drop(&mut self) {
        // Without jobs the threads end.
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // One that panicked sent nothing, which was noticed.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, codec: Codec) {
    let mut compressor = Compressor::new(codec);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        compress_job(&mut compressor, job);
    }
}

fn compress_job(compressor: &mut Compressor, job: Job) {
    let Job { mut buffers, result } = job;
    let done = compressor.piece(&buffers.content, &mut buffers.compressed);
    // Whoever wanted it may have given up.
    let _ = result.send(done.map(|()| buffers));
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::io::Read as _;

    use super::super::codec::{LARGE, LARGE_PIECE};
    use super::*;

    const GZIP: Codec = Codec::Gzip { level: 6 };
    const ZSTD: Codec = Codec::Zstd { level: 3 };

    fn compressed(codec: Codec, content: &[u8], step: usize) -> (Vec<u8>, Vec<PieceStart>) {
        let mut bytes = Vec::new();
        let mut writer = PieceWriter::start(&mut bytes, codec).unwrap();
        for part in content.chunks(step) {
            writer.write_all(part).unwrap();
        }
        let starts = writer.finish().unwrap();
        (bytes, starts)
    }

    fn content(length: usize) -> Vec<u8> {
        // Half of it can be compressed.
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|at| if at / 1000 % 2 == 0 { next() } else { 7 }).collect()
    }

    #[test]
    fn gzip_is_one_member_with_this_content() {
        let piece = GZIP.longest();
        for length in [0, 1, 1000, piece - 1, piece, piece + 1, 3 * piece + 17] {
            let content = content(length);
            let (bytes, starts) = compressed(GZIP, &content, 100_000);
            let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
            let mut decoded = Vec::new();
            decoder.read_to_end(&mut decoded).unwrap();
            assert!(decoded == content && decoder.into_inner().is_empty(), "{length}");
            assert_eq!(starts.len(), length.div_ceil(piece).max(1));
        }
    }

    #[test]
    fn zstd_is_frames_with_this_content_and_a_table_of_them() {
        let piece = ZSTD.longest();
        for length in [0, 1, piece, 3 * piece + 17] {
            let content = content(length);
            let (bytes, starts) = compressed(ZSTD, &content, 100_000);
            assert!(zstd::decode_all(&bytes[..]).unwrap() == content, "{length}");
            assert_eq!(starts.len(), length.div_ceil(piece).max(1));
            // The table as its specification has it, read from the end.
            let footer = &bytes[bytes.len() - 9..];
            assert_eq!(footer[5..], 0x8F92_EAB1_u32.to_le_bytes());
            assert_eq!(footer[..4], u32::try_from(starts.len()).unwrap().to_le_bytes());
            let table = &bytes[bytes.len() - 9 - 8 * starts.len()..];
            let number = |at: usize| u64::from(u32::from_le_bytes(table[at..at + 4].try_into().unwrap()));
            let mut at = (0, 0);
            for (entry, start) in starts.iter().enumerate() {
                assert_eq!((start.stored, start.content), at);
                at = (at.0 + number(8 * entry), at.1 + number(8 * entry + 4));
            }
            assert_eq!(at.1, length as u64);
        }
    }

    #[test]
    fn every_piece_can_be_decoded_alone() {
        for codec in [GZIP, ZSTD] {
            let content = content(5 * codec.longest() + 1);
            let (bytes, starts) = compressed(codec, &content, 100_000);
            for start in starts {
                let rest = &bytes[start.stored as usize..];
                let mut decoded = Vec::new();
                match codec {
                    Codec::Gzip { .. } => {
                        flate2::bufread::DeflateDecoder::new(rest).read_to_end(&mut decoded).unwrap();
                    }
                    Codec::Zstd { .. } => decoded = zstd::decode_all(rest).unwrap(),
                }
                assert!(decoded == content[start.content as usize..], "{start:?}");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_the_content_came() {
        for codec in [GZIP, ZSTD] {
            let content = content(2 * codec.longest() + 5);
            let (whole, _) = compressed(codec, &content, content.len());
            for step in [999, codec.longest() + 1] {
                assert!(whole == compressed(codec, &content, step).0, "{codec:?} {step}");
            }
        }
    }

    #[test]
    fn pieces_in_the_middle_of_a_large_file_are_shorter() {
        let content = content(LARGE + 3 * LARGE_PIECE);
        let cut = |step: usize, flushed: bool| {
            let mut bytes = Vec::new();
            let mut writer = PieceWriter::start(&mut bytes, ZSTD).unwrap();
            for part in content.chunks(step) {
                writer.write_all(part).unwrap();
                if flushed {
                    writer.flush().unwrap();
                }
            }
            let starts = writer.finish().unwrap();
            assert!(zstd::decode_all(&bytes[..]).unwrap() == content);
            starts.iter().map(|start| start.content).collect::<Vec<_>>()
        };
        let mut expected: Vec<u64> =
            (0..LARGE / ZSTD.longest()).map(|at| (at * ZSTD.longest()) as u64).collect();
        expected.extend((0..3).map(|at| (LARGE + at * LARGE_PIECE) as u64));
        assert_eq!(cut(content.len(), false), expected);
        assert_eq!(cut(100_001, false), expected);
        // Smaller files, one after the other, stay together.
        assert_eq!(cut(ZSTD.longest(), true).len(), content.len().div_ceil(ZSTD.longest()));
    }

    #[test]
    fn pieces_end_where_they_may_unless_they_would_be_short() {
        let content = content(3 * ZSTD.shortest() + 10);
        let mut bytes = Vec::new();
        let mut writer = PieceWriter::start(&mut bytes, ZSTD).unwrap();
        let (first, rest) = content.split_at(ZSTD.shortest());
        let (short, rest) = rest.split_at(1000);
        for part in [first, short, rest] {
            writer.write_all(part).unwrap();
            writer.flush().unwrap();
        }
        let starts = writer.finish().unwrap();
        let places: Vec<u64> = starts.iter().map(|start| start.content).collect();
        let shortest = ZSTD.shortest() as u64;
        assert_eq!(places, [0, shortest, shortest + ZSTD.longest() as u64]);
        assert!(zstd::decode_all(&bytes[..]).unwrap() == content);
    }
}
