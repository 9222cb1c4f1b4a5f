//! Admissions beside pgbench inserting the same rows, turn by turn in one cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::load::{self, Seen};
use super::pgbench::{self, Way};
use super::place::Place;
use super::report::{Row, listed, median};
use super::{Options, store};

/// How much of pgbench is aimed at.
const GOAL: f64 = 0.6;

/// How long the first calls are not counted: connections are made, and everything is read for the first time.
const WARM_UP: Duration = Duration::from_secs(2);

pub(super) async fn measure(options: &Options, place: &Place) -> Result<Row> {
    let (ours, theirs) = (place.database()?, place.database()?);
    // Its schema.
    store::open(&theirs, 1).await?.close().await;
    let opened = store::open(&ours, options.connections).await?;
    let admit = {
        let opened = Arc::clone(&opened);
        move || load::admit_somebody(Arc::clone(&opened))
    };
    load::callers(options.callers, WARM_UP, admit.clone()).await?;
    pgbench::inserts(&theirs, options.callers, WARM_UP, Way::OneByOne)?;
    let mut seen: Vec<Seen> = Vec::new();
    let (mut one_by_one, mut pipelined) = (Vec::new(), Vec::new());
    let mut used = String::new();
    for _ in 0..options.rounds {
        ours.checkpoint()?;
        one_by_one.push(pgbench::inserts(&theirs, options.callers, options.span, Way::OneByOne)?);
        ours.checkpoint()?;
        let cpu = ours.cpu_time()?;
        seen.push(load::callers(options.callers, options.span, admit.clone()).await?);
        used = ours.cpu_time()?.each(cpu, seen.last().map_or(0, |seen| seen.calls as u64));
        ours.checkpoint()?;
        pipelined.push(pgbench::inserts(&theirs, options.callers, options.span, Way::Pipelined)?);
        eprintln!(
            "  pgbench {one_by_one:.0?}, pipelined {pipelined:.0?}, ours {:.0?}",
            seen.last().map(|seen| seen.per_second)
        );
    }
    let connections = ours
        .number("SELECT count(*) FROM pg_stat_activity WHERE usename = 'freehold' AND datname = current_database()")?;
    let rates: Vec<f64> = seen.iter().map(|seen| seen.per_second).collect();
    let p50 = median(seen.iter().map(|seen| seen.p50_ms).collect());
    let p99 = median(seen.iter().map(|seen| seen.p99_ms).collect());
    let notes = vec![
        format!(
            "{} callers over {connections} connections; pgbench has {} of its own",
            options.callers, options.callers
        ),
        format!("admissions per second, by round: {}; p50 {p50:.1} ms, p99 {p99:.1} ms", listed(&rates)),
        format!("processor time for each, in the last round: {used}"),
        format!("pgbench, a statement at a time, by round: {}", listed(&one_by_one)),
        format!(
            "pgbench with its statements in a pipeline, by round: {}; admissions are {:.2} of that",
            listed(&pipelined),
            median(rates.clone()) / median(pipelined.clone())
        ),
        format!(
            "bytes of an admission's rows: {}; of pgbench's: {}",
            bytes(&ours.row_bytes()?),
            bytes(&theirs.row_bytes()?)
        ),
    ];
    opened.close().await;
    let (rate, limit) = (median(rates), median(one_by_one));
    Ok(Row {
        figure: "admissions",
        goal: "at 64 connections at least 60 % of pgbench inserting the same rows with prepared statements",
        measured: format!("{rate:.0}/s"),
        beside: format!("pgbench {limit:.0}/s"),
        value: rate / limit,
        unit: "of pgbench",
        reached: rate / limit >= GOAL,
        notes,
    })
}

fn bytes(of: &[(&'static str, f64)]) -> String {
    of.iter().map(|(table, bytes)| format!("{table} {bytes:.0}")).collect::<Vec<_>>().join(", ")
}
