//! Plans as tables, and the one promise as a property.

use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::retention::days;

fn environment(name: &str, bytes: u64, idle: u64) -> EnvironmentFacts {
    EnvironmentFacts {
        name: name.into(),
        bytes,
        idle: days(idle),
        in_use: false,
        strategy: Strategy::Balanced,
        unfinished: false,
        has_droppable_writes: false,
        has_snapshots: false,
    }
}

fn content(name: &str, bytes: u64, idle: u64, environments: &[&str]) -> ContentFacts {
    ContentFacts {
        name: name.into(),
        bytes,
        idle: days(idle),
        in_use: false,
        referrers: Referrers::Known(environments.iter().map(|&name| name.into()).collect()),
    }
}

fn names(removals: &[Removal]) -> Vec<(&str, Reason)> {
    removals.iter().map(|removal| (removal.name.as_str(), removal.reason)).collect()
}

/// One row: what is asked for, what goes and why, whose writes go, what is skipped.
type Row = (Wish, &'static [(&'static str, Reason)], &'static [&'static str], &'static [&'static str]);

#[test]
fn each_wish_removes_what_it_says() {
    let environments = [
        environment("old", 100, 31),
        environment("young", 10, 1),
        EnvironmentFacts { strategy: Strategy::Aggressive, ..environment("kept", 1000, 400) },
        EnvironmentFacts { in_use: true, ..environment("running", 5, 40) },
        EnvironmentFacts { unfinished: true, ..environment("torn", 3, 0) },
        EnvironmentFacts { has_droppable_writes: true, ..environment("caching", 7, 2) },
        EnvironmentFacts { has_snapshots: true, unfinished: true, ..environment("remembered", 50, 500) },
    ];
    let table: [Row; 4] = [
        (
            Wish::Everything,
            &[
                ("old", Reason::Asked),
                ("young", Reason::Asked),
                ("kept", Reason::Asked),
                ("torn", Reason::Unfinished),
                ("caching", Reason::Asked),
                ("remembered", Reason::Asked),
            ],
            &[],
            &["running"],
        ),
        (
            Wish::OlderThan(days(7)),
            &[
                ("old", Reason::OlderThanAsked),
                ("kept", Reason::OlderThanAsked),
                ("torn", Reason::Unfinished),
                ("remembered", Reason::OlderThanAsked),
            ],
            &["caching"],
            &["running"],
        ),
        (
            Wish::ByStrategy,
            &[("old", Reason::Expired), ("torn", Reason::Unfinished)],
            &["caching"],
            &["running"],
        ),
        (
            Wish::Budget(70),
            &[
                ("old", Reason::Expired),
                ("torn", Reason::Unfinished),
                ("kept", Reason::OverBudget),
                ("caching", Reason::OverBudget),
            ],
            &[],
            &["running"],
        ),
    ];
    for (wish, removed, dropped, skipped) in table {
        let plan = plan(&environments, &[], wish);
        assert_eq!(names(&plan.environments), removed, "{wish:?}");
        assert_eq!(plan.drop_writes, dropped, "{wish:?}");
        assert_eq!(plan.skipped, skipped, "{wish:?}");
    }
}

#[test]
fn content_goes_with_the_last_environment_made_from_it() {
    let environments = [environment("old", 1, 31), environment("young", 1, 1)];
    let contents = [
        content("shared", 10, 1, &["old", "young"]),
        content("lonely", 20, 1, &["old"]),
        ContentFacts { referrers: Referrers::Unknown, ..content("warmed", 40, 1, &[]) },
        ContentFacts { referrers: Referrers::Unknown, ..content("forgotten", 80, 30, &[]) },
        content("orphaned", 320, 1, &["gone"]),
        ContentFacts { in_use: true, ..content("read", 160, 1, &["old"]) },
    ];
    let by_strategy = plan(&environments, &contents, Wish::ByStrategy);
    assert_eq!(
        names(&by_strategy.contents),
        [
            ("lonely", Reason::Unreferenced),
            ("forgotten", Reason::Unreferenced),
            ("orphaned", Reason::Unreferenced)
        ]
    );
    assert_eq!(by_strategy.skipped, ["read"]);
    assert_eq!(by_strategy.bytes(), 421);
    let old = plan(&environments, &contents, Wish::OlderThan(days(30)));
    assert_eq!(names(&old.contents), [("lonely", Reason::Unreferenced), ("forgotten", Reason::Unreferenced)]);
    let everything = plan(&environments, &contents, Wish::Everything);
    assert_eq!(everything.contents.len(), 5, "{everything:?}");
    assert!(plan(&[], &[], Wish::Everything).is_empty());
}

#[test]
fn a_budget_counts_shared_content_once_and_only_while_it_stays() {
    let environments = [environment("a", 10, 3), environment("b", 10, 2), environment("c", 10, 1)];
    let contents = [content("x", 100, 1, &["a", "b"]), content("y", 5, 1, &["c"])];
    let kept = |limit| {
        let plan = plan(&environments, &contents, Wish::Budget(limit));
        (plan.environments.len(), plan.contents.len())
    };
    assert_eq!(kept(135), (0, 0));
    assert_eq!(kept(134), (1, 0));
    assert_eq!(kept(124), (2, 1));
    assert_eq!(kept(15), (2, 1));
    assert_eq!(kept(14), (3, 2));
}

fn any_environment() -> impl Generator<Value = EnvironmentFacts> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    ("[a-f]", 0..500_u64, 0..60_u64, 0..4_usize, flags).prop_map(|(name, bytes, idle, strategy, flags)| {
        EnvironmentFacts {
            in_use: flags.0,
            unfinished: flags.1,
            has_droppable_writes: flags.2,
            has_snapshots: flags.3,
            strategy: Strategy::ALL[strategy],
            ..environment(&name, bytes, idle)
        }
    })
}

fn any_content() -> impl Generator<Value = ContentFacts> {
    let known = prop::collection::vec("[a-h]", 0..4).prop_map(Referrers::Known);
    let referrers = prop_oneof![4 => known, 1 => Just(Referrers::Unknown)];
    ("[s-z]", 0..500_u64, 0..60_u64, any::<bool>(), referrers).prop_map(
        |(name, bytes, idle, in_use, referrers)| ContentFacts {
            name,
            bytes,
            idle: days(idle),
            in_use,
            referrers,
        },
    )
}

fn any_wish() -> impl Generator<Value = Wish> {
    prop_oneof![
        Just(Wish::Everything),
        (0..60_u64).prop_map(|limit| Wish::OlderThan(days(limit))),
        Just(Wish::ByStrategy),
        (0..2000_u64).prop_map(Wish::Budget),
    ]
}

proptest! {
    #[test]
    fn nothing_in_use_is_ever_named(
        mut environments in prop::collection::vec(any_environment(), 0..8),
        mut contents in prop::collection::vec(any_content(), 0..8),
        wish in any_wish(),
    ) {
        let unique = |left: &mut String, right: &mut String| left == right;
        environments.sort_by(|left, right| left.name.cmp(&right.name));
        environments.dedup_by(|left, right| unique(&mut left.name, &mut right.name));
        contents.sort_by(|left, right| left.name.cmp(&right.name));
        contents.dedup_by(|left, right| unique(&mut left.name, &mut right.name));
        let plan = plan(&environments, &contents, wish);
        let removed: Vec<&str> = plan.environments.iter().map(|removal| removal.name.as_str()).collect();
        for environment in environments.iter().filter(|environment| environment.in_use) {
            prop_assert!(!removed.contains(&environment.name.as_str()));
            prop_assert!(!plan.drop_writes.contains(&environment.name));
        }
        for content in &contents {
            let gone = plan.contents.iter().any(|removal| removal.name == content.name);
            let needed = |name: &String| {
                environments.iter().any(|environment| environment.name == *name)
                    && !removed.contains(&name.as_str())
            };
            let needed = matches!(&content.referrers, Referrers::Known(names) if names.iter().any(needed));
            prop_assert!(!(gone && (content.in_use || needed)));
        }
        for name in &plan.drop_writes {
            prop_assert!(!removed.contains(&name.as_str()));
        }
    }
}
