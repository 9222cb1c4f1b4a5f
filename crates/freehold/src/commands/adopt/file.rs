//! The file of a fleet: a heading, and a line for each. Everything that is wrong with it is said at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::csv::{self, Row};
use crate::exit::Failure;

/// The longest file: a fleet of a hundred thousand is a tenth of it.
const BYTES_MAX: u64 = 64 << 20;

/// How many complaints are shown.
const SHOWN_MAX: usize = 20;

/// The columns that there are.
const COLUMNS: [&str; 4] = ["owner", "assigned_user", "app", "tier"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) line: usize,
    pub(super) owner: String,
    pub(super) assigned_user: Option<String>,
    pub(super) app: String,
    pub(super) tier: Option<String>,
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| Failure::usage(format!("{shown} cannot be read: {}", crate::config::plain(&error))))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::usage(format!("{shown} is longer than {BYTES_MAX} bytes")));
    }
    parse(&text).map_err(|mut wrong| {
        let more = wrong.len().saturating_sub(SHOWN_MAX);
        wrong.truncate(SHOWN_MAX);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        let lines = wrong.into_iter().map(|why| format!("{shown}: {why}")).collect();
        let failure = Failure { lines, ..Failure::usage("") };
        failure.hint("nothing was done; `freehold adopt --help` shows what such a file looks like")
    })
}

fn parse(text: &str) -> Result<Vec<Line>, Vec<String>> {
    let mut rows = csv::rows(text).map_err(|why| vec![why])?.into_iter();
    let heading = rows.next().ok_or_else(|| vec!["it is empty".to_owned()])?;
    let places = places(&heading)?;
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for Row { line, cells } in rows {
        if cells.len() != heading.cells.len() {
            wrong.push(format!("line {line}: {} cells below {} columns", cells.len(), heading.cells.len()));
            continue;
        }
        let cell = |name: &str| {
            let text = places.get(name).and_then(|place| cells.get(*place));
            text.filter(|text| !text.is_empty()).cloned()
        };
        match (cell("owner"), cell("app")) {
            (Some(owner), Some(app)) => {
                if let Some(first) = seen.insert(app.clone(), line) {
                    wrong.push(format!("line {line}: {app} is in line {first} too"));
                }
                lines.push(Line { line, owner, assigned_user: cell("assigned_user"), app, tier: cell("tier") });
            }
            (None, _) => wrong.push(format!("line {line}: `owner` is empty")),
            (_, None) => wrong.push(format!("line {line}: `app` is empty")),
        }
    }
    if lines.is_empty() && wrong.is_empty() {
        wrong.push("there is nothing below the heading".to_owned());
    }
    if wrong.is_empty() { Ok(lines) } else { Err(wrong) }
}

/// Where each column is.
fn places(heading: &Row) -> Result<BTreeMap<&str, usize>, Vec<String>> {
    let Row { line, cells } = heading;
    let (mut places, mut wrong) = (BTreeMap::new(), Vec::new());
    for (place, name) in cells.iter().enumerate() {
        let shown: String = name.chars().take(32).flat_map(char::escape_default).collect();
        if !COLUMNS.contains(&name.as_str()) {
            wrong.push(format!("line {line}: there is no column `{shown}`; there are {}", COLUMNS.join(", ")));
        } else if places.insert(name.as_str(), place).is_some() {
            wrong.push(format!("line {line}: the column `{shown}` is there twice"));
        }
    }
    for name in ["owner", "app"].into_iter().filter(|name| !places.contains_key(name)) {
        wrong.push(format!("line {line}: the column `{name}` is missing"));
    }
    if wrong.is_empty() { Ok(places) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_names() {
        let lines = parse("app,owner\nacme,user:alice\n").unwrap();
        let line = Line { line: 2, owner: "user:alice".into(), assigned_user: None, app: "acme".into(), tier: None };
        assert_eq!(lines, [line]);
        let lines = parse("tier,owner,app,assigned_user\nsmall,org:x,\"a\",bob\n").unwrap();
        assert_eq!((lines[0].tier.as_deref(), lines[0].assigned_user.as_deref()), (Some("small"), Some("bob")));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_line() {
        let wrong = parse("owner,app\nuser:a\n,x\nuser:a,\nuser:a,y\nuser:b,y\n").unwrap_err();
        assert_eq!(
            wrong,
            [
                "line 2: 1 cells below 2 columns",
                "line 3: `owner` is empty",
                "line 4: `app` is empty",
                "line 6: y is in line 5 too"
            ]
        );
        assert_eq!(parse("").unwrap_err(), ["it is empty"]);
        assert_eq!(parse("owner,app\n").unwrap_err(), ["there is nothing below the heading"]);
        let wrong = parse("owner,owner,size\n").unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
