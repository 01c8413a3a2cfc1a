//! How one piece of a stream is compressed, and what is around the pieces.
//!
//! gzip (RFC 1952): all pieces are in one member, because FlavorPack's Rust launcher reads the first and no other. Each
//! ends with a full flush, after which deflate (RFC 1951) refers to nothing that was before.
//!
//! zstd (RFC 8878): each piece is a frame with a checksum; at the end is the table of the seekable format
//! (zstd's contrib/seekable_format), a frame that every decoder skips.
//!
//! **Invariant:** nothing in the bytes tells when, where or by how many threads they were made.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// ID1, ID2, deflate, no flags, no time, no extra flags, no system (RFC 1952, section 2.3).
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block with nothing in it (RFC 1951, section 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];
/// Magic number of the skippable frame that holds the table.
const TABLE_FRAME: u32 = 0x184D_2A5E;
/// Magic number at the end of the table.
const TABLE_END: u32 = 0x8F92_EAB1;

/// The highest zstd level for those who care more for speed than for size.
const QUICK: u32 = 5;

/// Content that goes on for longer belongs to a large file: its first pieces are as long as others, the rest are shorter. A
/// multiple of the longest piece.
pub(super) const LARGE: usize = 4 << 20;
/// Length of such a piece. Measured: random reads of 4 KiB decode half as much; libraries of 4 to 25 MB are 2.7 % longer at level 3.
pub(super) const LARGE_PIECE: usize = 512 << 10;

/// A compression and how hard it tries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Codec {
    /// `level` 1 to 9.
    Gzip { level: u32 },
    /// `level` 1 to 19.
    Zstd { level: u32 },
}

impl Codec {
    /// Content of a piece, in bytes, at most. All of it is decoded for a random read, so it is short where speed matters.
    /// Measured on 125 MiB of Python packages: pieces make a gzip stream 0.8 % longer; archives of the fast profile are 0.5 %
    /// longer at level 3 and 3.4 % at level 9 than what `tar` and `zstd` make of the same files.
    pub(super) fn longest(self) -> usize {
        match self {
            Self::Gzip { .. } => 256 << 10,
            Self::Zstd { level } if level > QUICK => 2 << 20,
            Self::Zstd { .. } => 1 << 20,
        }
    }

    /// The same in the middle of a large file, `unbroken` bytes behind the last good place to end. Programs jump about in such
    /// a file, so its pieces are shorter.
    pub(super) fn longest_after(self, unbroken: u64) -> usize {
        match self {
            Self::Zstd { level } if level <= QUICK && unbroken >= LARGE as u64 => LARGE_PIECE,
            Self::Gzip { .. } | Self::Zstd { .. } => self.longest(),
        }
    }

    /// Content from which a piece may end early; gzip's are short enough.
    pub(super) fn shortest(self) -> usize {
        match self {
            Self::Gzip { .. } => self.longest(),
            Self::Zstd { level } if level > QUICK => 1536 << 10,
            Self::Zstd { .. } => 512 << 10,
        }
    }

    /// What comes before the first piece.
    pub(super) fn head(self) -> &'static [u8] {
        match self {
            Self::Gzip { .. } => &GZIP_HEAD,
            Self::Zstd { .. } => &[],
        }
    }
}

/// Compresses one piece after the other.
pub(super) enum Compressor {
    Gzip(Compress),
    Zstd(io::Result<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    pub(super) fn new(codec: Codec) -> Self {
        match codec {
            Codec::Gzip { level } => Self::Gzip(Compress::new(Compression::new(level), false)),
            Codec::Zstd { level } => {
                let level = i32::try_from(level).unwrap_or(0);
                Self::Zstd(zstd::bulk::Compressor::new(level).and_then(|mut compressor| {
                    compressor.include_checksum(true)?;
                    Ok(compressor)
                }))
            }
        }
    }

    /// Compresses a piece as if there were no other, into `piece`, whatever was in it.
    pub(super) fn piece(&mut self, content: &[u8], piece: &mut Vec<u8>) -> io::Result<()> {
        piece.clear();
        match self {
            Self::Gzip(compress) => deflate(compress, content, piece),
            Self::Zstd(Ok(compressor)) => {
                piece.reserve(zstd::zstd_safe::compress_bound(content.len()));
                compressor.compress_to_buffer(content, piece).map(|_| ())
            }
            Self::Zstd(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// Compresses from a fresh state up to a full flush, into an empty `piece`.
fn deflate(compress: &mut Compress, content: &[u8], piece: &mut Vec<u8>) -> io::Result<()> {
    compress.reset();
    if content.is_empty() {
        return Ok(());
    }
    // What cannot be compressed grows by five bytes for 16 KiB, and there is the flush.
    piece.reserve(content.len() + content.len() / 1024 + 64);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(done..).unwrap_or_default();
        let status = compress.compress_vec(rest, piece, FlushCompress::Full).map_err(io::Error::other)?;
        let taken = compress.total_in() == content.len() as u64;
        if taken && piece.len() < piece.capacity() {
            return Ok(());
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the compressor ended too early"));
        }
        piece.reserve(64 << 10);
    }
}

/// Gathers what has to be known at the end.
pub(super) enum Ending {
    /// Checksum and length of the content.
    Gzip(Crc),
    /// Compressed and decompressed length of each frame.
    Zstd(Vec<(u32, u32)>),
}

impl Ending {
    pub(super) fn of(codec: Codec) -> Self {
        match codec {
            Codec::Gzip { .. } => Self::Gzip(Crc::new()),
            Codec::Zstd { .. } => Self::Zstd(Vec::new()),
        }
    }

    /// Notes content.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        if let Self::Gzip(crc) = self {
            crc.update(bytes);
        }
    }

    /// Notes a piece of `stored` bytes for `content` bytes.
    pub(super) fn piece(&mut self, stored: usize, content: u64) {
        if let Self::Zstd(frames) = self {
            // Both are a few mebibytes at most.
            let short = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
            frames.push((short(stored as u64), short(content)));
        }
    }

    /// Returns what comes after the last piece.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Gzip(crc) => {
                [&LAST_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()
            }
            Self::Zstd(frames) => table(frames),
        }
    }
}

/// Returns the table of the seekable format, without the optional checksums: the frames have their own.
fn table(frames: &[(u32, u32)]) -> Vec<u8> {
    let entries = frames.iter().flat_map(|(stored, content)| [stored.to_le_bytes(), content.to_le_bytes()]);
    let mut body: Vec<u8> = entries.flatten().collect();
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    body.extend(count.to_le_bytes());
    // Descriptor: no checksums.
    body.push(0);
    body.extend(TABLE_END.to_le_bytes());
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&TABLE_FRAME.to_le_bytes()[..], &length.to_le_bytes(), &body].concat()
}
