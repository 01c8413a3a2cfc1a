//! The same by a program, without the command.

use std::time::SystemTime;

use slotfs::cleanup::{self, CleanupError, Plan};
use slotfs::workenv::Cache;
use slotfs_fs::disk::unix::Erasure;
use slotfs_policy::cleanup::Wish;
use slotfs_policy::retention::{Strategy, days};
use slotfs_tests::command::Home;

use super::support::{age, is_gone, launcher_environment, ran};

#[test]
fn a_program_lists_measures_cleans_and_removes() {
    let home = Home::new();
    let cache = Cache::new(home.cache());
    assert_eq!(cleanup::size(&cache).unwrap(), cleanup::Sizes::default());
    ran(&home, "app", "extract");
    launcher_environment(&home, "theirs");
    age(&home, "theirs", 12);
    let now = SystemTime::now();
    let all = cleanup::list(&cache).unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|one| {
            (one.listed.workenv.name().to_string(), one.idle(now).as_secs() / 86_400, one.in_use.is_none())
        })
        .collect();
    assert_eq!(seen, [("app".to_owned(), 0, true), ("theirs".to_owned(), 12, true)]);
    let sizes = cleanup::size(&cache).unwrap();
    assert_eq!(sizes.environments, all.iter().map(|one| one.bytes).sum::<u64>());
    assert!(sizes.environments > 10_000 && sizes.store.indexes > 0 && sizes.leftovers == 0, "{sizes:?}");

    let plan = Plan::make(&cache, Strategy::Balanced, Wish::OlderThan(days(10)), now).unwrap();
    let (planned, mut heard) = (plan.bytes(), 0);
    assert!(!plan.is_empty() && plan.removals.len() == 1);
    let outcome = plan.carry_out(Erasure::None, &mut |bytes| heard += bytes).unwrap();
    assert_eq!((outcome.removed, outcome.freed, heard), (vec!["theirs".to_owned()], planned, planned));
    is_gone(&home, "theirs");

    let missing = cleanup::find(&cache, &["theirs"]).unwrap_err();
    assert!(matches!(missing, CleanupError::Workenv(_)), "{missing}");
    let found = cleanup::find(&cache, &["app"]).unwrap();
    let held = std::fs::File::options().write(true).open(home.session("app").join("start.lock")).unwrap();
    held.lock().unwrap();
    let refused = cleanup::remove(&cache, &found, Erasure::None, &mut |_| {}).unwrap_err();
    assert!(matches!(&refused, CleanupError::InUse { name, .. } if name == "app"), "{refused}");
    drop(held);
    assert!(cleanup::remove(&cache, &found, Erasure::None, &mut |_| {}).unwrap() > 0);
    is_gone(&home, "app");
}
