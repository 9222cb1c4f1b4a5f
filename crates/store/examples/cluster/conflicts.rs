//! A stampede on one context: everybody looks, and asks where the look says that it is free. One is admitted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, ensure};
use freehold_engine::ports::{AdmitRefused, Admitted, ContextPeek, Store};

use super::load;
use super::place::Place;
use super::report::{Row, listed, median};
use super::{Options, store};

/// How many conflicts a second are aimed at.
const GOAL: f64 = 10_000.0;

pub(super) async fn measure(options: &Options, place: &Place) -> Result<Row> {
    let database = place.database()?;
    let opened = store::open(&database, options.connections).await?;
    let (mut rates, mut p99) = (Vec::new(), Vec::new());
    let (mut late, mut calls) = (0, 0);
    let cpu = database.cpu_time()?;
    for round in 0..options.rounds {
        // Everybody begins at once, at a context that nobody has.
        let hot = format!("hot-{round}");
        let (winners, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = {
            let (opened, hot) = (Arc::clone(&opened), hot.clone());
            let (winners, refused) = (Arc::clone(&winners), Arc::clone(&refused));
            move || ask(Arc::clone(&opened), hot.clone(), Arc::clone(&winners), Arc::clone(&refused))
        };
        let seen = load::callers(options.callers, options.span, ask).await?;
        let won = winners.load(Ordering::Relaxed);
        ensure!(won == 1, "{won} of {} were admitted to one context, not one", seen.calls);
        let rows = database.number(&format!(
            "SELECT count(*) FROM freehold_registry.reservations JOIN freehold_registry.contexts USING (context_id) \
             WHERE owner = 'user:{hot}'"
        ))?;
        ensure!(rows == 1.0, "{rows} reservations are in one context, not one");
        late += refused.load(Ordering::Relaxed);
        calls += seen.calls as u64;
        rates.push(seen.per_second);
        p99.push(seen.p99_ms);
    }
    let used = database.cpu_time()?.each(cpu, calls);
    opened.close().await;
    let rate = median(rates.clone());
    Ok(Row {
        figure: "conflicts",
        goal: "on one hot context at least 10,000 a second, with exactly one winner",
        measured: format!("{rate:.0}/s, one winner"),
        beside: String::new(),
        value: rate,
        unit: "/s",
        reached: rate >= GOAL,
        notes: vec![
            format!(
                "{} callers over at most {} connections, each a look and, where it is free, an admission",
                options.callers, options.connections
            ),
            format!("by round: {}; p99 {:.1} ms", listed(&rates), median(p99)),
            format!("processor time for each: {used}"),
            format!("{late} were refused by the admission itself: they had looked before the winner's commit"),
        ],
    })
}

async fn ask(store: Arc<dyn Store>, hot: String, winners: Arc<AtomicU64>, refused: Arc<AtomicU64>) -> Result<()> {
    match store.context_peek(&load::context(&hot)?, 1, None).await? {
        ContextPeek::Taken { .. } => return Ok(()),
        ContextPeek::Free => {}
        other => return Err(anyhow!("a look came to {other:?}")),
    }
    match store.admit(load::admission(&hot)?).await {
        Ok(Admitted::Taken(_)) => winners.fetch_add(1, Ordering::Relaxed),
        Err(AdmitRefused::Conflict(_)) => refused.fetch_add(1, Ordering::Relaxed),
        other => return Err(anyhow!("an admission came to {other:?}")),
    };
    Ok(())
}
