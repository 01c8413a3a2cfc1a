//! How old a package is, from what its builder wrote.

use slotfs_fs::package::Package;

const SECONDS_A_DAY: u64 = 86_400;

/// Returns how many days before `now` (seconds since 1970) the package was built; `None` when it does not say. The
/// index's own field is zero in every package of the known builders; the signed metadata hold the time as text.
pub(super) fn in_days(package: &Package, now: u64) -> Option<u64> {
    let stamped = package.index().map(|index| index.build_timestamp.get()).filter(|&seconds| seconds > 0);
    let written = || {
        let build = package.metadata().build.as_ref()?;
        seconds_of(build.get("timestamp")?.as_str()?)
    };
    Some(now.saturating_sub(stamped.or_else(written)?) / SECONDS_A_DAY)
}

/// Reads the date of an RFC 3339 timestamp (`2026-11-20T17:11:15Z`) as seconds since 1970. The time of day is left
/// out: ages are counted in days.
fn seconds_of(text: &str) -> Option<u64> {
    let date = text.get(..10)?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 || parts.next().is_some() {
        return None;
    }
    let (year, month, day): (i64, i64, i64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from the civil calendar, with years that begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    u64::try_from(days).ok()?.checked_mul(SECONDS_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_as_the_calendar_does() {
        // Each checked with `date -u -d … +%s`.
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-20T17:11:15.716356830+00:00", Some(1_795_132_800)),
            ("2024-02-29", Some(1_709_164_800)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("1969-12-31T00:00:00Z", None),
            ("2026-13-01", None),
            ("2026-1-01T", None),
            ("yesterday!", None),
            ("", None),
            ("２０２６-11", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds_of(text), expected, "{text}");
        }
    }
}
