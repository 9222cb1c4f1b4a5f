//! What the code names, the documents explain: every invariant has its entry, every error code its page, and no entry
//! or page outlives its name.
//!
//! Both are read from their source: a variant of `Invariant`, or a row of the table of codes, is a name the documents
//! must know.

use super::Finding;
use crate::tree::Tree;
use std::collections::BTreeSet;

const INVARIANTS: &str = "crates/domain/src/invariants.rs";
const GUARANTEES: &str = "docs/guarantees.md";
const CODES: &str = "crates/api/src/code.rs";
const ERROR_PAGES: &str = "docs/errors/";

/// Every invariant without its `## Name` in the guarantees, and every such entry without an invariant.
pub(super) fn invariants(tree: &Tree) -> Vec<Finding> {
    let named = match variants_in(tree, INVARIANTS, "Invariant") {
        Ok(named) => named,
        Err(finding) => return vec![finding],
    };
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
        .map(|name| Finding::in_file(GUARANTEES, format!("`## {name}` names no variant of Invariant in {INVARIANTS}")));
    silent.chain(stale).collect()
}

/// Every error code without its page, and every page without its code.
pub(super) fn codes(tree: &Tree) -> Vec<Finding> {
    let codes = rows(tree.text(CODES).unwrap_or_default());
    if codes.is_empty() {
        return vec![Finding::in_file(CODES, "has no row `Variant = \"slug\", …` in its table of codes")];
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

/// The variants of an enum in a file, or the finding that they cannot be read.
fn variants_in(tree: &Tree, path: &str, name: &str) -> Result<BTreeSet<String>, Finding> {
    let text = tree.text(path).ok_or_else(|| Finding::in_file(path, format!("is missing; it holds `enum {name}`")))?;
    let named = variants(text, name);
    if named.is_empty() { Err(Finding::in_file(path, format!("has no `pub enum {name}`"))) } else { Ok(named) }
}

/// The variants of `pub enum {name}`: lines that begin with a capital one level deep in its braces.
fn variants(text: &str, name: &str) -> BTreeSet<String> {
    let head = format!("pub enum {name} {{");
    let body = text.lines().skip_while(|line| line.trim() != head).skip(1).take_while(|line| *line != "}");
    body.filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect()
}

/// The slugs in the rows of the table of codes: `InstanceNotFound = "instance_not_found", …`.
fn rows(text: &str) -> BTreeSet<String> {
    let row = |line: &str| {
        let (variant, rest) = line.trim_start().split_once(" = \"")?;
        let (slug, _) = rest.split_once('"')?;
        let is_variant =
            variant.starts_with(|c: char| c.is_ascii_uppercase()) && variant.chars().all(char::is_alphanumeric);
        is_variant.then(|| slug.to_owned())
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{Tree, codes, invariants};

    const ENUM: &str = "\
/// Names.
pub enum Invariant {
    /// Says `Nothing` here.
    #[doc(alias = \"one\")]
    OneUnresolved,
    NoRevive,
}

pub enum Other {
    Stranger,
}
";

    #[test]
    fn an_invariant_without_entry_and_an_entry_without_invariant_are_found() {
        let guarantees = "# Guarantees\n## OneUnresolved\n## Extra\n## What is not promised\n";
        let tree = Tree::of([("crates/domain/src/invariants.rs", ENUM), ("docs/guarantees.md", guarantees)]);
        let found: Vec<_> = invariants(&tree).into_iter().map(|finding| finding.what).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("`## NoRevive`") && found[1].contains("`## Extra`"));
    }

    #[test]
    fn invariants_with_their_entries_are_fine() {
        let guarantees = "## OneUnresolved\n## `NoRevive`\n";
        let tree = Tree::of([("crates/domain/src/invariants.rs", ENUM), ("docs/guarantees.md", guarantees)]);
        assert_eq!(invariants(&tree), []);
    }

    #[test]
    fn missing_files_are_named() {
        assert_eq!(invariants(&Tree::of([]))[0].path, "crates/domain/src/invariants.rs");
        assert_eq!(invariants(&Tree::of([("crates/domain/src/invariants.rs", ENUM)]))[0].path, "docs/guarantees.md");
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
