//! What is wrong with a configuration: where, what, and what would be right.

use std::fmt;

use super::tree::Origin;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where it was said.
    pub(crate) origin: Option<Origin>,
    /// The setting: `timing.renew`; empty for the file as a whole.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Finding {
    /// Something wrong with a setting.
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: None, path: path.into(), message: message.into(), hint: None }
    }

    /// Says where.
    pub(super) fn at(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Says what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            match origin {
                // The path says enough; nobody wrote it anywhere.
                Origin::BuiltIn => {}
                Origin::File { .. } | Origin::Env(_) | Origin::Flag(_) => write!(f, "{origin}: ")?,
            }
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that cannot be used, with everything that was found wrong. There is at least one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(Vec<Finding>);

impl ConfigError {
    /// An error from what was found; `None` where nothing was.
    pub(super) fn of(findings: Vec<Finding>) -> Option<Self> {
        (!findings.is_empty()).then_some(Self(findings))
    }

    /// Everything that was found, in the order of the sections.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.0
    }
}

impl From<Finding> for ConfigError {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            [only] => write!(f, "{only}"),
            [first, rest @ ..] => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The farthest that a word may be from a known one to be taken for a slip of the keyboard, in edits.
const SLIP_EDITS_MAX: usize = 3;

/// The known word that is nearest to one that is not known, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= SLIP_EDITS_MAX.min(candidate.len() / 2))
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions and replacements turn one word into another.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_recognised_and_a_stranger_is_not() {
        let known = ["lease", "renew", "retry_min", "retry_max"];
        assert_eq!(nearest("leese", known), Some("lease"));
        assert_eq!(nearest("retry-min", known), Some("retry_min"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
