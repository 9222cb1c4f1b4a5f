//! Sources stay small enough to be read, and the core stays free of time, chance and tasks.

use super::Finding;
use crate::tree::{Tree, numbered};

/// The most lines of a source file outside its tests. A longer one has a noun that wants to leave.
const SOURCE_LINES_MAX: usize = 700;

/// The crates that get time and chance as arguments.
const CORE: &[&str] = &["crates/domain/src/", "crates/engine/src/"];

/// What the core never names. Clippy bans the calls; this also finds them in macros and behind `cfg`.
const CORE_SHUNS: &[&str] =
    &["tokio", "SystemTime::now", "Instant::now", "thread::spawn", "thread::sleep", "Uuid::now_v7", "Uuid::new_v4"];

/// Every source file that is too long.
pub(super) fn sizes(tree: &Tree) -> Vec<Finding> {
    let sources = tree.rust().filter(|(path, _)| !is_test(path));
    let long = sources.map(|(path, text)| (path, lines_outside_tests(text))).filter(|(_, n)| *n > SOURCE_LINES_MAX);
    long.map(|(path, n)| Finding::in_file(path, format!("{n} lines outside tests; at most {SOURCE_LINES_MAX}")))
        .collect()
}

/// Every mention of a clock, a runtime or chance in the core, comments aside.
pub(super) fn core(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| CORE.iter().any(|folder| path.starts_with(folder))) {
        for (line, content) in numbered(text).filter(|(_, content)| !content.trim_start().starts_with("//")) {
            if let Some(word) = CORE_SHUNS.iter().find(|word| content.contains(**word)) {
                findings.push(Finding::at(
                    path,
                    line,
                    format!("names {word}: take it as an argument or put it behind a port"),
                ));
            }
        }
    }
    findings
}

/// Files that hold nothing but tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Lines up to the test module, which by habit is the last thing in a file.
fn lines_outside_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::{SOURCE_LINES_MAX, Tree, core, sizes};

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let long = "fn a() {}\n".repeat(SOURCE_LINES_MAX + 1);
        let tree = Tree::of([("crates/a/src/lib.rs", &long), ("crates/a/tests/all.rs", &long)]);
        let found: Vec<_> = sizes(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["crates/a/src/lib.rs"]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(SOURCE_LINES_MAX));
        assert_eq!(sizes(&Tree::of([("crates/a/src/lib.rs", &text)])), []);
    }

    #[test]
    fn a_clock_or_a_runtime_in_the_core_is_found() {
        let tree = Tree::of([
            ("crates/domain/src/a.rs", "let now = std::time::SystemTime::now();"),
            ("crates/engine/src/b.rs", "// never names tokio\nuse tokio::sync::mpsc;"),
            ("crates/freehold/src/main.rs", "tokio::spawn(work)"),
        ]);
        let found: Vec<_> = core(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("crates/engine/src/b.rs:2: names tokio"), "{}", found[1]);
    }
}
