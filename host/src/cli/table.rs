//! Tables for people.

use std::io::{self, Write};

/// Columns as wide as their widest cell, two spaces between them, no trailing space.
pub(crate) fn print(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let cells = |row: &[String]| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// Names and values, one pair a line.
pub(crate) fn print_pairs(out: &mut dyn Write, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in pairs {
        writeln!(out, "{}", format!("{name:width$}  {}", printable(value)).trim_end())?;
    }
    Ok(())
}

/// Text from the network may carry escape sequences that would do things to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_escapes_are_harmless() {
        let mut out = Vec::new();
        let rows = [
            vec!["7001".to_owned(), "Zoë".to_owned(), String::new()],
            vec!["*1".to_owned(), "\x1b[2J".to_owned(), "x".to_owned()],
        ];
        print(&mut out, &["ORBIT", "WHO", "WHY"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ORBIT  WHO   WHY\n7001   Zoë\n*1     \u{fffd}[2J  x\n");
    }
}
