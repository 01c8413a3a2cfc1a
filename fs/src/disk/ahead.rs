//! Telling the host which bytes of a file come next, so that the disk is at work while others are decoded.

use std::fs::File;

/// Says that `length` bytes from `offset` on will be read soon. A hint: it changes nothing but the time that takes.
pub fn will_need(file: &File, offset: u64, length: u64) {
    platform::will_need(file, offset, length);
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::num::NonZero;

    use rustix::fs::{Advice, fadvise};

    pub(super) fn will_need(file: &File, offset: u64, length: u64) {
        if let Some(length) = NonZero::new(length) {
            // A file system that cannot is read when it is read.
            let _ = fadvise(file, offset, Some(length), Advice::WillNeed);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::File;

    pub(super) fn will_need(_: &File, _: u64, _: u64) {}
}
