//! The files of the tree: every text that git knows or would add.

use crate::workspace;
use anyhow::Result;
use std::collections::BTreeMap;

/// Paths relative to the root, with `/`, and the text of each. A file that is not UTF-8 has no text to check.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the working tree: tracked files and new ones, without what git ignores or has lost.
    ///
    /// # Errors
    /// Where git is missing or the tree is no clone.
    pub(crate) fn read() -> Result<Self> {
        let mut git = workspace::program("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = workspace::output(&mut git)?;
        let paths = String::from_utf8_lossy(&listed);
        let files = paths.split('\0').filter(|path| !path.is_empty()).filter_map(|path| {
            let bytes = std::fs::read(workspace::root().join(path)).ok()?;
            Some((path.to_owned(), String::from_utf8(bytes).unwrap_or_default()))
        });
        Ok(Self { files: files.collect() })
    }

    /// A tree made for a test.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self { files: files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect() }
    }

    /// The text of one file, if it is there.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a folder of this name is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// Every file, in the order of its path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust source file.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Every Markdown file.
    pub(crate) fn markdown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".md"))
    }
}

/// The lines of a text with their numbers, counted from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn a_folder_exists_when_a_file_is_in_it() {
        let tree = Tree::of([("crates/domain/src/lib.rs", "")]);
        assert!(tree.exists("crates/domain/src/lib.rs"));
        assert!(tree.exists("crates/domain/"));
        assert!(!tree.exists("crates/dom"));
    }

    #[test]
    fn the_working_tree_holds_this_file_and_no_build_output() {
        let tree = Tree::read().expect("the tests run in a clone");
        assert!(tree.text("xtask/src/tree.rs").is_some_and(|text| text.contains("pub(crate) struct Tree")));
        assert!(!tree.exists("target"));
    }
}
