//! zstd (RFC 8878) with any number of frames; reports where frames start.

use std::io::{self, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::buffer::Buffer;
use super::{Observer, Point};
use crate::slot::{Limits, SlotError};

/// Frames that start sooner after the last reported one are not reported: a point costs more than they do.
const SHORTEST: u64 = 256 << 10;

/// Decoder of zstd data.
pub(super) struct ZstdReader<R> {
    input: Buffer<R>,
    context: Option<DCtx<'static>>,
    /// At the start of a frame, or at the end.
    between: bool,
    decoded: u64,
    last_point: Option<u64>,
    observe: Option<Observer>,
}

impl<R: Read> ZstdReader<R> {
    pub(super) fn new(input: R, limits: &Limits, observe: Option<Observer>) -> Self {
        let window = DParameter::WindowLogMax(limits.longest_window());
        let context =
            DCtx::try_create().and_then(|mut context| context.set_parameter(window).ok().map(|_| context));
        Self { input: Buffer::new(input), context, between: true, decoded: 0, last_point: None, observe }
    }

    fn damaged(&self, reason: impl Into<String>) -> io::Error {
        SlotError::Decode { format: "zstd", at: self.input.position(), reason: reason.into() }.into_read()
    }

    fn enter_frame(&mut self) {
        let due = self.last_point.is_none_or(|last| self.decoded - last >= SHORTEST);
        if let (true, Some(observe)) = (due, &mut self.observe) {
            self.last_point = Some(self.decoded);
            observe(Point {
                decoded: self.decoded,
                stored_bits: self.input.position() * 8,
                context: Vec::new(),
                header: None,
            });
        }
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            let empty = self.input.peek(1)?.is_empty();
            if self.between {
                match (empty, self.input.position()) {
                    (true, 0) => return Err(self.damaged("it is empty")),
                    (true, _) => return Ok(0),
                    (false, _) => self.enter_frame(),
                }
            }
            let Some(context) = &mut self.context else { return Err(io::ErrorKind::OutOfMemory.into()) };
            let bytes = self.input.peek(0)?;
            let mut source = InBuffer::around(bytes);
            let mut target = OutBuffer::around(&mut *output);
            let result = context.decompress_stream(&mut target, &mut source);
            let (consumed, produced) = (source.pos(), target.pos());
            self.input.consume(consumed);
            self.decoded += produced as u64;
            match result {
                Ok(hint) => self.between = hint == 0,
                Err(code) => {
                    let _ = context.reset(ResetDirective::SessionOnly);
                    return Err(self.damaged(get_error_name(code)));
                }
            }
            if produced > 0 {
                return Ok(produced);
            }
            if empty && !self.between {
                return Err(self.damaged("it ends too early"));
            }
        }
    }
}
