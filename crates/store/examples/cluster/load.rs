//! Callers of a store: as many as there are, as fast as they are answered, or so many calls a second.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::Holder;
use freehold_domain::owner::Context;
use freehold_domain::reservation::FrozenSpec;
use freehold_domain::run::Bid;
use freehold_engine::ports::{Admission, Admitted, Asked, IdempotencyKey, Store};
use tokio::task::JoinSet;

/// What instances run, as the engine freezes it.
pub(super) const SPEC: &str = r#"{"template":"sleeper","tier":"small","image":null,"command":["/bin/sleep","infinity"],"env":{"PORT":"8080"},"secrets":{},"memory_mb":256,"cpu_millis":500,"volume_gb":0}"#;

static MINTED: AtomicU64 = AtomicU64::new(0);

/// A number that was never given before in this process, and is spread as chance is.
fn spread() -> u64 {
    MINTED.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Ten bytes for an id.
fn chance() -> [u8; 10] {
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&spread().to_be_bytes());
    chance
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A node that holds what it admits.
pub(super) fn node(name: &str) -> Result<Holder> {
    Ok(Holder { node: name.parse()?, incarnation: 1 })
}

/// A request for an instance of somebody, with a key of its own.
pub(super) fn admission(user: &str) -> Result<Admission> {
    let mut scope = [0; 32];
    for chunk in scope.chunks_exact_mut(8) {
        chunk.copy_from_slice(&spread().to_be_bytes());
    }
    Ok(Admission {
        bid: Bid {
            instance: InstanceId::mint(now_millis(), chance()),
            context: context(user)?,
            provider: "process".parse()?,
            tier: "small".parse()?,
            price_version: "2026-01".parse()?,
            regions: Vec::new(),
            named: None,
            spec: FrozenSpec(Arc::from(SPEC.as_bytes())),
        },
        asked: Asked {
            operation: OperationId::mint(now_millis(), chance()),
            actor: Actor::Platform,
            request_id: "0190a7c8-0000-7000-8000-000000000000".to_owned(),
            deadline_in: Duration::from_secs(120),
            holder: Some(node("node-1")?),
        },
        limit: 1,
        idempotency: Some(IdempotencyKey { scope, fingerprint: [7; 32] }),
    })
}

/// The context of somebody.
pub(super) fn context(user: &str) -> Result<Context> {
    Ok(Context::new(format!("user:{user}").parse()?, None)?)
}

/// Somebody who never asked before.
pub(super) fn somebody() -> String {
    format!("customer-{:016x}", spread())
}

/// Admits somebody who never asked before.
pub(super) async fn admit_somebody(store: Arc<dyn Store>) -> Result<()> {
    match store.admit(admission(&somebody())?).await {
        Ok(Admitted::Taken(_)) => Ok(()),
        other => Err(anyhow!("an admission of somebody new came to {other:?}")),
    }
}

/// What callers saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) calls: usize,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Seen {
    fn of(mut took: Vec<Duration>, elapsed: Duration) -> Self {
        took.sort_unstable();
        let at = |part: f64| {
            let index = (took.len().saturating_sub(1) as f64 * part) as usize;
            took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1_000.0)
        };
        Self {
            calls: took.len(),
            per_second: took.len() as f64 / elapsed.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        }
    }
}

/// So many callers for so long, each with one call at a time.
pub(super) async fn callers<F>(
    callers: usize,
    span: Duration,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> Result<Seen>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut busy = JoinSet::new();
    let began = Instant::now();
    for _ in 0..callers {
        let call = call.clone();
        busy.spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < span {
                let asked = Instant::now();
                call().await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(one) = busy.join_next().await {
        took.extend(one??);
    }
    Ok(Seen::of(took, began.elapsed()))
}

/// So many calls a second until `over`, each counted from when it was to be made: what waits for a caller waits.
pub(super) async fn paced<F>(
    callers: u32,
    per_second: u32,
    over: Arc<AtomicBool>,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> Result<Seen>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut busy = JoinSet::new();
    let began = Instant::now();
    for caller in 0..callers {
        let (call, over) = (call.clone(), Arc::clone(&over));
        let gap = Duration::from_secs(1) / per_second * callers;
        busy.spawn(async move {
            let mut took = Vec::new();
            let mut due = began + gap / callers * caller;
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep_until(due.into()).await;
                call().await?;
                took.push(due.elapsed());
                due += gap;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(one) = busy.join_next().await {
        took.extend(one??);
    }
    Ok(Seen::of(took, began.elapsed()))
}
