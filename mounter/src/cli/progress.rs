//! Progress bars on standard error, where a person watches; nothing anywhere else.

use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output::{Output, printable};
use crate::extract::progress::Progress;

/// One bar for each part.
#[derive(Debug)]
pub struct Bars {
    screen: MultiProgress,
    bars: Mutex<Vec<Option<ProgressBar>>>,
}

impl Bars {
    /// Returns bars that are drawn when a person watches.
    pub fn new(output: Output) -> Self {
        let screen = MultiProgress::new();
        if !output.is_interactive() {
            screen.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Self { screen, bars: Mutex::default() }
    }

    /// Takes the bars off the screen.
    pub fn clear(&self) {
        // A screen that is gone has nothing to clear.
        let _ = self.screen.clear();
    }

    fn with(&self, part: usize, act: impl FnOnce(&mut Option<ProgressBar>)) {
        // A thread that panicked while drawing leaves a bar that is still good to draw.
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bars.len() <= part {
            bars.resize_with(part + 1, || None);
        }
        if let Some(bar) = bars.get_mut(part) {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, part: usize, name: &str, total: u64) {
        // The template is fixed text; were it wrong, the plain bar would be drawn.
        let style =
            ProgressStyle::with_template("{prefix:24!} {bar:32} {bytes:>10} of {total_bytes:<10} {eta:>4}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─");
        let bar = self.screen.add(ProgressBar::new(total).with_style(style));
        bar.set_prefix(printable(name).into_owned());
        self.with(part, |place| *place = Some(bar));
    }

    fn advance(&self, part: usize, bytes: u64) {
        self.with(part, |place| {
            if let Some(bar) = place {
                bar.inc(bytes);
            }
        });
    }

    fn end(&self, part: usize) {
        self.with(part, |place| {
            if let Some(bar) = place {
                bar.finish();
            }
        });
    }
}
