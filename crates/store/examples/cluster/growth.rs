//! Admissions over a registry that has seen much, beside one that has seen little, turn by turn in one cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::fill::{State, fill};
use super::load;
use super::place::{Database, Place};
use super::report::{Row, listed, median};
use super::{Options, store};

/// How much of the small one's rate is aimed at.
const GOAL: f64 = 0.9;

/// How many contexts the small one has.
const FEW: u64 = 10_000;

/// How long is admitted behind a checkpoint before it is counted. Whatever page is touched first is logged whole then: once for
/// each page, whatever is admitted until the next checkpoint minutes later.
const WARMING: Duration = Duration::from_secs(60);

/// Rounds are three times as many as others': what is compared is close to each other, and a round is off by a tenth.
const ROUNDS: usize = 3;

pub(super) async fn measure(options: &Options, place: &Place) -> Result<Row> {
    let (small, large) = (place.database()?, place.database()?);
    eprintln!("filling {FEW} and {} …", options.rows);
    fill(&small, FEW, State::Over).await?;
    fill(&large, options.rows, State::Over).await?;
    let size = large.sql("SELECT pg_size_pretty(pg_database_size(current_database()))")?;
    let (mut first, mut few, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for database in [&small, &large] {
        database.checkpoint()?;
        first.push(admissions(options, database, options.span).await?);
        admissions(options, database, WARMING.saturating_sub(options.span)).await?;
    }
    for _ in 0..options.rounds * ROUNDS {
        few.push(admissions(options, &small, options.span).await?);
        many.push(admissions(options, &large, options.span).await?);
    }
    let ratio = median(many.clone()) / median(few.clone());
    Ok(Row {
        figure: "growth",
        goal: "throughput with 10 million reservations at least 90 % of that with 10 thousand",
        measured: format!("{:.0}/s with {} reservations", median(many.clone()), options.rows),
        beside: format!("{:.0}/s with {FEW}", median(few.clone())),
        value: ratio,
        unit: "of the small one",
        // What ran is what counts: a smaller registry reaches nothing.
        reached: ratio >= GOAL && options.rows >= 10_000_000,
        notes: vec![
            format!(
                "{} reservations ran ({size} on disk): every second one complete, the others released",
                options.rows
            ),
            format!("admissions per second, by round, with many: {}; with few: {}", listed(&many), listed(&few)),
            format!(
                "behind a checkpoint, while every page that is touched first is logged whole, in the first {} s: {:.0} with \
                 many, {:.0} with few; rounds are counted from {} s behind it on",
                options.span.as_secs(),
                first[1],
                first[0],
                WARMING.as_secs()
            ),
        ],
    })
}

async fn admissions(options: &Options, database: &Database, span: Duration) -> Result<f64> {
    let opened = store::open(database, options.connections).await?;
    let admit = {
        let opened = Arc::clone(&opened);
        move || load::admit_somebody(Arc::clone(&opened))
    };
    let seen = load::callers(options.callers, span, admit).await?;
    opened.close().await;
    Ok(seen.per_second)
}
