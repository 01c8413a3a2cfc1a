//! `slotfs doctor`: what this machine lets slotfs do, what not, why, and the least that helps.

use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::output::{Output, Tone};
use super::table::{Cell, Side, Table};
use crate::host::probe::{self, Finding, Places, Report, State};

/// Try what slotfs needs on this machine and say what is missing, why, and what helps
///
/// Everything is tried for real, as the user who asks: a mount is made and read, programs are run from the
/// directories that slotfs uses. Nothing is left behind. The exit code is 0 when packages can be mounted and 1
/// when they can only be extracted.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let places = Places {
        cache: context.settings.cache_directory.value.clone(),
        temporary: context.environment.temporary().to_owned(),
    };
    let report = probe::run(&places);
    if arguments.json {
        context.output.json(&report)?;
    } else {
        context.output.data(&text(&report, &context.output))?;
    }
    Ok(if report.can_mount { 0 } else { FailureKind::Negative.exit_code() })
}

fn text(report: &Report, output: &Output) -> String {
    let kernel = report.kernel.as_ref().map(|version| format!(", Linux {version}")).unwrap_or_default();
    let mut text = format!("slotfs {} on {}{kernel}\n", env!("CARGO_PKG_VERSION"), report.system);
    text.push_str(if report.can_mount {
        "Packages are mounted.\n\n"
    } else {
        "Packages are extracted: mounting is not possible here.\n\n"
    });
    let mut table = Table::new([("STATE", Side::Left), ("CHECK", Side::Left), ("FOUND", Side::Left)]);
    for finding in &report.findings {
        let (tone, word) = shown(finding.state);
        table.row([Cell::toned(tone, word), finding.name.into(), finding.found.as_str().into()]);
    }
    text.push_str(&table.render(output, 0));
    for finding in report.findings.iter().filter(|finding| finding.state != State::Ok) {
        text.push_str(&explanation(finding, output));
    }
    text
}

fn explanation(finding: &Finding, output: &Output) -> String {
    let mut text = format!("\n{}\n", output.paint(Tone::Heading, finding.name));
    let lines = [
        ("what for", Some(finding.meaning)),
        ("cause", finding.cause.as_deref()),
        ("fix", finding.fix.as_deref()),
    ];
    for (label, line) in lines {
        if let Some(line) = line {
            text.push_str(&format!("  {label:<8}  {}\n", output.paint(Tone::Plain, line)));
        }
    }
    text
}

fn shown(state: State) -> (Tone, &'static str) {
    match state {
        State::Ok => (Tone::Good, "ok"),
        State::Limited => (Tone::Warning, "limited"),
        State::Missing => (Tone::Bad, "missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::ColorWish;

    #[test]
    fn what_is_wrong_is_explained_and_what_is_right_is_not() {
        let finding = |name, state, fix: Option<&str>| Finding {
            name,
            state,
            found: "found".into(),
            meaning: "a meaning",
            cause: (state != State::Ok).then(|| "a cause".into()),
            fix: fix.map(Into::into),
        };
        let report = Report {
            system: "x86_64-linux".into(),
            kernel: Some("6.1".into()),
            can_mount: false,
            findings: vec![
                finding("first", State::Ok, None),
                finding("second", State::Missing, Some("do this")),
            ],
        };
        let shown = text(&report, &Output::new(ColorWish::Never, false, false));
        let (_, body) = shown.split_once('\n').unwrap_or_default();
        assert_eq!(
            body,
            "Packages are extracted: mounting is not possible here.\n\n\
             STATE    CHECK   FOUND\nok       first   found\nmissing  second  found\n\n\
             second\n  what for  a meaning\n  cause     a cause\n  fix       do this\n"
        );
    }
}
