//! Rules of the tree that neither the compiler nor clippy can see.
//!
//! A check is a pure function from what was read to what it found. Each has a test in which it must find something: a
//! check that has never caught anything proves nothing.

mod direction;
mod documents;
mod promises;
mod sources;
mod words;

use crate::tree::Tree;
use anyhow::{Result, bail};
use std::fmt;

/// One place that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 stands for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn in_file(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: 0, what: what.into() }
    }

    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Runs every check and prints a line for each; any finding is an error.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read()?;
    let packages = direction::packages()?;
    let results = [
        ("dependency direction", direction::check(&packages)),
        ("documents are there", documents::present(&tree)),
        ("paths in documents exist", documents::paths(&tree)),
        ("links in documents resolve", documents::links(&tree)),
        ("invariants have their entry", promises::invariants(&tree)),
        ("error codes have their page", promises::codes(&tree)),
        ("no unfinished work", words::unfinished(&tree)),
        ("lints are expected, not allowed", words::allowed(&tree)),
        ("the tree explains itself", words::outside(&tree)),
        ("files are small", sources::sizes(&tree)),
        ("the core has no clock and no runtime", sources::core(&tree)),
    ];
    let mut total = 0;
    for (name, findings) in &results {
        println!("{} {name}", if findings.is_empty() { "ok  " } else { "FAIL" });
        for finding in findings {
            println!("       {finding}");
        }
        total += findings.len();
    }
    match total {
        0 => Ok(()),
        total => bail!("the tree is not tidy: {total} findings, listed above"),
    }
}
