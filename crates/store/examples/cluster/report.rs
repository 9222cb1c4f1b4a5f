//! What was measured, a line of JSON each, for `cargo xtask bench cluster` and for people who like JSON.

use anyhow::Result;
use serde::Serialize;

/// One goal, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its short name.
    pub(super) figure: &'static str,
    /// What is aimed at, in words.
    pub(super) goal: &'static str,
    /// What was measured.
    pub(super) measured: String,
    /// What was measured beside it, in the same run.
    pub(super) beside: String,
    /// What is compared with the goal.
    pub(super) value: f64,
    /// What the value counts.
    pub(super) unit: &'static str,
    /// Whether it is as good as the goal, or better.
    pub(super) reached: bool,
    /// What ran, and what else was seen.
    pub(super) notes: Vec<String>,
}

impl Row {
    pub(super) fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Numbers as a list.
pub(super) fn listed(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ")
}
