//! What operators watch: every metric of the contract, in OpenMetrics text. No label names an owner or a user.
//!
//! Counters and histograms are fed as things happen; the gauges of the registry are read from it when somebody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_domain::operation::{OperationKind, OperationStatus, Step};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Meter, Store, StoreError, UnresolvedSummary};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds for what takes microseconds to seconds: commits and requests, in seconds.
const FAST: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Bounds for what takes milliseconds to minutes: calls to providers, in seconds.
const SLOW: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

type Buckets = fn() -> Histogram;

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),* })*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),* }
    )*};
}

labels! {
    ByOutcome { outcome: &'static str }
    ByStatus { status: &'static str }
    ByState { state: &'static str }
    ByStep { step: &'static str }
    ByInvariant { invariant: String }
    OfOperation { kind: &'static str, outcome: &'static str }
    OfProvider { provider: String, op: &'static str, outcome: &'static str }
    OfRequest { route: Arc<str>, status: u16 }
}

/// Every metric. One per process; the engine, the server and the binary's loops all feed it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    admissions: Family<ByOutcome, Counter>,
    unresolved: Family<ByStatus, Gauge>,
    oldest_unresolved: Gauge<f64, AtomicU64>,
    operations: Family<OfOperation, Counter>,
    operation_steps: Family<ByStep, Histogram, Buckets>,
    provider_requests: Family<OfProvider, Counter>,
    takeovers: Counter,
    reconciliations: Family<ByOutcome, Counter>,
    janitor_resources: Family<ByState, Gauge>,
    leaks_open: Gauge,
    timers_due: Gauge,
    store_commits: Histogram,
    http_requests: Family<OfRequest, Histogram, Buckets>,
    completion_pending: Counter,
    duplicates: Counter,
    violations: Family<ByInvariant, Counter>,
    resident: Gauge,
}

impl Metrics {
    /// With nothing counted.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let slow: Buckets = || Histogram::new(SLOW);
        let fast: Buckets = || Histogram::new(FAST);
        let mut metrics = Self {
            registry: Registry::default(),
            admissions: Family::default(),
            unresolved: Family::default(),
            oldest_unresolved: Gauge::default(),
            operations: Family::default(),
            operation_steps: Family::new_with_constructor(slow),
            provider_requests: Family::default(),
            takeovers: Counter::default(),
            reconciliations: Family::default(),
            janitor_resources: Family::default(),
            leaks_open: Gauge::default(),
            timers_due: Gauge::default(),
            store_commits: Histogram::new(FAST),
            http_requests: Family::new_with_constructor(fast),
            completion_pending: Counter::default(),
            duplicates: Counter::default(),
            violations: Family::default(),
            resident: Gauge::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let mut registry = Registry::default();
        registry.register_with_unit(
            "process_resident_memory",
            "Memory of this process that is in RAM",
            Unit::Bytes,
            self.resident.clone(),
        );
        let ours = registry.sub_registry_with_prefix("freehold");
        ours.register("admissions", "Requests for an instance, by what they came to", self.admissions.clone());
        ours.register("unresolved_reservations", "Reservations that hold their context", self.unresolved.clone());
        ours.register_with_unit(
            "oldest_unresolved",
            "Age of the oldest reservation that holds its context",
            Unit::Seconds,
            self.oldest_unresolved.clone(),
        );
        ours.register("operations", "Operations that are over or turned to cleaning up", self.operations.clone());
        ours.register_with_unit(
            "operation_step",
            "How long the calls of operations' steps took",
            Unit::Seconds,
            self.operation_steps.clone(),
        );
        ours.register("provider_requests", "Calls to providers", self.provider_requests.clone());
        ours.register("takeovers", "Operations taken over from a holder that went away", self.takeovers.clone());
        ours.register(
            "reconciliations",
            "Reservations settled by look-up, seal or repair",
            self.reconciliations.clone(),
        );
        ours.register(
            "janitor_resources",
            "Resources that the janitor's last pass saw, by what it made of them",
            self.janitor_resources.clone(),
        );
        ours.register("leaks_open", "Open leak records", self.leaks_open.clone());
        ours.register("timers_due", "Operations whose timer has rung", self.timers_due.clone());
        ours.register_with_unit("store_commit", "How long commits took", Unit::Seconds, self.store_commits.clone());
        ours.register_with_unit("http_request", "How long requests took", Unit::Seconds, self.http_requests.clone());
        ours.register(
            "provision_completion_pending",
            "Requests answered while their instance was being finished",
            self.completion_pending.clone(),
        );
        ours.register("duplicate_resources", "Extra copies of a resource that were found", self.duplicates.clone());
        ours.register("invariant_violations", "Violations seen in what was written", self.violations.clone());
        self.registry = registry;
    }

    /// A commit of the store came back.
    pub fn store_commit(&self, took: Duration) {
        self.store_commits.observe(took.as_secs_f64());
    }

    pub(crate) fn http_request(&self, route: &Arc<str>, status: u16, took: Duration) {
        let labels = OfRequest { route: Arc::clone(route), status };
        self.http_requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn completion_pending(&self) {
        self.completion_pending.inc();
    }

    /// The text. Reads the registry's gauges first.
    ///
    /// # Errors
    /// [`StoreError`] if the registry does not answer.
    pub(crate) async fn text(&self, store: &dyn Store, now: Timestamp) -> Result<String, StoreError> {
        let summary = store.unresolved_summary().await?;
        self.take_in(&summary, now);
        for (invariant, count) in store.violations() {
            let labels = ByInvariant { invariant: invariant.name().to_owned() };
            self.violations.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
        let resident = resident_bytes().unwrap_or_default();
        self.resident.set(i64::try_from(resident).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing into a string does not fail");
        Ok(text)
    }

    fn take_in(&self, summary: &UnresolvedSummary, now: Timestamp) {
        let UnresolvedSummary { in_progress, needs_reconciliation, oldest, timers_due, leaks_open } = *summary;
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (status, count) in [("in_progress", in_progress), ("failed_requires_reconciliation", needs_reconciliation)]
        {
            self.unresolved.get_or_create(&ByStatus { status }).set(gauge(count));
        }
        self.oldest_unresolved.set(oldest.map_or(0.0, |at| now.since(at).as_secs_f64()));
        self.timers_due.set(gauge(timers_due));
        self.leaks_open.set(gauge(leaks_open));
    }
}

impl Meter for Metrics {
    fn admission(&self, outcome: &'static str) {
        self.admissions.get_or_create(&ByOutcome { outcome }).inc();
    }

    fn step(&self, step: Step, took: Duration) {
        self.operation_steps.get_or_create(&ByStep { step: step.name() }).observe(took.as_secs_f64());
    }

    fn provider_request(&self, provider: &str, op: &'static str, outcome: &'static str) {
        self.provider_requests.get_or_create(&OfProvider { provider: provider.to_owned(), op, outcome }).inc();
    }

    fn operation(&self, kind: OperationKind, status: OperationStatus) {
        self.operations.get_or_create(&OfOperation { kind: kind.name(), outcome: status.name() }).inc();
    }

    fn takeover(&self) {
        self.takeovers.inc();
    }

    fn reconciliation(&self, outcome: &'static str) {
        self.reconciliations.get_or_create(&ByOutcome { outcome }).inc();
    }

    fn duplicate_resource(&self) {
        self.duplicates.inc();
    }

    fn janitor(&self, state: &'static str, count: u64) {
        self.janitor_resources.get_or_create(&ByState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// The memory of this process that is in RAM, in bytes; from Linux's `/proc/self/status`, `None` elsewhere.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_has_its_name() {
        let metrics = Metrics::new();
        metrics.admission("taken");
        metrics.step(Step::Base, Duration::from_millis(2));
        metrics.provider_request("local", "ensure_base", "done");
        metrics.operation(OperationKind::Provision, OperationStatus::Succeeded);
        metrics.takeover();
        metrics.reconciliation("released");
        metrics.duplicate_resource();
        metrics.store_commit(Duration::from_micros(300));
        metrics.janitor("swept", 2);
        metrics.http_request(&"/v1/instances".into(), 201, Duration::from_millis(1));
        metrics.completion_pending();
        metrics.take_in(&UnresolvedSummary::default(), Timestamp::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "freehold_admissions_total{outcome=\"taken\"} 1",
            "freehold_unresolved_reservations{status=\"in_progress\"} 0",
            "freehold_oldest_unresolved_seconds 0",
            "freehold_operations_total{kind=\"provision\",outcome=\"succeeded\"} 1",
            "freehold_operation_step_seconds_count{step=\"base\"} 1",
            "freehold_provider_requests_total{provider=\"local\",op=\"ensure_base\",outcome=\"done\"} 1",
            "freehold_takeovers_total 1",
            "freehold_reconciliations_total{outcome=\"released\"} 1",
            "freehold_janitor_resources{state=\"swept\"} 2",
            "freehold_leaks_open 0",
            "freehold_timers_due 0",
            "freehold_store_commit_seconds_count 1",
            "freehold_http_request_seconds_count{route=\"/v1/instances\",status=\"201\"} 1",
            "freehold_provision_completion_pending_total 1",
            "freehold_duplicate_resources_total 1",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn this_process_is_in_ram() {
        assert!(resident_bytes().unwrap() > 1024 * 1024);
    }
}
