//! The threads that passes run on: few for all slots of the process, however many slots a package has.
//!
//! **Invariant:** what was taken is carried out as long as the process lives; the threads go when there is nothing left.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::worker;

/// Threads at the same time. More than processors, because a pass may wait for the disk.
const MOST: usize = 32;

/// What is carried out.
type Job = Box<dyn FnOnce() + Send>;

struct Crew {
    waiting: VecDeque<Job>,
    threads: usize,
}

static CREW: Mutex<Crew> = Mutex::new(Crew { waiting: VecDeque::new(), threads: 0 });

fn crew() -> MutexGuard<'static, Crew> {
    CREW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries `job` out as soon as a thread is free.
///
/// # Errors
/// There is no thread, and none can be had.
pub(super) fn run(job: Job) -> io::Result<()> {
    let mut crew = crew();
    crew.waiting.push_back(job);
    if crew.threads >= MOST {
        return Ok(());
    }
    match worker::spawn("slot-pass", work) {
        Ok(_) => crew.threads += 1,
        // Those that there are get to it.
        Err(_) if crew.threads > 0 => {}
        Err(error) => {
            crew.waiting.pop_back();
            return Err(error);
        }
    }
    Ok(())
}

fn work() {
    loop {
        let job = {
            let mut crew = crew();
            let Some(job) = crew.waiting.pop_front() else {
                // Under the lock: whoever brings the next job sees that this thread is gone.
                crew.threads -= 1;
                return;
            };
            job
        };
        // Whoever waits for a pass is told by its guards; the other passes go on.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a pass panicked");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn every_job_is_done_on_few_threads_and_a_panic_stops_none() {
        let most = Arc::new(AtomicUsize::new(0));
        let (done, wait) = mpsc::channel();
        for number in 0..2000 {
            let (done, most) = (done.clone(), Arc::clone(&most));
            let job = move || {
                most.fetch_max(crew().threads, Ordering::Relaxed);
                done.send(number).unwrap();
                assert!(number % 500 != 7, "as a test");
            };
            run(Box::new(job)).unwrap();
        }
        drop(done);
        let mut seen: Vec<i32> = wait.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
        assert!(most.load(Ordering::Relaxed) <= MOST);
    }
}
