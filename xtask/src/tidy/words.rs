//! Words that do not belong in a finished tree.
//!
//! This file is the one place that may contain them.

use super::Finding;
use crate::tree::{Tree, numbered};

/// Where the words below may stand.
const HERE: &str = "xtask/src/tidy/words.rs";

/// Marks of work that is not done. Whole words.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "dbg!", "todo!", "unimplemented!", "#[ignore"];

/// A test that a stage of its own runs says which: that is no mark.
const RUN_ELSEWHERE: &str = "#[ignore = \"needs a ";

/// How a lint is silenced for good. An expectation with a reason ends when the reason does.
const ALLOWED: &[&str] = &["#[allow(", "#![allow(", ", allow("];

/// What points at something a reader of the tree cannot see: a number in somebody's tracker, a folder of somebody's
/// machine, how a change came about. The tree tells its reasons itself, or links to a public page.
const OUTSIDE: &[&str] = &[
    "issue #",
    "ticket #",
    "issues show",
    "/work/",
    "/root/",
    "/home/",
    "../shared",
    "coding agent",
    "language model",
];

/// Every mark of unfinished work.
pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    let written = tree.files().filter(|(path, _)| is_written(path));
    let marked = |line: &str| {
        let line = line.replace(RUN_ELSEWHERE, "");
        UNFINISHED.iter().find(|word| has_word(&line, word)).copied()
    };
    search(written, marked, "finish it, or leave it out")
}

/// Every lint that is allowed instead of expected.
pub(super) fn allowed(tree: &Tree) -> Vec<Finding> {
    let silenced = |line: &str| ALLOWED.iter().find(|word| line.contains(**word)).copied();
    search(tree.rust(), silenced, "write `#[expect(lint, reason = \"…\")]`")
}

/// Every mention of what is outside the tree, in a text or in a file's name.
pub(super) fn outside(tree: &Tree) -> Vec<Finding> {
    let written = tree.files().filter(|(path, _)| is_written(path));
    let mentioned = |line: &str| {
        let line = line.to_lowercase();
        OUTSIDE.iter().find(|word| line.contains(**word)).copied().or_else(|| numbered_issue(&line))
    };
    search(written, mentioned, "say it here, or link to a public page")
}

/// Files somebody wrote, as opposed to copied or generated.
fn is_written(path: &str) -> bool {
    !matches!(path, "Cargo.lock" | "LICENSE")
}

fn search<'t>(
    files: impl Iterator<Item = (&'t str, &'t str)>,
    find: impl Fn(&str) -> Option<&'static str>,
    advice: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.filter(|(path, _)| *path != HERE) {
        for (line, content) in numbered(text) {
            if let Some(word) = find(content) {
                findings.push(Finding::at(path, line, format!("`{word}`: {advice}")));
            }
        }
    }
    findings
}

/// Whether a word stands in a line by itself, not inside a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let ends_open = word.ends_with('!') || !line[at + word.len()..].starts_with(inside);
        ends_open && !line[..at].ends_with(inside)
    })
}

/// `issue 12` without the sign.
fn numbered_issue(line: &str) -> Option<&'static str> {
    let numbered = |at: usize| line[at + "issue ".len()..].starts_with(|c: char| c.is_ascii_digit());
    line.match_indices("issue ").any(|(at, _)| numbered(at)).then_some("issue N")
}

#[cfg(test)]
mod tests {
    use super::{HERE, Tree, allowed, outside, unfinished};

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        let tree = Tree::of([
            ("crates/a.rs", "fn a() {\n    dbg!(1); // TODO: more\n}"),
            ("crates/b.rs", "#[test]\n#[ignore = \"slow\"]\nfn b() {}"),
            ("docs/c.md", "FIXME later"),
            ("crates/d.rs", "#[test]\n#[ignore = \"needs a Docker engine: cargo xtask engines\"]\nfn d() {}"),
        ]);
        let found: Vec<_> = unfinished(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("crates/a.rs:2: `TODO`"), "{}", found[0]);
    }

    #[test]
    fn longer_words_are_left_alone() {
        let tree = Tree::of([("crates/a.rs", "mktodo!() \"XXXX\" TODOS"), ("Cargo.lock", "TODO"), (HERE, "TODO")]);
        assert_eq!(unfinished(&tree), []);
    }

    #[test]
    fn an_allowed_lint_is_found() {
        let tree = Tree::of([
            ("crates/a.rs", "#![allow(dead_code)]"),
            ("crates/b.rs", "#[cfg_attr(test, allow(dead_code))]"),
            ("crates/c.rs", "#[expect(dead_code, reason = \"…\")]\nfn c() { self.allow(1) }"),
        ]);
        assert_eq!(allowed(&tree).len(), 2);
    }

    #[test]
    fn what_a_reader_cannot_see_is_found() {
        let tree = Tree::of([
            ("docs/a.md", "as Issue 12 says"),
            ("docs/b.md", "see /home/somebody/notes"),
            ("docs/c.md", "the issue is the lock; an issue like 12 others"),
        ]);
        assert_eq!(outside(&tree).len(), 2);
    }
}
