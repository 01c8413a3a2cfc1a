//! bzip2 with any number of streams; reports where blocks start.
//!
//! Blocks are cut out of the stream by their 48-bit magic numbers, which may lie at any bit, and each is decoded as
//! a stream of its own. So decoding can start at any block, and a block's CRC guards each one. A magic number inside
//! a block's data (chance: 2⁻⁴⁸ a bit) shows as a block that does not decode, and the cut is made at the next one.

use std::io::{self, Read};

use bzip2::{Decompress, Status};

use super::buffer::Buffer;
use super::{Observer, Point};
use crate::slot::SlotError;

/// Start of a block: the digits of pi.
const BLOCK: u64 = 0x3141_5926_5359;
/// End of a stream: the digits of its square root.
const END: u64 = 0x1772_4538_5090;
const MAGIC_BITS: u64 = 48;
const MAGIC_MASK: u64 = (1 << MAGIC_BITS) - 1;
/// A block holds at most 900,000 bytes, each of at most 20 bits, and its tables.
const LONGEST: usize = 3 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Block,
    End,
}

/// Decoder of bzip2 data.
pub(super) struct Bzip2Reader<R> {
    cutter: Cutter<R>,
    state: State,
    current: Option<Running>,
    decoded: u64,
    observe: Option<Observer>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a byte boundary where a stream header or the end must follow.
    Between {
        first: bool,
    },
    /// In a stream, at a block or at the stream's end.
    Stream,
    End,
}

/// A block that is being decoded.
struct Running {
    decoder: Decompress,
    bytes: Vec<u8>,
    taken: usize,
    produced: u64,
}

impl<R: Read> Bzip2Reader<R> {
    pub(super) fn new(input: R, observe: Option<Observer>) -> Self {
        let state = State::Between { first: true };
        Self { cutter: Cutter::new(input, 0), state, current: None, decoded: 0, observe }
    }

    /// Starts at the block whose magic number begins at bit `bit` of the first input byte.
    pub(super) fn resume(input: R, bit: u8) -> Self {
        let cutter = Cutter::new(input, u64::from(bit));
        Self { cutter, state: State::Stream, current: None, decoded: 0, observe: None }
    }

    fn damaged(&self, reason: impl Into<String>) -> io::Error {
        SlotError::Decode { format: "bzip2", at: self.cutter.bit / 8, reason: reason.into() }.into_read()
    }

    fn enter_stream(&mut self, first: bool) -> io::Result<()> {
        let head = self.cutter.header()?;
        if !matches!(head, Some([b'B', b'Z', b'h', b'1'..=b'9'])) {
            if first {
                return Err(self.damaged("no bzip2 header"));
            }
            self.state = State::End;
            return Ok(());
        }
        // A seek point holds a block, not a header; one that begins at byte 0 stands for the header before it.
        self.state = State::Stream;
        Ok(())
    }

    fn enter_block(&mut self) -> io::Result<()> {
        match self.cutter.here()? {
            Some(Next::Block) => {}
            Some(Next::End) => {
                self.cutter.leave_stream()?;
                self.state = State::Between { first: false };
                return Ok(());
            }
            None => return Err(self.damaged("it ends too early or has no block where one must be")),
        }
        let stored_bits = if self.decoded == 0 { 0 } else { self.cutter.bit };
        if let Some(observe) = &mut self.observe {
            observe(Point { decoded: self.decoded, stored_bits, context: Vec::new(), header: None });
        }
        self.cutter.cut()?;
        self.current = Some(Running::new(self.cutter.as_stream()));
        Ok(())
    }

    /// One step in a block; returns how many bytes came out.
    fn step(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let Some(running) = &mut self.current else { return Ok(0) };
        match running.run(output) {
            Ok((produced, finished)) => {
                self.decoded += produced as u64;
                if finished {
                    self.current = None;
                    self.cutter.advance()?;
                }
                Ok(produced)
            }
            Err(reason) if running.produced == 0 => {
                // Perhaps the cut was made at a magic number inside the block's data: try the next.
                if !self.cutter.extend()? {
                    return Err(self.damaged(reason));
                }
                self.current = Some(Running::new(self.cutter.as_stream()));
                Ok(0)
            }
            Err(reason) => Err(self.damaged(reason)),
        }
    }
}

impl Running {
    fn new(bytes: Vec<u8>) -> Self {
        Self { decoder: Decompress::new(false), bytes, taken: 0, produced: 0 }
    }

    fn run(&mut self, output: &mut [u8]) -> Result<(usize, bool), &'static str> {
        let (before_in, before_out) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self.decoder.decompress(&self.bytes[self.taken..], output);
        let consumed = usize::try_from(self.decoder.total_in() - before_in).unwrap_or(0);
        let produced = usize::try_from(self.decoder.total_out() - before_out).unwrap_or(0);
        self.taken = (self.taken + consumed).min(self.bytes.len());
        self.produced += produced as u64;
        match status {
            Ok(Status::StreamEnd) => Ok((produced, true)),
            Ok(Status::MemNeeded) => Err("no memory"),
            Ok(_) if produced == 0 && consumed == 0 => Err("a block ends too early"),
            Ok(_) => Ok((produced, false)),
            Err(_) => Err("a block does not decode"),
        }
    }
}

impl<R: Read> Read for Bzip2Reader<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            if self.current.is_some() {
                let produced = self.step(output)?;
                if produced > 0 {
                    return Ok(produced);
                }
                continue;
            }
            match self.state {
                State::End => return Ok(0),
                State::Between { first } => self.enter_stream(first)?,
                State::Stream => self.enter_block()?,
            }
        }
    }
}

/// Finds magic numbers in a stream of bits and copies out what lies between them.
struct Cutter<R> {
    input: Buffer<R>,
    /// Bytes from the one that holds `bit` on, as far as they were needed.
    bytes: Vec<u8>,
    /// Where the current magic number or header begins, in bits from the start of the input.
    bit: u64,
    /// Where the block that begins at `bit` ends, in bits from the start of `bytes`.
    end: u64,
}

impl<R: Read> Cutter<R> {
    fn new(input: R, bit: u64) -> Self {
        Self { input: Buffer::new(input), bytes: Vec::new(), bit, end: 0 }
    }

    /// Appends more input; `false` at its end.
    fn more(&mut self) -> io::Result<bool> {
        let chunk = self.input.peek(1)?;
        let count = chunk.len().min(64 << 10);
        self.bytes.extend_from_slice(&chunk[..count]);
        self.input.consume(count);
        Ok(count > 0)
    }

    /// Makes `bytes` reach at least `bits` bits.
    fn reach(&mut self, bits: u64) -> io::Result<bool> {
        while (self.bytes.len() as u64) * 8 < bits {
            if !self.more()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the four bytes of a stream header.
    fn header(&mut self) -> io::Result<Option<[u8; 4]>> {
        if !self.reach(32)? {
            return Ok(None);
        }
        let head = [self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]];
        self.drop_bits(32);
        Ok(Some(head))
    }

    /// Returns what begins at `bit`.
    fn here(&mut self) -> io::Result<Option<Next>> {
        let shift = self.bit % 8;
        if !self.reach(shift + MAGIC_BITS)? {
            return Ok(None);
        }
        Ok(match bits_at(&self.bytes, shift, MAGIC_BITS) {
            BLOCK => Some(Next::Block),
            END => Some(Next::End),
            _ => None,
        })
    }

    /// Finds where the block at `bit` ends: at the next magic number.
    fn cut(&mut self) -> io::Result<()> {
        self.end = self.bit % 8 + MAGIC_BITS;
        self.extend().map(drop)
    }

    /// Moves the end of the block to the next magic number after it, or to the end of the input; `false` when
    /// there is no more or the block would be longer than one can be.
    fn extend(&mut self) -> io::Result<bool> {
        let from = self.end;
        let mut next = from + 1;
        loop {
            if let Some(found) = find_magic(&self.bytes, next) {
                self.end = found;
                return Ok(true);
            }
            next = next.max(((self.bytes.len() as u64) * 8).saturating_sub(MAGIC_BITS - 1));
            if self.bytes.len() > LONGEST || !self.more()? {
                let last = (self.bytes.len() as u64) * 8;
                self.end = last;
                return Ok(last > from && self.bytes.len() <= LONGEST);
            }
        }
    }

    /// The current block as a stream of its own: header, block, end with the stream's CRC (that of its only block).
    fn as_stream(&self) -> Vec<u8> {
        let from = self.bit % 8;
        let length = self.end - from;
        let mut out = Vec::with_capacity(usize::try_from(length / 8).unwrap_or(0) + 20);
        out.extend_from_slice(b"BZh9");
        let start = usize::try_from(from / 8).unwrap_or(0);
        let whole = usize::try_from(length / 8).unwrap_or(0);
        out.extend((start..start + whole).map(|at| {
            let next = self.bytes.get(at + 1).copied().unwrap_or(0);
            (u16::from_be_bytes([self.bytes[at], next]) << (from % 8)).to_be_bytes()[0]
        }));
        let mut writer = BitWriter { out, pending: 0, count: 0 };
        let mut at = from + length / 8 * 8;
        while at < self.end {
            let count = (self.end - at).min(32);
            writer.put(bits_at(&self.bytes, at, count), count);
            at += count;
        }
        let crc = if length >= MAGIC_BITS + 32 { bits_at(&self.bytes, from + MAGIC_BITS, 32) } else { 0 };
        writer.put(END, MAGIC_BITS);
        writer.put(crc, 32);
        writer.finish()
    }

    /// Goes on to what follows the current block.
    fn advance(&mut self) -> io::Result<()> {
        let length = self.end - self.bit % 8;
        self.drop_bits(length);
        Ok(())
    }

    /// Goes on behind the end of a stream: magic number, CRC, padding to a byte.
    fn leave_stream(&mut self) -> io::Result<()> {
        let length = (self.bit % 8 + MAGIC_BITS + 32).next_multiple_of(8);
        if !self.reach(length)? {
            return Err(SlotError::Decode {
                format: "bzip2",
                at: self.bit / 8,
                reason: "it ends too early".into(),
            }
            .into_read());
        }
        self.drop_bits(length - self.bit % 8);
        Ok(())
    }

    fn drop_bits(&mut self, count: u64) {
        let whole = (self.bit % 8 + count) / 8;
        self.bytes.drain(..usize::try_from(whole).unwrap_or(usize::MAX).min(self.bytes.len()));
        self.bit += count;
    }
}

/// Returns up to 56 bits of `bytes` from bit `at` on, most significant first; bits beyond the end are zero.
fn bits_at(bytes: &[u8], at: u64, count: u64) -> u64 {
    let start = usize::try_from(at / 8).unwrap_or(usize::MAX).min(bytes.len());
    let mut word = [0; 8];
    let available = (bytes.len() - start).min(8);
    word[..available].copy_from_slice(&bytes[start..start + available]);
    (u64::from_be_bytes(word) << (at % 8)) >> (64 - count)
}

/// For each value of the byte behind the one in which a magic number begins: the bits at which one can begin there. Nearly
/// all values have none, so that hardly any place is looked at closely.
const HINTS: [u8; 256] = {
    let mut hints = [0; 256];
    let mut bit = 0;
    while bit < 8 {
        hints[(BLOCK << (8 - bit) >> 40 & 0xff) as usize] |= 1 << bit;
        hints[(END << (8 - bit) >> 40 & 0xff) as usize] |= 1 << bit;
        bit += 1;
    }
    hints
};

/// Returns the first bit position, at or after `from`, where either magic number lies in full.
fn find_magic(bytes: &[u8], from: u64) -> Option<u64> {
    let total = (bytes.len() as u64) * 8;
    let mut at = from;
    // A window of 56 bits covers the eight positions that begin in one byte.
    while at + MAGIC_BITS <= total {
        let first = at % 8;
        let start = usize::try_from(at / 8).ok()?;
        let hint = HINTS[usize::from(bytes[start + 1])];
        if hint == 0 {
            at = at - first + 8;
            continue;
        }
        let window = bits_at(bytes, (start as u64) * 8, 56);
        for bit in (first..8).filter(|bit| hint >> bit & 1 == 1) {
            let candidate = (window >> (8 - bit)) & MAGIC_MASK;
            if (candidate == BLOCK || candidate == END) && at - first + bit + MAGIC_BITS <= total {
                return Some(at - first + bit);
            }
        }
        at = at - first + 8;
    }
    None
}

/// Joins bits into bytes.
struct BitWriter {
    out: Vec<u8>,
    pending: u64,
    count: u64,
}

impl BitWriter {
    fn put(&mut self, value: u64, bits: u64) {
        for shift in (0..bits).step_by(16) {
            let part = (bits - shift).min(16);
            let piece = (value >> (bits - shift - part)) & ((1 << part) - 1);
            self.pending = (self.pending << part) | piece;
            self.count += part;
            while self.count >= 8 {
                self.count -= 8;
                self.out.push(u8::try_from((self.pending >> self.count) & 0xff).unwrap_or(0));
            }
            self.pending &= (1 << self.count) - 1;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            let rest = 8 - self.count;
            self.put(0, rest);
        }
        self.out
    }
}
