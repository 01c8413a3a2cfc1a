//! One gzip member (RFC 1952) in pieces that no other piece is needed for: made on all processors, and read from the
//! start of any piece.
//!
//! FlavorPack's Rust launcher reads the first member of a stream and no other, so all pieces are in one. Each ends with
//! a full flush, after which deflate (RFC 1951) refers to nothing that was before.
//!
//! **Invariant:** the bytes depend on the content and the level alone, not on how many threads there are or how the
//! content came.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::worker;

/// Content of one piece, in bytes. Half of it is decoded for a random read; measured on 126 MiB of Python packages,
/// the pieces make the stream 0.8 % longer.
pub const PIECE: usize = 256 << 10;

/// ID1, ID2, deflate, no flags, no time, no extra flags, no system (RFC 1952, section 2.3): nothing about this machine.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block with nothing in it (RFC 1951, section 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Where a piece begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceStart {
    /// Bytes of content before it.
    pub content: u64,
    /// Stored bytes before it.
    pub stored: u64,
}

/// A piece of content, and where the compressed one is to be sent.
struct Job {
    content: Vec<u8>,
    result: Sender<io::Result<Vec<u8>>>,
}

/// Compresses what is written to it.
pub(super) struct GzipWriter<'a> {
    out: &'a mut dyn Write,
    level: u32,
    piece: Vec<u8>,
    crc: Crc,
    stored: u64,
    content: u64,
    starts: Vec<PieceStart>,
    /// Pieces that are being compressed, in order, and the length of their content.
    waiting: VecDeque<(Receiver<io::Result<Vec<u8>>>, u64)>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> GzipWriter<'a> {
    /// Starts a member in `out`; `level` is 1 to 9.
    pub(super) fn start(out: &'a mut dyn Write, level: u32) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        Ok(Self {
            out,
            level,
            piece: Vec::with_capacity(PIECE),
            crc: Crc::new(),
            stored: HEADER.len() as u64,
            content: 0,
            starts: Vec::new(),
            waiting: VecDeque::new(),
            jobs: None,
            threads: Vec::new(),
        })
    }

    /// Ends the member, and returns where its pieces begin.
    pub(super) fn finish(mut self) -> io::Result<Vec<PieceStart>> {
        if !self.piece.is_empty() {
            self.send()?;
        }
        while !self.waiting.is_empty() {
            self.take()?;
        }
        self.out.write_all(&LAST_BLOCK)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(std::mem::take(&mut self.starts))
    }

    /// Gives the piece to a thread, or compresses it here where there is none.
    fn send(&mut self) -> io::Result<()> {
        let content = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let (result, receiver) = channel();
        let length = content.len() as u64;
        self.waiting.push_back((receiver, length));
        // A content of one piece is not worth a thread.
        let is_long = length as usize == PIECE;
        if self.jobs.is_none() && is_long {
            self.hire();
        }
        let job = Job { content, result };
        match &self.jobs {
            Some(jobs) if !self.threads.is_empty() => {
                if let Err(error) = jobs.send(job) {
                    compress_job(&mut compressor(self.level), error.0);
                }
            }
            _ => compress_job(&mut compressor(self.level), job),
        }
        // Bounds what is in memory.
        while self.waiting.len() > 2 * self.threads.len().max(1) {
            self.take()?;
        }
        Ok(())
    }

    fn hire(&mut self) {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            let (receiver, level) = (Arc::clone(&receiver), self.level);
            // Those that there are do it all.
            self.threads.extend(worker::spawn("gzip", move || work(&receiver, level)));
        }
        self.jobs = Some(jobs);
    }

    /// Writes the first piece that waits.
    fn take(&mut self) -> io::Result<()> {
        let Some((receiver, length)) = self.waiting.pop_front() else { return Ok(()) };
        let gone = || io::Error::other("a thread that compresses has ended");
        let piece = receiver.recv().map_err(|_| gone())??;
        self.starts.push(PieceStart { content: self.content, stored: self.stored });
        self.out.write_all(&piece)?;
        self.content += length;
        self.stored += piece.len() as u64;
        Ok(())
    }
}

impl Write for GzipWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        self.crc.update(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    /// Does nothing: where pieces end must not depend on it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for GzipWriter<'_> {
    fn drop(&mut self) {
        // Without jobs the threads end.
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // One that panicked sent nothing, which was noticed.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    let mut compress = compressor(level);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        compress_job(&mut compress, job);
    }
}

fn compressor(level: u32) -> Compress {
    Compress::new(Compression::new(level), false)
}

fn compress_job(compress: &mut Compress, job: Job) {
    // Whoever wanted it may have given up.
    let _ = job.result.send(piece_of(compress, &job.content));
}

/// Compresses one piece from a fresh state up to a full flush.
fn piece_of(compress: &mut Compress, content: &[u8]) -> io::Result<Vec<u8>> {
    compress.reset();
    // What cannot be compressed grows by five bytes for 16 KiB, and there is the flush.
    let mut piece = Vec::with_capacity(content.len() + content.len() / 1024 + 64);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(done..).unwrap_or_default();
        let status =
            compress.compress_vec(rest, &mut piece, FlushCompress::Full).map_err(io::Error::other)?;
        let taken = compress.total_in() == content.len() as u64;
        if taken && piece.len() < piece.capacity() {
            return Ok(piece);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the compressor ended too early"));
        }
        piece.reserve(PIECE / 4);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn compressed(content: &[u8], step: usize) -> (Vec<u8>, Vec<PieceStart>) {
        let mut bytes = Vec::new();
        let mut writer = GzipWriter::start(&mut bytes, 6).unwrap();
        for part in content.chunks(step) {
            writer.write_all(part).unwrap();
            writer.flush().unwrap();
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
    fn it_is_one_member_with_this_content() {
        for length in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let content = content(length);
            let (bytes, starts) = compressed(&content, 100_000);
            let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
            let mut decoded = Vec::new();
            decoder.read_to_end(&mut decoded).unwrap();
            assert!(decoded == content && decoder.into_inner().is_empty(), "{length}");
            assert_eq!(starts.len(), length.div_ceil(PIECE));
        }
    }

    #[test]
    fn every_piece_can_be_decoded_alone() {
        let content = content(5 * PIECE + 1);
        let (bytes, starts) = compressed(&content, PIECE);
        for start in starts {
            let mut decoder = flate2::bufread::DeflateDecoder::new(&bytes[start.stored as usize..]);
            let mut rest = Vec::new();
            decoder.read_to_end(&mut rest).unwrap();
            assert!(rest == content[start.content as usize..], "{start:?}");
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_the_content_came() {
        let content = content(2 * PIECE + 5);
        let (whole, _) = compressed(&content, content.len());
        assert!(whole == compressed(&content, 999).0 && whole == compressed(&content, PIECE + 1).0);
    }
}
