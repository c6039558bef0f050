//! Aligned columns: no border, headings in upper case, two spaces between, numbers to the right.

use anstyle::Style;

use super::words::fit;

/// Between two columns.
const GAP: &str = "  ";

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    head: &'static str,
    right: bool,
    /// May be cut down to so many characters where the terminal is narrow.
    least: Option<usize>,
}

impl Column {
    /// Text.
    #[must_use]
    pub const fn left(head: &'static str) -> Self {
        Self { head, right: false, least: None }
    }

    /// A number.
    #[must_use]
    pub const fn right(head: &'static str) -> Self {
        Self { head, right: true, least: None }
    }

    /// Text that may be cut, but not below `least` characters.
    #[must_use]
    pub const fn cut(head: &'static str, least: usize) -> Self {
        Self { head, right: false, least: Some(least) }
    }
}

/// One value; its text must be printable already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A value with a style.
    #[must_use]
    pub fn styled(style: Style, text: &str) -> Self {
        Self { text: text.to_owned(), style }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Widths found for columns: rows can then be written one by one.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    indent: usize,
}

impl<'a> Layout<'a> {
    /// Columns wide enough for `rows`, if `width` allows; behind `indent` spaces.
    #[must_use]
    pub fn of(columns: &'a [Column], rows: &[Vec<Cell>], indent: usize, width: Option<usize>) -> Self {
        let mut widths: Vec<usize> = columns.iter().map(|column| column.head.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let Some(width) = width {
            let total = indent + widths.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1);
            shrink(columns, &mut widths, total.saturating_sub(width));
        }
        Self { columns, widths, indent }
    }

    /// Appends the line of headings.
    pub fn head(&self, out: &mut String) {
        let heads: Vec<Cell> = self.columns.iter().map(|column| column.head.into()).collect();
        self.row(&heads, out);
    }

    /// Appends one row.
    pub fn row(&self, cells: &[Cell], out: &mut String) {
        out.extend(std::iter::repeat_n(' ', self.indent));
        let last = cells.len().saturating_sub(1);
        for (number, ((column, width), cell)) in self.columns.iter().zip(&self.widths).zip(cells).enumerate() {
            let taken = cell.text.chars().count();
            let pad = width.saturating_sub(taken);
            if number > 0 {
                out.push_str(GAP);
            }
            if column.right {
                out.extend(std::iter::repeat_n(' ', pad));
            }
            self.write(column, *width, cell, taken, out);
            if !column.right && number < last {
                out.extend(std::iter::repeat_n(' ', pad));
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }

    fn write(&self, column: &Column, width: usize, cell: &Cell, taken: usize, out: &mut String) {
        // Only a column that may be cut is: a streamed row longer than the measured ones shifts its line instead.
        let cut = column.least.is_some() && taken > width;
        let shown = if cut { &fit(&cell.text, width) } else { &cell.text };
        if cell.style == Style::new() {
            out.push_str(shown);
        } else {
            out.push_str(&super::words::paint(cell.style, shown));
        }
    }
}

/// Takes `over` characters from the columns that may be cut, from the last on.
fn shrink(columns: &[Column], widths: &mut [usize], mut over: usize) {
    for (column, width) in columns.iter().zip(widths).rev() {
        if let Some(least) = column.least {
            let least = least.max(column.head.chars().count());
            let taken = over.min(width.saturating_sub(least));
            *width -= taken;
            over -= taken;
        }
    }
}

/// A whole table.
#[must_use]
pub fn table(columns: &[Column], rows: &[Vec<Cell>], indent: usize, width: Option<usize>) -> String {
    let layout = Layout::of(columns, rows, indent, width);
    let mut out = String::new();
    layout.head(&mut out);
    for row in rows {
        layout.row(row, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::left("NAME"), Column::right("LEFT"), Column::cut("WHY", 6)];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["a".into(), "7".into(), "active".into()],
            vec!["longer".into(), "12345".into(), "waits for it".into()],
        ]
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_a_space() {
        assert_eq!(
            table(&COLUMNS, &rows(), 0, None),
            "NAME     LEFT  WHY\na           7  active\nlonger  12345  waits for it\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_only_what_may_be_cut() {
        assert_eq!(
            table(&COLUMNS, &rows(), 2, Some(24)),
            "  NAME     LEFT  WHY\n  a           7  active\n  longer  12345  waits …\n"
        );
        // No narrower than the least, even if that does not fit.
        assert!(table(&COLUMNS, &rows(), 0, Some(5)).contains("longer  12345  waits…\n"));
    }

    #[test]
    fn a_style_does_not_shift_a_column() {
        let styled = vec![vec![Cell::styled(super::super::words::BAD, "a"), "7".into(), "x".into()]];
        let plain = anstream::adapter::strip_str(&table(&COLUMNS, &styled, 0, None)).to_string();
        assert_eq!(plain, "NAME  LEFT  WHY\na        7  x\n");
    }
}
