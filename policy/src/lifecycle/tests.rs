//! The table of lifecycles, row by row.

use super::*;

#[test]
fn every_name_of_both_vocabularies_is_known() {
    let table = [
        (Lifecycle::Init, Some(0), "init init-only install"),
        (Lifecycle::Startup, Some(1), "startup"),
        (Lifecycle::Runtime, Some(2), "runtime"),
        (Lifecycle::Shutdown, Some(3), "shutdown"),
        (Lifecycle::Cached, Some(4), "cached cache"),
        (Lifecycle::Temporary, Some(5), "temporary temp ephemeral"),
        (Lifecycle::Lazy, Some(6), "lazy"),
        (Lifecycle::Eager, Some(7), "eager"),
        (Lifecycle::Dev, Some(8), "dev development"),
        (Lifecycle::Config, Some(9), "config"),
        (Lifecycle::Platform, Some(10), "platform"),
        (Lifecycle::Attestation, Some(11), "attestation"),
        (Lifecycle::Persistent, None, "persistent"),
        (Lifecycle::Volatile, None, "volatile"),
    ];
    assert_eq!(table.map(|(lifecycle, ..)| lifecycle), Lifecycle::ALL);
    for (lifecycle, code, names) in table {
        assert_eq!(lifecycle.code(), code, "{lifecycle}");
        if let Some(code) = code {
            assert_eq!(Lifecycle::from_code(code), Some(lifecycle));
        }
        for name in names.split(' ') {
            assert_eq!(Lifecycle::from_name(name), Reading { lifecycle, known: true }, "{name}");
        }
        assert_eq!(Lifecycle::from_name(lifecycle.name()).lifecycle, lifecycle);
    }
    for code in 12..=255 {
        assert_eq!(Lifecycle::from_code(code), None);
    }
}

#[test]
fn an_unknown_name_is_runtime_with_a_note() {
    for name in ["sometimes", "TEMPORARY", " lazy", "runtime "] {
        let reading = Lifecycle::from_name(name);
        assert_eq!(reading.lifecycle, Lifecycle::Runtime);
        assert_eq!(reading.note(name), Some(format!("unknown lifecycle `{name}` is treated as `runtime`")),);
    }
    assert_eq!(Lifecycle::from_name("").note(""), None);
}

/// One row: setup, run, prefetch, then the moments at which writes go.
type Row = (Lifecycle, bool, bool, Prefetch, &'static [Moment]);

#[test]
fn each_row_has_its_effect() {
    use Moment::{Clean, Exit, SetupDone, Start};
    use Prefetch::{Eager, Never, Normal};
    let table: [Row; 14] = [
        (Lifecycle::Init, true, false, Normal, &[SetupDone, Exit, Start, Clean]),
        (Lifecycle::Startup, true, true, Eager, &[Start, Clean]),
        (Lifecycle::Runtime, true, true, Normal, &[]),
        (Lifecycle::Shutdown, true, true, Never, &[]),
        (Lifecycle::Cached, true, true, Normal, &[Clean]),
        (Lifecycle::Temporary, true, true, Normal, &[Exit, Start, Clean]),
        (Lifecycle::Lazy, true, true, Never, &[]),
        (Lifecycle::Eager, true, true, Eager, &[]),
        (Lifecycle::Dev, true, true, Normal, &[]),
        (Lifecycle::Config, true, true, Normal, &[]),
        (Lifecycle::Platform, true, true, Normal, &[]),
        (Lifecycle::Attestation, true, true, Never, &[]),
        (Lifecycle::Persistent, true, true, Normal, &[]),
        (Lifecycle::Volatile, true, true, Normal, &[Exit, Start, Clean]),
    ];
    assert_eq!(table.map(|(lifecycle, ..)| lifecycle), Lifecycle::ALL);
    for (lifecycle, setup, run, prefetch, dropped) in table {
        let rules = lifecycle.rules();
        assert_eq!((rules.in_setup, rules.in_run, rules.prefetch), (setup, run, prefetch), "{lifecycle}");
        for moment in [SetupDone, Exit, Start, Clean] {
            assert_eq!(rules.drops_writes_at(moment), dropped.contains(&moment), "{lifecycle} {moment:?}");
        }
        assert_eq!(rules.writable, lifecycle != Lifecycle::Attestation, "{lifecycle}");
        assert_eq!(rules.keep_in_store, lifecycle != Lifecycle::Temporary, "{lifecycle}");
        assert_eq!(rules.keep_modified_on_upgrade, lifecycle == Lifecycle::Config, "{lifecycle}");
        assert_eq!(rules.only_on_matching_platform, lifecycle == Lifecycle::Platform, "{lifecycle}");
        assert_eq!(rules.only_in_development, lifecycle == Lifecycle::Dev, "{lifecycle}");
    }
}

#[test]
fn presence_depends_on_phase_production_and_platform() {
    for lifecycle in Lifecycle::ALL {
        for phase in [Phase::Setup, Phase::Run] {
            for production in [false, true] {
                for platform_matches in [false, true] {
                    let expected = match (lifecycle, phase) {
                        (Lifecycle::Platform, _) if !platform_matches => {
                            Presence::Absent(Absence::OtherPlatform)
                        }
                        (Lifecycle::Dev, _) if production => Presence::Absent(Absence::Production),
                        (Lifecycle::Init, Phase::Run) => Presence::Absent(Absence::SetupIsDone),
                        _ => Presence::Mounted,
                    };
                    let circumstances = Circumstances { phase, production, platform_matches };
                    assert_eq!(lifecycle.rules().presence(&circumstances), expected, "{lifecycle} {phase:?}");
                }
            }
        }
    }
}

#[test]
fn the_documented_table_has_a_row_for_each_lifecycle() {
    let source = include_str!("mod.rs");
    for lifecycle in Lifecycle::ALL {
        let row = format!("/// | `{lifecycle}` |");
        assert_eq!(source.matches(&row).count(), 1, "{row}");
    }
}
