//! Columns of text.

use crate::sanitize::excerpt;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// A column: its heading and how wide it gets at most.
#[derive(Clone, Debug)]
pub struct Column {
    /// The heading, of any origin.
    pub title: String,
    /// In characters; longer cells are cut.
    pub widest: usize,
    /// Where cells stand.
    pub side: Side,
}

/// The space between columns.
const GAP: &str = "  ";

/// The table with its heading, each line ended by `\n`. Cells may be of any origin: nothing is left in them that a terminal acts on.
pub fn text(columns: &[Column], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = columns.iter().map(|column| excerpt(&column.title, column.widest)).collect();
    let cut = |row: &Vec<String>| row.iter().zip(columns).map(|(cell, column)| excerpt(cell, column.widest)).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().map(cut)).collect();
    let width = |index: usize| lines.iter().filter_map(|line| line.get(index)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|index| width(index).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line.iter().zip(columns).zip(&widths);
        let cells: Vec<String> = cells.map(|((cell, column), &width)| aligned(cell, column.side, width)).collect();
        out.push_str(cells.join(GAP).trim_end());
        out.push('\n');
    }
    out
}

fn aligned(cell: &str, side: Side, width: usize) -> String {
    match side {
        Side::Left => format!("{cell:<width$}"),
        Side::Right => format!("{cell:>width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_hold_no_control() {
        let column = |title: &str, widest, side| Column { title: title.to_owned(), widest, side };
        let columns = [column("PID", 8, Side::Right), column("NAME", 6, Side::Left), column("LAST", 9, Side::Left)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["1", "init", "x"]), row(["12345", "a\u{1b}[2J\nlong", ""])];
        let expected = "  PID  NAME    LAST\n    1  init    x\n12345  a␛[2J…\n";
        assert_eq!(text(&columns, &rows), expected);
    }
}
