//! What stays after a run, and for how long: the strategies aggressive, balanced, conservative, minimal.

use std::fmt;
use std::time::Duration;

/// How much is kept.
///
/// | strategy | environment after a run | content in the store | goes by itself when idle |
/// |---|---|---|---|
/// | `aggressive` | kept | kept | never |
/// | `balanced` | kept | kept | after 30 days |
/// | `conservative` | removed | kept | after 30 days |
/// | `minimal` | removed | removed | at once |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Keep everything.
    Aggressive,
    /// Keep what was used in the last 30 days.
    #[default]
    Balanced,
    /// Remove the work environment after each run.
    Conservative,
    /// Keep nothing.
    Minimal,
}

/// What follows from a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whether a work environment, and what was written in it, stays after a run.
    pub keep_environment: bool,
    /// Whether decoded content and slot indexes stay in the shared store after a run.
    pub keep_content: bool,
    /// After how long without use an environment may go by itself.
    pub idle_limit: Option<Duration>,
}

/// How long `balanced` and `conservative` keep what nobody uses.
pub const IDLE_LIMIT: Duration = days(30);

/// Returns a number of days as a duration.
#[must_use]
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(86_400))
}

impl Strategy {
    /// Every strategy, keeping most first.
    pub const ALL: [Self; 4] = [Self::Aggressive, Self::Balanced, Self::Conservative, Self::Minimal];

    /// Reads a name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name().eq_ignore_ascii_case(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aggressive => "aggressive",
            Self::Balanced => "balanced",
            Self::Conservative => "conservative",
            Self::Minimal => "minimal",
        }
    }

    /// Returns what follows from the strategy.
    #[must_use]
    pub fn retention(self) -> Retention {
        let (keep_environment, keep_content, idle_limit) = match self {
            Self::Aggressive => (true, true, None),
            Self::Balanced => (true, true, Some(IDLE_LIMIT)),
            Self::Conservative => (false, true, Some(IDLE_LIMIT)),
            Self::Minimal => (false, false, Some(Duration::ZERO)),
        };
        Retention { keep_environment, keep_content, idle_limit }
    }

    /// Decides whether an environment that nobody used for `idle` may go by itself.
    #[must_use]
    pub fn is_expired(self, idle: Duration) -> bool {
        self.retention().idle_limit.is_some_and(|limit| idle >= limit)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_keeps_what_its_row_says() {
        let table = [
            (Strategy::Aggressive, true, true, [false, false, false]),
            (Strategy::Balanced, true, true, [false, false, true]),
            (Strategy::Conservative, false, true, [false, false, true]),
            (Strategy::Minimal, false, false, [true, true, true]),
        ];
        assert_eq!(table.map(|(strategy, ..)| strategy), Strategy::ALL);
        for (strategy, keep_environment, keep_content, expired) in table {
            let retention = strategy.retention();
            assert_eq!(
                (retention.keep_environment, retention.keep_content),
                (keep_environment, keep_content)
            );
            let ages = [Duration::ZERO, days(29), days(30)];
            assert_eq!(ages.map(|idle| strategy.is_expired(idle)), expired, "{strategy}");
            assert_eq!(Strategy::from_name(&strategy.name().to_uppercase()), Some(strategy));
        }
        assert_eq!(Strategy::from_name("greedy"), None);
    }
}
