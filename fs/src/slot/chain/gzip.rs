//! gzip (RFC 1952) with any number of members, and bare deflate; reports where decoding can resume.
//!
//! What follows the last member and does not begin like one is ignored, as `gzip -d` and FlavorPack's Rust launcher
//! do. Points lie between deflate blocks, or, since some compressors (zlib-ng at level 1, for one) put everything into
//! a single block, between two codes of a block whose header is read again on resuming.

use std::io::{self, Read};

use super::buffer::Buffer;
use super::{BlockHeader, Observer, Point};
use crate::disk::range::{FileRange, RangeReader};
use crate::slot::SlotError;
use crate::slot::seek::inflate::{Inflate, Stop, Until, Wrapper};

/// About how many decoded bytes lie between two points of a gzip stream. Measured on 537 MB of Python wheels: a
/// random 4 KiB read costs half of this in decoding, and each point about 12 KiB in the index.
pub const POINT_INTERVAL: u64 = 1 << 20;

/// ID1, ID2, CM of RFC 1952, section 2.3.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER: usize = 10;
/// CRC-32 and ISIZE.
const TRAILER: usize = 8;
/// Output of one call to the decoder while points are wanted.
const LONGEST_STEP: usize = 128 << 10;
/// Output that eight bits can fill: four codes of two bits and 258 bytes each.
const SEARCH_ROOM: usize = 2048;
/// A block header holds at most 3 + 14 + 19 × 3 + 316 × 14 bits (RFC 1951, section 3.2.7).
const LONGEST_HEADER: u32 = 4500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A member or the end must follow.
    Between,
    /// In deflate data that `inflate` ends itself, trailer included.
    Member,
    /// In deflate data after a resume: the trailer is ours to skip.
    Rest,
    /// In deflate data without wrapper: its end is the end.
    Raw,
    End,
}

/// Decoder of gzip and raw deflate data.
pub(super) struct GzipReader<R> {
    input: Buffer<R>,
    inflate: Option<Inflate>,
    state: State,
    resume: Option<Resume>,
    decoded: u64,
    points: Option<Points>,
}

/// What to set up before the first byte of a resumed stream.
struct Resume {
    stored: FileRange,
    point: Point,
}

/// Where the reader is in the stream's structure, and when the next point is due.
struct Points {
    observe: Observer,
    last: Option<u64>,
    /// Where the next header begins, in stored bits.
    block: u64,
    /// The header of the block in which the reader is, if that has codes.
    header: Option<BlockHeader>,
    /// Whether the reader is at the header of a block that has codes.
    at_header: bool,
    /// The last eight bytes consumed, the newest lowest.
    consumed: u64,
}

impl GzipReader<RangeReader> {
    /// Starts in the middle of a member.
    pub(super) fn resume(stored: &FileRange, point: &Point) -> Self {
        let mut reader = Self::with(stored.reader(point.stored_bits / 8), State::Rest, None);
        reader.resume = Some(Resume { stored: stored.clone(), point: point.clone() });
        reader
    }
}

impl<R: Read> GzipReader<R> {
    pub(super) fn new(input: R, observe: Option<Observer>) -> Self {
        Self::with(input, State::Between, observe)
    }

    /// Decodes one run of deflate data without a wrapper.
    pub(super) fn raw(input: R) -> Self {
        Self::with(input, State::Raw, None)
    }

    fn with(input: R, state: State, observe: Option<Observer>) -> Self {
        let wrapper = if state == State::Between { Wrapper::Gzip } else { Wrapper::Raw };
        let points = observe.map(Points::new);
        let (input, inflate) = (Buffer::new(input), Inflate::new(wrapper));
        Self { input, inflate, state, resume: None, decoded: 0, points }
    }

    fn damaged(&self, reason: impl Into<String>) -> io::Error {
        SlotError::Decode { format: "gzip", at: self.input.position(), reason: reason.into() }.into_read()
    }

    fn is_due(&self) -> bool {
        let Some(points) = &self.points else { return false };
        points.last.is_none_or(|last| self.decoded - last >= POINT_INTERVAL)
    }

    /// Enters the next member, or ends.
    fn enter_member(&mut self) -> io::Result<()> {
        let head = self.input.peek(HEADER)?;
        // RFC 1952, section 2.3.1.2: reserved flag bits must be zero.
        let valid = head.len() >= HEADER && head[..3] == MAGIC && head[3] & 0xe0 == 0;
        let reason = if head.is_empty() { "it is empty" } else { "no gzip header" };
        if !valid {
            if self.input.position() == 0 {
                return Err(self.damaged(reason));
            }
            self.state = State::End;
            return Ok(());
        }
        let (due, stored_bits) = (self.is_due(), self.input.position() * 8);
        if let Some(points) = &mut self.points {
            (points.header, points.at_header) = (None, false);
            if due {
                points.note(Point { decoded: self.decoded, stored_bits, context: Vec::new(), header: None });
            }
        }
        self.state = State::Member;
        let ready = self.inflate.as_mut().is_some_and(|inflate| inflate.reset(Wrapper::Gzip));
        if ready { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    fn set_up(&mut self, resume: &Resume) -> io::Result<()> {
        let Some(inflate) = &mut self.inflate else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let mut fits = inflate.set_window(&resume.point.context);
        if let Some(header) = resume.point.header {
            fits &= repeat_header(inflate, &resume.stored, header)?;
        }
        let bit = u8::try_from(resume.point.stored_bits % 8).unwrap_or(0);
        if bit > 0 {
            let first = self.input.peek(1)?.first().copied();
            fits &= first.is_some_and(|byte| inflate.prime(8 - bit, byte >> bit));
            self.input.consume(1);
        }
        if fits { Ok(()) } else { Err(self.damaged("the seek point does not fit the data")) }
    }

    /// One step in deflate data; returns how many bytes came out.
    fn step(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let searching = self.is_due() && self.points.as_ref().is_some_and(|points| points.header.is_some());
        let input = self.input.peek(1)?;
        let Some(inflate) = &mut self.inflate else { return Err(io::ErrorKind::OutOfMemory.into()) };
        if let (true, Some(&byte)) = (searching && output.len() >= SEARCH_ROOM, input.first()) {
            return self.search(byte, output);
        }
        // A point can be made only where a call ends.
        let room = if self.points.is_some() { LONGEST_STEP.min(output.len()) } else { output.len() };
        let output = &mut output[..room];
        let (given, until) = (input.len(), self.points.as_ref().map_or(Until::Starved, Points::until));
        let progress = match inflate.run(input, output, until) {
            Ok(progress) => progress,
            Err(reason) => return Err(self.damaged(reason)),
        };
        if let Some(points) = &mut self.points {
            points.remember(&input[..progress.consumed]);
        }
        self.input.consume(progress.consumed);
        self.decoded += progress.produced as u64;
        match progress.stop {
            Stop::Finished => {
                if self.state == State::Rest {
                    self.skip_trailer()?;
                }
                self.state = if self.state == State::Raw { State::End } else { State::Between };
            }
            Stop::Starved if progress.produced == 0 && progress.consumed == 0 && given == 0 => {
                return Err(self.damaged("it ends too early"));
            }
            Stop::Starved if progress.produced == 0 && progress.consumed == 0 => {
                return Err(self.damaged("the decoder makes no progress"));
            }
            Stop::Starved | Stop::BeforeBlock | Stop::AfterHeader | Stop::AfterLastBlock => {
                self.follow(progress.stop, progress.unused_bits)?;
            }
        }
        Ok(progress.produced)
    }

    /// Decodes the next input byte bit by bit until a point is found: between two codes. Whole bytes would not do,
    /// as codes of an even length may keep on straddling their ends.
    fn search(&mut self, byte: u8, output: &mut [u8]) -> io::Result<usize> {
        let Some(inflate) = &mut self.inflate else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let mut produced = 0;
        let mut found = None;
        for bit in 0..8 {
            let fits = inflate.prime(1, (byte >> bit) & 1);
            let progress = match inflate.run(&[], &mut output[produced..], Until::Block) {
                Ok(progress) if fits => progress,
                Ok(_) => return Err(self.damaged("the decoder makes no progress")),
                Err(reason) => return Err(self.damaged(reason)),
            };
            produced += progress.produced;
            self.decoded += progress.produced as u64;
            let between = progress.stop == Stop::Starved && inflate.is_between_codes();
            if progress.stop != Stop::Starved || between {
                found = Some((progress, 7 - bit, self.decoded, inflate.window()));
                // The decoder must have whole bytes when it pads the last block to one.
                if bit < 7 && !inflate.prime(7 - bit, byte >> (bit + 1)) {
                    return Err(self.damaged("the decoder makes no progress"));
                }
                break;
            }
        }
        self.input.consume(1);
        let Some(points) = &mut self.points else { return Ok(produced) };
        points.remember(&[byte]);
        if let Some((progress, rest, decoded, context)) = found {
            let unused_bits = progress.unused_bits + rest;
            if progress.stop == Stop::Starved {
                let stored_bits = (self.input.position() * 8).saturating_sub(u64::from(unused_bits));
                let header = points.header;
                points.note(Point { decoded, stored_bits, context, header });
            } else {
                self.follow(progress.stop, unused_bits)?;
            }
        }
        Ok(produced)
    }

    /// Keeps track of blocks, and reports a point when one is due and possible.
    fn follow(&mut self, stop: Stop, unused_bits: u8) -> io::Result<()> {
        let due = self.is_due();
        let stored_bits = (self.input.position() * 8).saturating_sub(u64::from(unused_bits));
        let (Some(points), Some(inflate)) = (&mut self.points, &self.inflate) else { return Ok(()) };
        match stop {
            Stop::BeforeBlock => {
                let next = self.input.peek(1)?.first().copied();
                points.enter_block(stored_bits, unused_bits, next);
                let context = if due { inflate.window() } else { Vec::new() };
                // At the very start of a member nothing lies before: the point at its header serves.
                if !context.is_empty() {
                    points.note(Point { decoded: self.decoded, stored_bits, context, header: None });
                }
            }
            Stop::AfterHeader => points.enter_codes(stored_bits),
            Stop::AfterLastBlock => (points.header, points.at_header) = (None, false),
            Stop::Starved | Stop::Finished => {}
        }
        Ok(())
    }

    fn skip_trailer(&mut self) -> io::Result<()> {
        let present = self.input.peek(TRAILER)?.len();
        if present < TRAILER {
            return Err(self.damaged("it ends too early"));
        }
        self.input.consume(TRAILER);
        Ok(())
    }
}

impl Points {
    fn new(observe: Observer) -> Self {
        Self { observe, last: None, block: 0, header: None, at_header: false, consumed: 0 }
    }

    fn until(&self) -> Until {
        if self.at_header { Until::Header } else { Until::Block }
    }

    fn remember(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(8)..] {
            self.consumed = (self.consumed << 8) | u64::from(*byte);
        }
    }

    /// Notes that a block begins at `stored_bits`: `unused_bits` before the `next` byte.
    fn enter_block(&mut self, stored_bits: u64, unused_bits: u8, next: Option<u8>) {
        self.block = stored_bits;
        self.header = None;
        // The unused bits are the most significant ones of the bytes consumed last, which deflate reads from the
        // least significant bit of the first on.
        let unused = u32::from(unused_bits.min(56));
        let whole = unused.div_ceil(8);
        let last_bytes = self.consumed.swap_bytes() >> (64 - 8 * whole.max(1));
        let before = if whole == 0 { 0 } else { last_bytes >> (8 * whole - unused) };
        let bits = before | u64::from(next.unwrap_or(0)) << unused;
        // BFINAL, then BTYPE: 0 is a stored block, 3 an error (RFC 1951, section 3.2.3).
        let known = unused >= 3 || next.is_some();
        self.at_header = known && matches!((bits >> 1) & 3, 1 | 2);
    }

    /// Notes that the header of the current block ends at `stored_bits`.
    fn enter_codes(&mut self, stored_bits: u64) {
        self.at_header = false;
        let length = u32::try_from(stored_bits.saturating_sub(self.block)).unwrap_or(u32::MAX);
        let header = BlockHeader { stored_bits: self.block, length };
        self.header = (1..=LONGEST_HEADER).contains(&length).then_some(header);
    }

    fn note(&mut self, point: Point) {
        self.last = Some(point.decoded);
        (self.observe)(point);
    }
}

/// Feeds a block's header to a fresh decoder, so that it stands before the first code of that block.
fn repeat_header(inflate: &mut Inflate, stored: &FileRange, header: BlockHeader) -> io::Result<bool> {
    let shift = header.stored_bits % 8;
    let length = u64::from(header.length.min(LONGEST_HEADER));
    let mut bytes = vec![0; usize::try_from((shift + length).div_ceil(8)).unwrap_or(0)];
    stored.read_exact_at(header.stored_bits / 8, &mut bytes)?;
    // Bits are packed from the least significant on (RFC 1951, section 3.1.1): move the first one to bit 0.
    bytes.push(0);
    let mut moved: Vec<u8> = bytes
        .windows(2)
        .map(|pair| u8_from((u16::from(pair[0]) | u16::from(pair[1]) << 8) >> shift))
        .collect();
    let whole = usize::try_from(length / 8).unwrap_or(0);
    let rest = u8::try_from(length % 8).unwrap_or(0);
    let last = moved.get(whole).copied().unwrap_or(0);
    moved.truncate(whole);
    let fed = moved.is_empty()
        || inflate.run(&moved, &mut [0], Until::Starved).is_ok_and(|progress| progress.consumed == whole);
    Ok(fed && (rest == 0 || inflate.prime(rest, last & ((1 << rest) - 1))))
}

fn u8_from(word: u16) -> u8 {
    word.to_le_bytes()[0]
}

impl<R: Read> Read for GzipReader<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        if let Some(resume) = self.resume.take() {
            self.set_up(&resume)?;
        }
        loop {
            match self.state {
                State::End => return Ok(0),
                State::Between => self.enter_member()?,
                State::Member | State::Rest | State::Raw => {
                    let produced = self.step(output)?;
                    if produced > 0 {
                        return Ok(produced);
                    }
                }
            }
        }
    }
}
