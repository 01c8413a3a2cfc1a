//! Columns that line up.

use super::output::{Output, Tone, printable};

/// One field of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Returns a field in a tone of its own.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        // A line break inside a field would tear the table.
        let text = printable(&text.into()).replace('\n', "\\n");
        Self { text, tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Which side a column's fields stick to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(Cell, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns an empty table with these headings.
    #[must_use]
    pub fn new<const COUNT: usize>(columns: [(&str, Side); COUNT]) -> Self {
        let columns = columns.map(|(heading, side)| (Cell::toned(Tone::Faint, heading), side));
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row. Fields beyond the headings are not shown.
    pub fn row<const COUNT: usize>(&mut self, cells: [Cell; COUNT]) {
        self.rows.push(cells.into());
    }

    /// Returns the table as lines, each after `indent` spaces.
    #[must_use]
    pub fn render(&self, output: &Output, indent: usize) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(column, (heading, _))| {
                let fields = self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
                fields.max().unwrap_or(0).max(heading.width())
            })
            .collect();
        let headings: Vec<Cell> = self.columns.iter().map(|(heading, _)| heading.clone()).collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row| self.line(output, row, &widths, indent))
            .collect()
    }

    fn line(&self, output: &Output, row: &[Cell], widths: &[usize], indent: usize) -> String {
        let mut line = " ".repeat(indent);
        let fields = row.iter().zip(&self.columns).zip(widths);
        for (position, ((cell, (_, side)), width)) in fields.enumerate() {
            let gap = " ".repeat(width - cell.width());
            let painted = output.paint(cell.tone, &cell.text);
            let last = position + 1 == self.columns.len();
            match side {
                Side::Right => line.extend([gap.as_str(), &painted]),
                Side::Left if last => line.push_str(&painted),
                Side::Left => line.extend([painted.as_str(), &gap]),
            }
            if !last {
                line.push_str("  ");
            }
        }
        // An empty last field leaves blanks behind.
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::ColorWish;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let output = Output::new(ColorWish::Never, false, false);
        let mut table = Table::new([("SLOT", Side::Left), ("SIZE", Side::Right), ("NOTE", Side::Left)]);
        table.row(["python".into(), "120.2 MiB".into(), "".into()]);
        table.row(["ü\nx".into(), "3 B".into(), "end".into()]);
        assert_eq!(
            table.render(&output, 2),
            "  SLOT         SIZE  NOTE\n  python  120.2 MiB\n  ü\\nx          3 B  end\n"
        );
        let colors = Output::new(ColorWish::Always, false, false);
        let stripped = table.render(&colors, 2).replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
        assert_eq!(stripped, table.render(&output, 2));
    }
}
