//! A package that was made from another one, as it is shown.

use serde::Serialize;

use super::output::human_size;
use super::table::{Cell, Side, Table};
use crate::pack::rebuild::{Fate, Rebuilt};

/// What was made, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) key_fingerprint: String,
    pub(super) slots: Vec<ShownSlot>,
}

/// One slot of it.
#[derive(Debug, Serialize)]
pub(super) struct ShownSlot {
    id: String,
    fate: Fate,
    operations: String,
    stored_bytes: u64,
    original_bytes: u64,
    digest: String,
    /// What is not as it was.
    differences: Vec<ShownDifference>,
}

#[derive(Debug, Serialize)]
struct ShownDifference {
    path: String,
    what: &'static str,
}

/// Returns the slots.
pub(super) fn slots(rebuilt: &Rebuilt) -> Vec<ShownSlot> {
    let shown = |(fate, slot): &(Fate, crate::pack::SlotReport)| ShownSlot {
        id: slot.id.clone(),
        fate: *fate,
        operations: slot.chain.clone(),
        stored_bytes: slot.stored,
        original_bytes: slot.original,
        digest: slot.digest.to_string(),
        differences: slot
            .differences
            .iter()
            .map(|difference| ShownDifference { path: difference.path.clone(), what: difference.what })
            .collect(),
    };
    rebuilt.slots.iter().map(shown).collect()
}

/// Returns the slots as a table.
pub(super) fn table(rebuilt: &Rebuilt) -> Table {
    let mut table = Table::new([
        ("SLOT", Side::Left),
        ("", Side::Left),
        ("OPERATIONS", Side::Left),
        ("SIZE", Side::Right),
        ("STORED", Side::Right),
    ]);
    for (fate, slot) in &rebuilt.slots {
        let word = match fate {
            Fate::Kept => "kept",
            Fate::Rewritten => "written again",
            Fate::Added => "new",
        };
        table.row([
            Cell::from(slot.id.as_str()),
            word.into(),
            slot.chain.as_str().into(),
            human_size(slot.original).into(),
            human_size(slot.stored).into(),
        ]);
    }
    table
}
