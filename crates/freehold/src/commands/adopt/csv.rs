//! Comma-separated values, read strictly: what is not surely meant is an error with its line, and nothing is guessed.
//!
//! A cell may be quoted; inside quotes a quote is written twice, and commas and line ends are text. Cells without quotes
//! are taken without the blanks around them. Empty lines are skipped.

/// A row: the line it begins at, counted from 1, and its cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

/// Reads all rows.
///
/// # Errors
/// What is wrong, with its line.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, String> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut rows = Vec::new();
    while !reader.rest.is_empty() {
        let row = reader.row()?;
        if row.cells.iter().any(|cell| !cell.is_empty()) || row.cells.len() > 1 {
            rows.push(row);
        }
    }
    Ok(rows)
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl Reader<'_> {
    fn row(&mut self) -> Result<Row, String> {
        let mut row = Row { line: self.line, cells: Vec::new() };
        loop {
            let cell =
                if self.rest.trim_start_matches([' ', '\t']).starts_with('"') { self.quoted()? } else { self.bare()? };
            row.cells.push(cell);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            self.rest = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            self.rest = self.rest.strip_prefix('\n').unwrap_or(self.rest);
            self.line += 1;
            return Ok(row);
        }
    }

    fn bare(&mut self) -> Result<String, String> {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        let (cell, rest) = self.rest.split_at(end);
        let ended = cell.strip_suffix('\r').filter(|_| !rest.starts_with(','));
        let cell = ended.unwrap_or(cell).trim();
        if cell.contains(['"', '\r']) {
            return Err(format!("line {}: a quote inside a cell that is not quoted", self.line));
        }
        self.rest = rest;
        Ok(cell.to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        let begun = self.line;
        let mut rest = self.rest.trim_start_matches([' ', '\t']).strip_prefix('"').unwrap_or_default();
        let mut cell = String::new();
        loop {
            let end = rest.find('"').ok_or_else(|| format!("line {begun}: a quote is never closed"))?;
            let (text, after) = rest.split_at(end);
            cell.push_str(text);
            self.line += text.matches('\n').count();
            rest = &after[1..];
            match rest.strip_prefix('"') {
                Some(more) => {
                    cell.push('"');
                    rest = more;
                }
                None => break,
            }
        }
        let rest = rest.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n") || rest == "\r") {
            return Err(format!("line {}: something stands behind a quoted cell", self.line));
        }
        self.rest = rest;
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        rows(text).unwrap().into_iter().map(|row| (row.line, row.cells)).collect()
    }

    fn row(line: usize, cells: &[&str]) -> (usize, Vec<String>) {
        (line, cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn rows_are_read_with_their_lines() {
        assert_eq!(
            cells("\u{feff}a,b\r\n1 , 2\r\n\r\n,\n"),
            [row(1, &["a", "b"]), row(2, &["1", "2"]), row(4, &["", ""])]
        );
        assert_eq!(cells("a"), [row(1, &["a"])]);
        assert_eq!(cells(""), []);
    }

    #[test]
    fn quotes_keep_what_is_in_them() {
        let text = "\"a,\"\"b\"\"\n\", \"c\" ,d\n\"\",e\r\n";
        assert_eq!(cells(text), [row(1, &["a,\"b\"\n", "c", "d"]), row(3, &["", "e"])]);
    }

    #[test]
    fn what_is_not_surely_meant_is_an_error_with_its_line() {
        for (text, why) in [
            ("a\nb\"c", "line 2: a quote inside"),
            ("a\n\"b\nc", "line 2: a quote is never closed"),
            ("\"a\nb\" c,d", "line 2: something stands behind"),
            ("\"a\"b", "line 1: something stands behind"),
        ] {
            let error = rows(text).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
