//! How long a request waits until a processor has woken that was at rest.
//!
//! A request goes to another process and back, and on a virtual machine each of the two may have to wake a processor
//! that was given back to the host. The kernel can look for work for a moment first
//! (`Documentation/virt/guest-halt-polling.rst`).
//!
//! **Invariant:** nothing is changed: it is another's machine.

use super::Finding;

const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
const POLL: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";
/// What is offered, in nanoseconds: longer than a request takes, and nothing that shows in a bill.
const OFFERED: u32 = 200_000;

pub(super) fn finding() -> Finding {
    let read = |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    judge(&read(DRIVER), &read(POLL))
}

/// Judges by the names of the idle driver and of its setting.
fn judge(driver: &str, poll: &str) -> Finding {
    const NAME: &str = "wake-ups";
    const MEANING: &str = "every request to slotfs and its answer may each have to wake a processor";
    if driver != "haltpoll" {
        let found = if driver.is_empty() { "not told" } else { driver };
        return Finding::ok(NAME, found, MEANING);
    }
    match poll.parse::<u64>() {
        Ok(0) => Finding::limited(NAME, "processors are given back to the host at once", MEANING)
            .cause("`guest_halt_poll_ns` of this virtual machine is 0")
            .fix(format!("echo {OFFERED} > {POLL}   (as root)")),
        Ok(time) => {
            Finding::ok(NAME, format!("processors look for work for {} µs first", time / 1000), MEANING)
        }
        Err(_) => Finding::ok(NAME, driver, MEANING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::probe::State;

    #[test]
    fn only_a_virtual_machine_that_never_looks_for_work_is_found_fault_with() {
        for (driver, poll, state) in [
            ("haltpoll", "0", State::Limited),
            ("haltpoll", "200000", State::Ok),
            ("haltpoll", "", State::Ok),
            ("intel_idle", "0", State::Ok),
            ("", "", State::Ok),
        ] {
            let finding = judge(driver, poll);
            assert_eq!(finding.state, state, "{driver} {poll}");
            assert_eq!(finding.fix.is_some(), state == State::Limited);
        }
    }
}
