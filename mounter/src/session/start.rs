//! Joining a live session or starting one. The caller holds the start lock all the while.
//!
//! 1. A lease is taken first: a server that has one to respect does not leave. Where none is to be had, a server is
//!    taking its mount away: that is waited for.
//! 2. With the lease in hand, the serving lock tells whether there is a server. If so, its record tells what it
//!    serves. If not, what a killed one left is cleared ([`super::recover`]) and a new one is started.
//!
//! **Invariant:** every wait ends, and says what it waited for.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::standby;

use super::error::SessionError;
use super::live::Session;
use super::place::{Lease, Place, StartLock};
use super::record::SessionRecord;
use super::request::{FailureCause, ServeReply, ServeRequest};
use super::server::Server;

/// How long each wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For another process that prepares the same work environment.
    pub preparing: Duration,
    /// For an earlier session that is ending.
    pub leaving: Duration,
    /// For a new server to mount.
    pub ready: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // Setup commands of real packages install dozens of wheels; a mount takes milliseconds on an idle machine
        // and has been seen to take seconds on one that swaps.
        Self {
            preparing: Duration::from_mins(10),
            leaving: Duration::from_secs(10),
            ready: Duration::from_secs(30),
        }
    }
}

/// What there is to join.
#[derive(Debug)]
pub enum Found {
    /// A live session, joined.
    Live(Box<Session>),
    /// None, and none can start but the caller's. The lease keeps a server that is started with it.
    Vacant(Lease),
}

/// Joins the live session at `place`, if there is one.
///
/// # Errors
/// An earlier session does not end in time, or a disk operation fails.
pub fn join(
    _start: &StartLock,
    place: &Place,
    workenv: &str,
    patience: Patience,
) -> Result<Found, SessionError> {
    let end = Instant::now() + patience.leaving;
    let late = |mountpoint: Option<PathBuf>| SessionError::Leaving {
        workenv: workenv.into(),
        mountpoint: mountpoint.unwrap_or_default(),
        waited: patience.leaving,
    };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let lease = match place.lease(left) {
            Ok(lease) => lease,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(late(SessionRecord::read(place)?.map(|record| record.request.mountpoint)));
            }
            Err(error) => return Err(error.into()),
        };
        if !place.is_served()? {
            return Ok(Found::Vacant(lease));
        }
        let record = SessionRecord::read(place)?;
        if let Some(record) = record
            && super::recover::answers(&record.request.mountpoint)?
        {
            // There is a server: the one that stands by need not wait for its task.
            drop(standby::take());
            return Ok(Found::Live(Box::new(Session { place: place.clone(), lease, record })));
        }
        // It lives but serves nothing: its mount was just taken away, or whoever started it was killed before it
        // was ready, or it was killed itself and the kernel has not closed all its files yet. Without our lease it ends
        // by itself.
        drop(lease);
        if Instant::now() >= end {
            return Err(late(None));
        }
        place.wait_until_unserved(Duration::from_millis(20))?;
    }
}

/// Starts a server for `request` and waits until it is ready.
///
/// Whoever held the start lock before may have been killed with a server just begun. Such a server finds its caller
/// gone and ends; when it was quicker than ours, it is waited for and ours is started again.
///
/// # Errors
/// It cannot be started, refuses, dies, or takes longer than `patience.ready`; then nothing of it is left but its
/// log.
pub fn start(
    start: &StartLock,
    place: &Place,
    mut lease: Lease,
    request: &ServeRequest,
    patience: Patience,
) -> Result<Session, SessionError> {
    let end = Instant::now() + patience.leaving;
    loop {
        let mut server = Server::start(&place.log(), &request.log)?;
        let answer = server.converse(request, patience.ready);
        let pid = match answer {
            Ok(ServeReply::Ready { pid }) => pid,
            Ok(ServeReply::Failed { cause: FailureCause::Busy, .. }) if Instant::now() < end => {
                let _ = server.wait();
                // It cannot leave while we hold a lease.
                drop(lease);
                let left = end.saturating_duration_since(Instant::now());
                place.wait_until_unserved(left)?;
                lease = place.lease(left.max(Duration::from_millis(1)))?;
                super::recover::clear(start, place)?;
                continue;
            }
            Ok(ServeReply::Failed { cause, message, hints }) => {
                let _ = server.wait();
                return Err(SessionError::Refused { cause, message, hints });
            }
            Err(error) => return Err(server.give_up(&place.log(), error, patience.ready)),
        };
        let record = SessionRecord { pid, started: super::seconds_now(), request: request.clone() };
        return Ok(Session { place: place.clone(), lease, record });
    }
}
