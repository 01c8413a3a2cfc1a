//! Recording one launch, from the mount until the program has had time to start.
//!
//! **Invariant:** nobody waits for a recording, and it ends by itself.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use slotfs_fs::driver::touches::{Touch, Touches};

use crate::workenv::Workenv;

use super::Profile;

/// How long after the mount a program still counts as starting.
const LAUNCH: Duration = Duration::from_secs(30);

/// Less than this is there before another process could ask for it.
const WORTHWHILE: usize = 32;

/// A recording that goes on.
#[derive(Debug)]
pub(in crate::session) struct Recording {
    end: Sender<()>,
    writer: std::thread::JoinHandle<()>,
}

impl Recording {
    /// Waits for the launch to be over, in a thread of its own, and keeps what was touched.
    pub(in crate::session) fn begin(
        touches: Arc<Touches>,
        workenv: Workenv,
        content: String,
    ) -> Option<Self> {
        let (end, ended) = mpsc::channel();
        let write = move || {
            // A launch that is cut short is one, too.
            let _ = ended.recv_timeout(LAUNCH);
            keep(&workenv, &content, touches.finish());
        };
        let writer = crate::session::thread("profile", write)
            .inspect_err(|error| tracing::debug!("cannot record the launch: {error}"))
            .ok()?;
        Some(Self { end, writer })
    }

    /// Ends it, and waits until what was touched is kept.
    pub(in crate::session) fn end(self) {
        drop(self.end);
        if self.writer.join().is_err() {
            tracing::error!("the thread that records the launch panicked");
        }
    }
}

fn keep(workenv: &Workenv, content: &str, touches: Vec<Touch>) {
    let known = Profile::read(workenv).filter(|profile| profile.content == content);
    let profile = match known {
        Some(mut known) => {
            if !known.learn(touches) {
                return;
            }
            known
        }
        None if touches.len() < WORTHWHILE => return,
        None => Profile::new(content, touches),
    };
    if let Err(error) = profile.publish(workenv) {
        tracing::debug!("{error}");
    }
}
