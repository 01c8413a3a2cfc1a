//! Raw deflate with stops at block boundaries, so that decoding can resume there (zlib's `inflate` interface).
//!
//! **Invariant:** the only unsafe code of the slot module. Every call passes whole slices and keeps nothing of
//! them after it returns.
#![expect(unsafe_code, reason = "block boundaries, priming and windows are only in zlib's C-style interface")]

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, Z_TREES, inflate, inflateEnd, inflateGetDictionary,
    inflateInit2_, inflateMark, inflatePrime, inflateReset2, inflateSetDictionary, z_stream, zlibVersion,
};

/// The largest distance that deflate data refers back (RFC 1951): what a window must hold.
pub const WINDOW: usize = 32 << 10;

/// What surrounds the deflate data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// A gzip member with header and trailer, whose CRC is checked.
    Gzip,
    /// Nothing.
    Raw,
}

impl Wrapper {
    fn window_bits(self) -> i32 {
        match self {
            Self::Gzip => 15 + 16,
            Self::Raw => -15,
        }
    }
}

impl Until {
    fn code(self) -> i32 {
        match self {
            Self::Starved => Z_NO_FLUSH,
            Self::Block => Z_BLOCK,
            Self::Header => Z_TREES,
        }
    }
}

/// What one call did.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes taken from the input.
    pub consumed: usize,
    /// Bytes put into the output.
    pub produced: usize,
    /// Bits of the consumed bytes that are not used yet.
    pub unused_bits: u8,
    /// Where it stopped.
    pub stop: Stop,
}

/// Where a call is to stop before input or output is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Nowhere.
    Starved,
    /// Between two blocks.
    Block,
    /// After the header of the block that begins here; only before a block that is not stored plainly, which
    /// zlib-rs 0.6.8 would then read wrongly.
    Header,
}

/// Where a call stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Where input or output was used up.
    Starved,
    /// Between two blocks.
    BeforeBlock,
    /// After the last block, before what pads it to a whole byte.
    AfterLastBlock,
    /// After the header of a block (its type and code tables), before its first code.
    AfterHeader,
    /// At the end of the deflate data and of the trailer of a member.
    Finished,
}

/// A decoder's state.
pub struct Inflate {
    state: ManuallyDrop<State>,
}

/// What the library was given, initialised.
struct State(Box<z_stream>);

/// States that nobody uses. Decoders come and go with every span that is read; the memory of each would leave a hole that
/// glibc before 2.38 does not fill again, because it has to be aligned.
static SPARE: Mutex<Vec<State>> = Mutex::new(Vec::new());
/// As many as are decoding at a time; a state takes 48 KiB.
const MOST_SPARE: usize = 4;

// SAFETY: what is behind the stream's pointers is owned by this value alone and not tied to a thread.
unsafe impl Send for State {}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inflate").finish_non_exhaustive()
    }
}

impl Inflate {
    /// Returns a decoder; `None` when there is no memory for one.
    #[must_use]
    pub fn new(wrapper: Wrapper) -> Option<Self> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(state) = spare {
            let mut inflate = Self { state: ManuallyDrop::new(state) };
            if inflate.reset(wrapper) {
                return Some(inflate);
            }
        }
        let mut stream = Box::<z_stream>::default();
        let size = i32::try_from(size_of::<z_stream>()).ok()?;
        // SAFETY: the stream is initialised by `default`, the version string and size are the library's own.
        let code = unsafe { inflateInit2_(&raw mut *stream, wrapper.window_bits(), zlibVersion(), size) };
        (code == Z_OK).then(|| Self { state: ManuallyDrop::new(State(stream)) })
    }

    /// Forgets everything and starts anew with this wrapper.
    pub fn reset(&mut self, wrapper: Wrapper) -> bool {
        // SAFETY: the stream was initialised by `new` and is not ended before `drop`.
        unsafe { inflateReset2(&raw mut *self.state.0, wrapper.window_bits()) == Z_OK }
    }

    /// Feeds the last `bits` (0 ..= 7) bits of a byte that lie before the next input byte.
    pub fn prime(&mut self, bits: u8, value: u8) -> bool {
        // SAFETY: as in `reset`; the values are checked by the library.
        unsafe { inflatePrime(&raw mut *self.state.0, i32::from(bits), i32::from(value)) == Z_OK }
    }

    /// Gives a raw decoder the bytes that came out before the place where it resumes.
    pub fn set_window(&mut self, window: &[u8]) -> bool {
        let Ok(length) = u32::try_from(window.len()) else { return false };
        // SAFETY: as in `reset`; pointer and length are those of one slice, and are only read.
        unsafe { inflateSetDictionary(&raw mut *self.state.0, window.as_ptr(), length) == Z_OK }
    }

    /// Returns the last bytes that came out, at most [`WINDOW`].
    #[must_use]
    pub fn window(&self) -> Vec<u8> {
        let mut window = vec![0; WINDOW];
        let mut length = 0;
        // SAFETY: as in `reset`; the buffer has room for the largest window there is (32 KiB).
        let code =
            unsafe { inflateGetDictionary(&raw const *self.state.0, window.as_mut_ptr(), &raw mut length) };
        window.truncate(if code == Z_OK { usize::try_from(length).unwrap_or(0) } else { 0 });
        window
    }

    /// Tells whether the decoder is between two codes of a block that has codes. Only to be asked after a
    /// [`Stop::Starved`] that was not preceded by a [`Stop::BeforeBlock`] since the last [`Stop::AfterHeader`].
    #[must_use]
    pub fn is_between_codes(&self) -> bool {
        // SAFETY: as in `reset`. zlib.h: the upper bits are the bits used of the code being processed, the lower
        // ones the bytes of it (or left of a stored block) that were copied.
        unsafe { inflateMark(&raw const *self.state.0) == 0 }
    }

    /// Decodes from `input` into `output` until one of them is used up, the data ends or `until` is reached.
    ///
    /// # Errors
    /// Says what is wrong with the data.
    pub fn run(&mut self, input: &[u8], output: &mut [u8], until: Until) -> Result<Progress, String> {
        let stream = &mut *self.state.0;
        stream.next_in = input.as_ptr();
        stream.avail_in = u32::try_from(input.len()).unwrap_or(u32::MAX);
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = u32::try_from(output.len()).unwrap_or(u32::MAX);
        let (given, room) = (stream.avail_in, stream.avail_out);
        // SAFETY: the stream is initialised; input and output point to slices of at least the given lengths
        // that live until the call returns, and they do not overlap (`output` is a unique reference).
        let code = unsafe { inflate(stream, until.code()) };
        // zlib.h on `Z_BLOCK` and `Z_TREES`: bits 0..=5 count unused bits, bit 6 is set in the last block, bit 7
        // between blocks, bit 8 after a header.
        let stop = match (code, stream.data_type & 0x1c0) {
            (Z_STREAM_END, _) => Stop::Finished,
            (_, 0x80) if until != Until::Starved => Stop::BeforeBlock,
            (_, 0xc0) if until != Until::Starved => Stop::AfterLastBlock,
            (_, 0x100 | 0x140) if until == Until::Header => Stop::AfterHeader,
            _ => Stop::Starved,
        };
        let progress = Progress {
            consumed: (given - stream.avail_in) as usize,
            produced: (room - stream.avail_out) as usize,
            unused_bits: u8::try_from(stream.data_type & 0x3f).unwrap_or(0),
            stop,
        };
        match code {
            Z_OK | Z_STREAM_END | Z_BUF_ERROR => Ok(progress),
            _ if stream.msg.is_null() => Err(format!("invalid deflate data (zlib code {code})")),
            // SAFETY: the library sets `msg` to null or to a static string that ends with NUL.
            _ => Err(unsafe { CStr::from_ptr(stream.msg) }.to_string_lossy().into_owned()),
        }
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: this value is not used any more.
        let state = unsafe { ManuallyDrop::take(&mut self.state) };
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(state);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: initialised by `Inflate::new`, ended only here.
        unsafe { inflateEnd(&raw mut *self.0) };
    }
}
