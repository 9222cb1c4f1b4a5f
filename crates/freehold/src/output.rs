//! Where words go: stdout is data, stderr is talk.
//!
//! With `--json` stdout holds exactly the API's JSON. Progress is drawn only for a terminal; elsewhere it is plain lines.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::exit::Failure;

/// How this run talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether stdout is for programs.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a value: as JSON, or as `people` would read it.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub(crate) fn show<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.json { self.json(value) } else { self.text(&people(value)) }
    }

    /// Prints JSON.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub(crate) fn json<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.text(&text)
    }

    /// Prints a value as one line of JSON, for streams of them.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.text(&text)
    }

    /// Prints text, ended by one line break.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
        stdout.flush()?;
        Ok(())
    }
}

/// Says something to whoever watches.
pub(crate) fn say(text: &str) {
    // A stderr that is gone hears nothing; the work goes on.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person sees what is written to stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

/// Rows under a heading, in aligned columns without lines.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![heading.map(str::to_uppercase)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let aligned = lines.iter().map(|line| {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    aligned.collect::<Vec<_>>().join("\n")
}

/// Named values, one a line; those that are empty are left out.
pub(crate) fn fields<const N: usize>(pairs: [(&str, String); N]) -> String {
    let widest = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:widest$}  {value}"))
        .collect();
    lines.join("\n")
}

/// The word that a value has on the wire.
pub(crate) fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Null) | Err(_) => String::new(),
        Ok(other) => other.to_string(),
    }
}

/// A value that may be absent.
pub(crate) fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_fields_are_plain_text() {
        let rows = [["a".to_owned(), "long word".to_owned()], ["bb".to_owned(), String::new()]];
        assert_eq!(table(["id", "what"], rows), "ID  WHAT\na   long word\nbb");
        let pairs = [("id", "x".to_owned()), ("absent", String::new()), ("owner", "y".to_owned())];
        assert_eq!(fields(pairs), "id      x\nowner   y");
    }
}
