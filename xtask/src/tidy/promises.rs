//! What the code names, the documents explain: every invariant has its entry, every error code its page, and no entry
//! or page outlives its name.
//!
//! Both are tables in their source, `invariants! { … }` and `codes! { … }`, one row for each name.

use super::Finding;
use crate::tree::Tree;
use std::collections::BTreeSet;

const INVARIANTS: &str = "crates/domain/src/invariants.rs";
const GUARANTEES: &str = "docs/guarantees.md";
const CODES: &str = "crates/api/src/code.rs";
const ERROR_PAGES: &str = "docs/errors/";

/// Every invariant without its `## Name` in the guarantees, and every such entry without an invariant.
pub(super) fn invariants(tree: &Tree) -> Vec<Finding> {
    let named: BTreeSet<String> = rows(tree, INVARIANTS, "invariants! {").map(|row| row.name.to_owned()).collect();
    if named.is_empty() {
        return vec![Finding::in_file(INVARIANTS, "has no table `invariants! { Name: \"statement\", … }`")];
    }
    let Some(text) = tree.text(GUARANTEES) else {
        return vec![Finding::in_file(GUARANTEES, "is missing; it explains every invariant")];
    };
    // An entry is a heading of one word; other headings (`## What is not promised`) are prose.
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let entries: BTreeSet<String> = headings
        .map(|heading| heading.trim().trim_matches('`'))
        .filter(|heading| heading.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect();
    let silent = named.difference(&entries).map(|name| {
        Finding::in_file(GUARANTEES, format!("has no `## {name}`: say why it holds and where it is enforced"))
    });
    let stale = entries
        .difference(&named)
        .map(|name| Finding::in_file(GUARANTEES, format!("`## {name}` names no invariant of {INVARIANTS}")));
    silent.chain(stale).collect()
}

/// Every error code without its page, and every page without its code.
pub(super) fn codes(tree: &Tree) -> Vec<Finding> {
    let codes: BTreeSet<String> = rows(tree, CODES, "codes! {").map(|row| row.literal.to_owned()).collect();
    if codes.is_empty() {
        return vec![Finding::in_file(CODES, "has no table `codes! { Variant = \"slug\", … }`")];
    }
    let pages: BTreeSet<String> = tree
        .files()
        .filter_map(|(path, _)| path.strip_prefix(ERROR_PAGES)?.strip_suffix(".md"))
        .filter(|page| *page != "README")
        .map(str::to_owned)
        .collect();
    let page = |code: &str| format!("{ERROR_PAGES}{code}.md");
    let silent = codes
        .difference(&pages)
        .map(|code| Finding::in_file(&page(code), "is missing: what happened, did anything change, what to do"));
    let stale = pages
        .difference(&codes)
        .map(|code| Finding::in_file(&page(code), format!("explains a code that {CODES} does not have")));
    silent.chain(stale).collect()
}

/// One row of a table: its name and the first text in it.
struct Row<'t> {
    name: &'t str,
    literal: &'t str,
}

/// The rows of the table that begins with the line `head` and ends at the next line that is `}`.
fn rows<'t>(tree: &'t Tree, path: &str, head: &'t str) -> impl Iterator<Item = Row<'t>> {
    let lines = tree.text(path).unwrap_or_default().lines();
    lines.skip_while(move |line| *line != head).skip(1).take_while(|line| *line != "}").filter_map(row)
}

/// `Name: "text", …` or `Name = "text", …`; comments and what continues a row are none.
fn row(line: &str) -> Option<Row<'_>> {
    let (name, rest) = line.trim_start().split_once([':', ' '])?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric);
    let literal = rest.split('"').nth(1)?;
    is_name.then_some(Row { name, literal })
}

#[cfg(test)]
mod tests {
    use super::{Tree, codes, invariants};

    const TABLE: &str = "\
macro_rules! invariants {
    ($($name:ident: $statement:literal),*) => {};
}

invariants! {
    // Core: \"first\".
    OneUnresolved: \"A context has at most one.\",
    NoRevive: \"Destroyed: never again.\",
}

strangers! {
    Stranger: \"Not ours.\",
}
";

    #[test]
    fn an_invariant_without_entry_and_an_entry_without_invariant_are_found() {
        let guarantees = "# Guarantees\n## OneUnresolved\n## Extra\n## What is not promised\n";
        let tree = Tree::of([("crates/domain/src/invariants.rs", TABLE), ("docs/guarantees.md", guarantees)]);
        let found: Vec<_> = invariants(&tree).into_iter().map(|finding| finding.what).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("`## NoRevive`") && found[1].contains("`## Extra`"));
    }

    #[test]
    fn invariants_with_their_entries_are_fine() {
        let guarantees = "## OneUnresolved\n## `NoRevive`\n";
        let tree = Tree::of([("crates/domain/src/invariants.rs", TABLE), ("docs/guarantees.md", guarantees)]);
        assert_eq!(invariants(&tree), []);
    }

    #[test]
    fn missing_files_are_named() {
        assert_eq!(invariants(&Tree::of([]))[0].path, "crates/domain/src/invariants.rs");
        assert_eq!(invariants(&Tree::of([("crates/domain/src/invariants.rs", TABLE)]))[0].path, "docs/guarantees.md");
        assert_eq!(codes(&Tree::of([]))[0].path, "crates/api/src/code.rs");
    }

    #[test]
    fn a_code_without_page_and_a_page_without_code_are_found() {
        let tree = Tree::of([
            (
                "crates/api/src/code.rs",
                "codes! {\n    /// Doc.\n    Gone = \"gone\", 410, \"Gone\";\n    NotHere = \"not_here\", 404, \"x = y\";\n}",
            ),
            ("docs/errors/README.md", ""),
            ("docs/errors/gone.md", ""),
            ("docs/errors/lost.md", ""),
        ]);
        let found: Vec<_> = codes(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["docs/errors/not_here.md", "docs/errors/lost.md"]);
    }
}
