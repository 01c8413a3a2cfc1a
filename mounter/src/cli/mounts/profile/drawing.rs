//! A profile as a picture in SVG 1.1: time from left to right, files in the order of their paths from top to bottom, each
//! touch a mark at the place of what it read.
//!
//! **Invariant:** whatever the names are, the picture is well-formed XML without script.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::session::profile::{Profile, What};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 600.0;
const MARGIN: f64 = 60.0;

/// Returns the picture of `profile`, titled after the environment `name`.
pub(super) fn svg(name: &str, profile: &Profile) -> String {
    let mut rows: BTreeMap<&Path, u64> = BTreeMap::new();
    for entry in &profile.entries {
        let end = match &entry.what {
            What::Content { ranges } => ranges.iter().map(|range| range.1).max().unwrap_or(1).max(1),
            What::Name | What::Listing => 1,
        };
        let known = rows.entry(&entry.path).or_insert(1);
        *known = end.max(*known);
    }
    // The square root keeps small files visible beside large ones.
    let mut height = 0.0;
    let mut places: BTreeMap<&Path, (f64, f64)> = BTreeMap::new();
    for (path, end) in rows {
        let own = as_number(end).sqrt().max(1.0);
        places.insert(path, (height, own / as_number(end)));
        height += own;
    }
    let scale = (HEIGHT - 2.0 * MARGIN) / height.max(1.0);
    let duration = as_number(u64::try_from(profile.duration().as_micros()).unwrap_or(u64::MAX)).max(1.0);
    let x = |at: u64| MARGIN + (WIDTH - 2.0 * MARGIN) * as_number(at) / duration;
    let mut text = head(name, profile, duration);
    for entry in &profile.entries {
        let Some(&(top, stretch)) = places.get(entry.path.as_path()) else { continue };
        let title = escaped(&entry.path.display().to_string());
        let mut mark = |from: f64, length: f64, class: &str| {
            let (y, length) = (MARGIN + (top + from) * scale, (length * scale).max(1.0));
            let _ = writeln!(
                text,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"2\" height=\"{length:.1}\"><title>{title}</title></rect>",
                x(entry.at)
            );
        };
        match &entry.what {
            What::Name => mark(0.0, 0.0, "name"),
            What::Listing => mark(0.0, 0.0, "listing"),
            What::Content { ranges } if ranges.is_empty() => mark(0.0, 0.0, "content"),
            What::Content { ranges } => {
                for &(offset, end) in ranges {
                    let length = as_number(end.saturating_sub(offset)) * stretch;
                    mark(as_number(offset) * stretch, length, "content");
                }
            }
        }
    }
    text.push_str("</svg>\n");
    text
}

fn head(name: &str, profile: &Profile, duration: f64) -> String {
    let name = escaped(name);
    let (bottom, right, middle) = (HEIGHT - MARGIN, WIDTH - MARGIN, HEIGHT / 2.0);
    let (milliseconds, count) = (duration / 1000.0, profile.entries.len());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"14\">\n\
         <style>.content {{ fill: #1f6feb }} .listing {{ fill: #d29922 }} .name {{ fill: #8b949e }} \
         line {{ stroke: #57606a }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\">{name}: {count} touches in {milliseconds:.0} ms (blue: content, yellow: \
         listings, grey: names)</text>\n\
         <line x1=\"{MARGIN}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\n\
         <line x1=\"{MARGIN}\" y1=\"{MARGIN}\" x2=\"{MARGIN}\" y2=\"{bottom}\"/>\n\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">time since the mount, to {milliseconds:.0} ms</text>\n\
         <text x=\"20\" y=\"{middle}\" transform=\"rotate(-90 20 {middle})\" text-anchor=\"middle\">files by path, \
         offset downward</text>\n",
        HEIGHT - 25.0
    )
}

/// For a picture, the nearest number will do.
#[expect(clippy::cast_precision_loss, reason = "a picture has no more than a thousand points")]
fn as_number(number: u64) -> f64 {
    number as f64
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no way to write them.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn profile(entries: &str) -> Profile {
        serde_json::from_str(&format!("{{\"version\":1,\"content\":\"ab\",\"entries\":{entries}}}")).unwrap()
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let entries = r#"[{"path":"a<b>&\"c\u0001","at":1,"what":"content","ranges":[[0,10]]}]"#;
        let picture = svg("<script>", &profile(entries));
        assert!(picture.contains("<title>a&lt;b&gt;&amp;&quot;c\u{fffd}</title>"), "{picture}");
        assert!(!picture.contains("<script>"));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn every_touch_is_a_mark_inside_the_picture() {
        let entries = r#"[{"path":"","at":0,"what":"listing"},{"path":"x","at":5,"what":"name"},
            {"path":"y","at":18446744073709551615,"what":"content","ranges":[[0,18446744073709551615],[7,3]]},
            {"path":"z","at":9,"what":"content","ranges":[]}]"#;
        let picture = svg("app", &profile(entries));
        assert_eq!(picture.matches("<rect class").count(), 5);
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        assert_eq!(svg("app", &profile("[]")).matches("<rect class").count(), 0);
    }
}
