//! The figures, for people and for programs.

use anyhow::Result;
use serde::Serialize;

/// One figure. A rate has connections and times; a single value has a unit.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) figure: &'static str,
    pub(super) connections: Option<usize>,
    pub(super) per_second: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) raw_per_second: Option<f64>,
    pub(super) syncs_per_op: Option<f64>,
    pub(super) value: Option<f64>,
    pub(super) unit: Option<&'static str>,
}

pub(super) fn json(rows: &[Row]) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(rows)?);
    Ok(())
}

/// A Markdown table, as `docs/reference/benchmarks.md` holds one.
pub(super) fn table(rows: &[Row]) -> Result<()> {
    println!("| figure | connections | per second | p50 ms | p99 ms | raw per second | syncs per op | value |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let number =
            |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        let connections = row.connections.map_or(String::new(), |count| count.to_string());
        let value = row.value.map_or(String::new(), |value| format!("{value:.1} {}", row.unit.unwrap_or_default()));
        println!(
            "| {} | {connections} | {} | {} | {} | {} | {} | {value} |",
            row.figure,
            number(row.per_second, 0),
            number(row.p50_ms, 2),
            number(row.p99_ms, 2),
            number(row.raw_per_second, 0),
            number(row.syncs_per_op, 3),
        );
    }
    Ok(())
}
