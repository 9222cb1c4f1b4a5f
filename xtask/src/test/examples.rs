//! Whether the documentation has examples to run. Where it has none, the stage that runs them is over at once.

use crate::tree::Tree;
use anyhow::Result;

/// How a fenced block in a doc comment begins when rustdoc compiles it.
const COMPILED: &[&str] = &["```", "```rust", "```no_run", "```should_panic", "```compile_fail"];

/// Looks for an example in the sources of the libraries.
///
/// # Errors
/// Where the tree cannot be read.
pub(super) fn any() -> Result<bool> {
    let tree = Tree::read()?;
    Ok(tree.rust().any(|(path, text)| path.starts_with("crates/") && path.contains("/src/") && has_example(text)))
}

/// Whether a fence that opens in a doc comment is one that rustdoc compiles.
fn has_example(text: &str) -> bool {
    let comments = text.lines().map(str::trim_start).filter_map(|line| {
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        Some(comment.trim())
    });
    // Every second fence closes a block.
    comments.filter(|comment| comment.starts_with("```")).step_by(2).any(|fence| COMPILED.contains(&fence))
}

#[cfg(test)]
mod tests {
    use super::has_example;

    #[test]
    fn a_block_of_text_is_no_example() {
        assert!(!has_example("/// ```text\n/// a ─▶ b\n/// ```\nfn a() {}"));
        assert!(!has_example("let fence = \"```\";"));
    }

    #[test]
    fn a_block_of_rust_is_one() {
        assert!(has_example("    /// ```\n    /// assert!(true);\n    /// ```"));
        assert!(has_example("//! ```text\n//! ```\n//! ```no_run\n//! serve();\n//! ```"));
    }
}
