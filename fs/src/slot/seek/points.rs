//! The points of a stream while the pass is still finding them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::stream::Points;
use crate::slot::SlotError;
use crate::slot::chain::{Bounds, Observer, Point};
use crate::slot::index::{IndexWriter, PointRecord, bounds_of, pack_window, point_of, unpack_window};

/// Points in order, their windows in the index that is being written.
#[derive(Debug)]
pub struct PointLog {
    writer: Arc<IndexWriter>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<PointRecord>,
    /// Decoded bytes that were seen.
    reached: u64,
    /// How the decoding ended: with all bytes seen, or why it failed.
    end: Option<Result<(), Arc<str>>>,
}

impl PointLog {
    /// Returns an empty log that keeps windows in `writer`.
    #[must_use]
    pub fn new(writer: Arc<IndexWriter>) -> Self {
        Self { writer, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a point. One whose window cannot be kept is left out: the span before it is longer then.
    pub fn add(&self, point: &Point) {
        let window = pack_window(&point.context);
        let at = match self.writer.add_window(&window) {
            Ok(at) => at,
            Err(error) => {
                tracing::warn!("a seek point is lost: {error}");
                return;
            }
        };
        let (header_bits, header_length) =
            point.header.map_or((0, 0), |header| (header.stored_bits, header.length));
        let record = PointRecord {
            decoded: point.decoded.into(),
            stored_bits: point.stored_bits.into(),
            window: at.into(),
            window_length: u32::try_from(window.len()).unwrap_or(0).into(),
            header_length: header_length.into(),
            header_bits: header_bits.into(),
            reserved: [0; 24],
        };
        self.lock().records.push(record);
        self.changed.notify_all();
    }

    /// Returns what a decoder is to tell its points to.
    #[must_use]
    pub fn observer(self: &Arc<Self>) -> Observer {
        let log = Arc::clone(self);
        Box::new(move |point| log.add(&point))
    }

    /// Notes that so many decoded bytes were seen. Should the rest fail, these can still be read.
    pub fn reach(&self, decoded: u64) {
        self.lock().reached = decoded;
    }

    /// Ends the log: the decoded bytes are `outcome` long, or did not decode. Only the first call counts.
    pub fn end(&self, outcome: Result<u64, &SlotError>) {
        let mut state = self.lock();
        if state.end.is_none() {
            if let Ok(length) = outcome {
                state.reached = length;
            }
            state.end = Some(outcome.map(drop).map_err(|error| Arc::from(error.to_string())));
        }
        self.changed.notify_all();
    }

    /// Returns all points, for the index.
    #[must_use]
    pub fn records(&self) -> Vec<PointRecord> {
        self.lock().records.clone()
    }

    /// Waits until the point behind the wanted one, or the end, is known.
    fn record(&self, at: u64) -> Result<Option<(PointRecord, Bounds)>, SlotError> {
        let mut state = self.lock();
        let (record, end, behind) = loop {
            let next = state.records.partition_point(|record| record.decoded.get() <= at);
            let before = next.checked_sub(1).and_then(|number| state.records.get(number)).copied();
            match (before, state.records.get(next), &state.end) {
                (Some(record), Some(behind), _) => break (record, behind.decoded.get(), Some(*behind)),
                (_, None, None) | (None, Some(_), None) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                (_, _, Some(Err(reason))) if at >= state.reached => {
                    return Err(SlotError::PassFailed { reason: reason.to_string() });
                }
                (Some(record), None, Some(_)) => break (record, state.reached, None),
                (None, _, Some(_)) => return Ok(None),
            }
        };
        Ok(Some((record, bounds_of(&record, end, behind.as_ref()))))
    }
}

impl Points for PointLog {
    fn span(&self, at: u64) -> Result<Option<(Point, u64)>, SlotError> {
        let Some((record, bounds)) = self.record(at)? else { return Ok(None) };
        let length = u64::from(record.window_length.get());
        let window = unpack_window(&self.writer.window(record.window.get(), length)?)?;
        Ok(Some((point_of(&record, window), bounds.decoded.end)))
    }

    fn bounds(&self, at: u64) -> Result<Option<Bounds>, SlotError> {
        Ok(self.record(at)?.map(|(_, bounds)| bounds))
    }

    fn are_proven(&self) -> bool {
        false
    }
}
