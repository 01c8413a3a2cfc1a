//! xz with any number of streams and blocks.

use std::io::{self, Read};

use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream};

use super::buffer::Buffer;
use crate::slot::{Limits, SlotError};

/// Decoder of xz data.
pub(super) struct XzReader<R> {
    input: Buffer<R>,
    stream: Option<Stream>,
    ended: bool,
    /// An error that came together with output, which goes first. A reader that starts in the middle of a stream meets
    /// one where the index, which counts all blocks, follows the last of them.
    failed: Option<io::Error>,
}

impl<R: Read> XzReader<R> {
    pub(super) fn new(input: R, limits: &Limits) -> Self {
        let stream = Stream::new_stream_decoder(limits.decoder_memory, CONCATENATED).ok();
        Self { input: Buffer::new(input), stream, ended: false, failed: None }
    }

    fn damaged(&self, reason: impl Into<String>) -> io::Error {
        SlotError::Decode { format: "xz", at: self.input.position(), reason: reason.into() }.into_read()
    }
}

impl<R: Read> Read for XzReader<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while !self.ended {
            let bytes = self.input.peek(1)?;
            let action = if bytes.is_empty() { Action::Finish } else { Action::Run };
            let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::OutOfMemory.into()) };
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let result = stream.process(bytes, output, action);
            let consumed = usize::try_from(stream.total_in() - before_in).unwrap_or(usize::MAX);
            let produced = usize::try_from(stream.total_out() - before_out).unwrap_or(usize::MAX);
            self.input.consume(consumed);
            match result {
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(Status::Ok | Status::GetCheck) => {}
                Ok(Status::MemNeeded) if matches!(action, Action::Finish) && produced == 0 => {
                    return Err(self.damaged("it ends too early"));
                }
                Ok(Status::MemNeeded) => {}
                Err(Error::MemLimit) => {
                    return Err(self.damaged("it needs more memory than a decoder may take"));
                }
                Err(error) if produced > 0 => self.failed = Some(self.damaged(error.to_string())),
                Err(error) => return Err(self.damaged(error.to_string())),
            }
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 && matches!(action, Action::Finish) && !self.ended {
                return Err(self.damaged("it ends too early"));
            }
        }
        Ok(0)
    }
}
