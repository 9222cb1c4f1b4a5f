//! Documents tell of what is in the tree: the ones promised are there, and what they point at exists.
//!
//! Fenced code blocks are left alone; they show commands and pictures.

use super::Finding;
use crate::tree::{Tree, numbered};

/// The documents every reader may count on.
const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "docs/guarantees.md",
    "docs/life-of-a-provision.md",
    "docs/decisions",
];

/// A text in backticks that begins like this is a path in the tree.
const PATH_STARTS: &[&str] = &["crates/", "xtask/", "docs/"];

/// Every promised document that is missing.
pub(super) fn present(tree: &Tree) -> Vec<Finding> {
    REQUIRED
        .iter()
        .filter(|path| !tree.exists(path))
        .map(|path| Finding::in_file(path, "is missing; every reader counts on it"))
        .collect()
}

/// Every path in backticks that is not in the tree.
pub(super) fn paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (document, text) in tree.markdown() {
        for (line, prose) in prose(text) {
            for path in code_spans(prose).filter_map(as_path) {
                if !tree.exists(path) {
                    findings.push(Finding::at(document, line, format!("`{path}` is not in the tree")));
                }
            }
        }
    }
    findings
}

/// Every relative link whose file or heading is not there.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (document, text) in tree.markdown() {
        for (line, prose) in prose(text) {
            for target in targets(&without_code(prose)) {
                if let Err(what) = resolve(tree, document, target) {
                    findings.push(Finding::at(document, line, format!("link `{target}`: {what}")));
                }
            }
        }
    }
    findings
}

/// The numbered lines outside fenced code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    numbered(text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The texts between single backticks on a line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The line with its code spans taken out, so that code is not mistaken for a link.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("code")
}

/// The path a code span names, up to what is not a path: a space, a line number, an item, a placeholder's folder.
fn as_path(span: &str) -> Option<&str> {
    let path = span.split([' ', ':', '#', '(']).next().unwrap_or(span);
    if !PATH_STARTS.iter().any(|start| path.starts_with(start)) {
        return None;
    }
    // `docs/errors/{code}.md` and `docs/decisions/NNNN-*.md` stand for many files: their folder must be there.
    match path.find(['{', '*', '<', '…']).map(|at| &path[..at]) {
        Some(fixed) => fixed.rfind('/').map(|slash| &fixed[..slash]),
        None => Some(path),
    }
}

/// The targets of `[text](target)` and of `[name]: target` on a line.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let named = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
    inline.chain(named).map(|target| target.trim_matches(['<', '>'])).collect()
}

/// Whether a link leads somewhere. Links with a scheme and the server's own paths (`/problems/…`) are not ours to check.
fn resolve(tree: &Tree, document: &str, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") || target.starts_with('/') {
        return Ok(());
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { document.to_owned() } else { join(document, file)? };
    if !tree.exists(&path) {
        return Err(format!("`{path}` is not in the tree"));
    }
    match tree.text(&path) {
        Some(text) if !heading.is_empty() && path.ends_with(".md") && !anchors(text).iter().any(|a| a == heading) => {
            Err(format!("`{path}` has no heading `#{heading}`"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A path relative to the folder of a document, with `.` and `..` taken out.
fn join(document: &str, relative: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => {}
            ".." => drop(parts.pop().ok_or("leads out of the tree")?),
            name => parts.push(name),
        }
    }
    Ok(parts.join("/"))
}

/// The anchors of a document's headings, as the common renderers make them.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let base: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let mut anchor = base.clone();
        let mut repeat = 0;
        while anchors.contains(&anchor) {
            repeat += 1;
            anchor = format!("{base}-{repeat}");
        }
        anchors.push(anchor);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::{REQUIRED, Tree, anchors, links, paths, present};

    #[test]
    fn a_missing_document_is_named() {
        let tree = Tree::of([("README.md", ""), ("docs/decisions/0001-one.md", "")]);
        let missing: Vec<_> = present(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(missing.len(), REQUIRED.len() - 2);
        assert!(missing.contains(&"docs/guarantees.md".to_owned()));
    }

    #[test]
    fn a_path_that_is_not_in_the_tree_is_found_with_its_line() {
        let tree = Tree::of([
            ("crates/domain/src/lease.rs", ""),
            (
                "ARCHITECTURE.md",
                "see `crates/domain/src/lease.rs:12`\n\nand `crates/domain/src/gone.rs`, and `src/main.rs`",
            ),
        ]);
        let findings = paths(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].to_string(), "ARCHITECTURE.md:3: `crates/domain/src/gone.rs` is not in the tree");
    }

    #[test]
    fn a_path_with_a_placeholder_needs_its_folder() {
        let folders = "`docs/errors/{code}.md` `docs/decisions/NNNN-*.md`";
        let tree = Tree::of([("docs/errors/gone.md", ""), ("README.md", folders)]);
        let findings = paths(&tree);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("docs/decisions"));
    }

    #[test]
    fn fenced_blocks_are_left_alone() {
        let text = "```\n`crates/none` [x](none.md)\n```\n";
        let tree = Tree::of([("README.md", text)]);
        assert!(paths(&tree).is_empty() && links(&tree).is_empty());
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let text =
            "[a](docs/there.md) [b](docs/gone.md) [c](../out.md) [d](https://example.org) `[e](code)`\n[f]: lost.md";
        let tree = Tree::of([("README.md", text), ("docs/there.md", "[home](../README.md)")]);
        let found: Vec<_> = links(&tree).into_iter().map(|finding| finding.what).collect();
        assert_eq!(
            found,
            [
                "link `docs/gone.md`: `docs/gone.md` is not in the tree",
                "link `../out.md`: leads out of the tree",
                "link `lost.md`: `lost.md` is not in the tree"
            ]
        );
    }

    #[test]
    fn a_link_to_a_heading_that_is_not_there_is_found() {
        let tree = Tree::of([
            ("README.md", "[a](docs/guarantees.md#oneunresolved) [b](docs/guarantees.md#two) [c](#here)\n# Here"),
            ("docs/guarantees.md", "## OneUnresolved\n"),
        ]);
        let findings = links(&tree);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("#two"));
    }

    #[test]
    fn anchors_are_made_as_the_renderers_make_them() {
        assert_eq!(anchors("# A `b`, c!\n## Same\n## Same\n#no"), ["a-b-c", "same", "same-1"]);
    }
}
