//! Where the registry and the records are one database, each knows what the other does.

use std::sync::Arc;

use freehold_domain::records::{InstanceRow, RecordsView};
use freehold_engine::ports::RecordsError;

use super::records::because;
use super::{Bench, user};

/// An executor that lost its right writes late: nothing of it stands.
pub async fn nothing_is_written_for_what_is_not_being_made(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let instance = run.reservation.instance;
    bench.store.destroy_intent_set(instance, None, bench.asked()).await.expect("accepted");
    let row = InstanceRow {
        instance,
        context: user("alice"),
        provider: "process".parse().expect("a name"),
        tier: "small".parse().expect("a name"),
        created_at: bench.now(),
        destroyed_at: None,
    };
    assert!(matches!(bench.records.insert(row, &because()).await, Err(RecordsError::Refused(_))));
    let subscription = bench.subscription(&run.reservation);
    assert!(matches!(bench.records.subscription_put(subscription, &because()).await, Err(RecordsError::Refused(_))));
    assert_eq!(bench.records.describe(instance).await, Ok(RecordsView { closed: true, ..RecordsView::default() }));
}
