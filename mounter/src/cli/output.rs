//! What the user sees: data on standard output, talk on standard error, colours only where a person looks.
//!
//! **Invariant:** text that comes from a package or a disk never reaches a terminal with its control characters:
//! a file name must not be able to move the cursor or change the title.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};

use super::failure::{Failure, FailureKind};

/// When to use colours: `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWish {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How something is emphasised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Look here.
    Warning,
    /// Something is wrong.
    Bad,
    /// Less important.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

/// The two streams and how to write to them.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    data_colors: bool,
    talk_colors: bool,
    quiet: bool,
    interactive: bool,
    data_watched: bool,
}

impl Output {
    /// Decides about colours from the wish, from whether `NO_COLOR` is set, and from where the streams lead.
    #[must_use]
    pub fn new(wish: ColorWish, no_color: bool, quiet: bool) -> Self {
        let colors = |terminal: bool| match wish {
            ColorWish::Auto => terminal && !no_color,
            ColorWish::Always => true,
            ColorWish::Never => false,
        };
        let interactive = io::stderr().is_terminal();
        Self {
            data_colors: colors(io::stdout().is_terminal()),
            talk_colors: colors(interactive),
            quiet,
            interactive: interactive && !quiet,
            data_watched: io::stdout().is_terminal(),
        }
    }

    /// Tells whether a person watches standard error and wants to be told how things go.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Tells whether standard output is a terminal.
    #[must_use]
    pub fn data_is_watched(&self) -> bool {
        self.data_watched
    }

    /// Tells whether standard error takes colours.
    #[must_use]
    pub fn talk_has_colors(&self) -> bool {
        self.talk_colors
    }

    /// Writes data to standard output. A reader that has gone away is no error.
    ///
    /// # Errors
    /// Standard output cannot be written, for another reason than that nobody reads it.
    pub fn data(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes to standard output as they are, for who reads them with a program.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stream = io::stdout().lock();
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(FailureKind::Disk, format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes `value` as JSON, indented by two, to standard output.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(FailureKind::Disk, format!("cannot write JSON: {error}")))?;
        self.data(&(text + "\n"))
    }

    /// Returns `text` in the given tone, for standard output.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        painted(self.data_colors, tone, &printable(text))
    }

    /// Tells the user something on standard error; not when quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say(&format!("slotfs: {}", printable(text)));
        }
    }

    /// Warns the user on standard error; also when quiet.
    pub fn warn(&self, text: &str) {
        let label = painted(self.talk_colors, Tone::Warning, "warning:");
        self.say(&format!("slotfs: {label} {}", printable(text)));
    }

    /// Asks a question whose answer is yes or no; anything but a clear yes is a no. `None` where nobody can answer:
    /// standard input or standard error is no terminal.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut stream = io::stderr().lock();
        let asked = write!(stream, "slotfs: {} [y/N] ", printable(question)).and_then(|()| stream.flush());
        drop(stream);
        let mut answer = String::new();
        // Whoever closes the terminal has not said yes.
        let heard = asked.and_then(|()| io::stdin().read_line(&mut answer));
        if heard.as_ref().is_ok_and(|&length| length == 0) {
            // The question's line was not ended by anybody's answer.
            self.say("");
        }
        Some(heard.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Tells the user on standard error why the command failed and what to do about it.
    pub fn failure(&self, failure: &Failure) {
        let name = painted(self.talk_colors, Tone::Bad, "slotfs:");
        let mut text = format!("{name} {}", printable(&failure.message));
        for hint in &failure.hints {
            let label = painted(self.talk_colors, Tone::Good, "hint:");
            let _ = write!(text, "\n{label} {}", printable(hint));
        }
        self.say(&text);
    }

    /// Writes text that is ready for standard error as it is.
    pub fn rendered(&self, text: &str) {
        self.say(text.trim_end());
    }

    fn say(&self, text: &str) {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn painted(colors: bool, tone: Tone, text: &str) -> String {
    if !colors || tone == Tone::Plain {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// Returns `text` with every control character made visible as Rust writes it (`\u{1b}`); line breaks stay.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_hidden(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Returns a name of any bytes on one line: what is no UTF-8 as `\xff`, control characters and line breaks visible.
#[must_use]
pub fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(&printable(chunk.valid()).replace('\n', "\\n"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Control characters, and those that reorder the text around them (Unicode UAX #9).
fn is_hidden(letter: char) -> bool {
    letter != '\n'
        && (letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

/// Returns a size as people write it: `0 B`, `4.0 KiB`, `1.2 GiB`.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Not 1024: what would be shown as `1024.0 KiB` is a MiB.
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// Returns how long something took: `340 ms`, `1.3 s`, `2 min 5 s`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        format!("{milliseconds} ms")
    } else if milliseconds < 60_000 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Returns how long ago something was: `just now`, `5 minutes ago`, `yesterday`, `3 days ago`.
#[must_use]
pub fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let ago = |count: u64, unit: &str| format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
    match seconds {
        0..60 => "just now".into(),
        60..3_600 => ago(seconds / 60, "minute"),
        3_600..86_400 => ago(seconds / 3_600, "hour"),
        86_400..172_800 => "yesterday".into(),
        _ => ago(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("plain\nlines"), "plain\nlines");
        assert_eq!(printable("a\u{1b}]0;title\u{7}b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(printable("gpj\u{202e}.exe"), "gpj\\u{202e}.exe");
        assert_eq!(printable("日本\r"), "日本\\u{d}");
    }

    #[test]
    fn names_of_any_bytes_take_one_line() {
        assert_eq!(escaped("ü/a b".as_bytes()), "ü/a b");
        assert_eq!(escaped(b"a\n\xff\xc3\x1b[m"), "a\\n\\xff\\xc3\\u{1b}[m");
    }

    #[test]
    fn sizes_are_written_as_people_write_them() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (126_000_000, "120.2 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(human_size(bytes), expected);
        }
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        let table = [
            (0, "just now", "0 ms"),
            (59, "just now", "59.0 s"),
            (60, "1 minute ago", "1 min 0 s"),
            (7_300, "2 hours ago", "121 min 40 s"),
            (90_000, "yesterday", "1500 min 0 s"),
            (864_000, "10 days ago", "14400 min 0 s"),
        ];
        for (seconds, age, took) in table {
            assert_eq!(human_age(Duration::from_secs(seconds)), age);
            assert_eq!(human_duration(Duration::from_secs(seconds)), took);
        }
        assert_eq!(human_duration(Duration::from_millis(340)), "340 ms");
    }

    #[test]
    fn colours_follow_the_wish() {
        let bad = |output: Output| output.paint(Tone::Bad, "no");
        assert_eq!(bad(Output::new(ColorWish::Never, false, false)), "no");
        assert_eq!(bad(Output::new(ColorWish::Always, true, false)), "\u{1b}[1m\u{1b}[31mno\u{1b}[0m");
    }
}
