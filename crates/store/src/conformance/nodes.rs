//! Who is there, who has a node's name, and who begins where.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::lease::Holder;
use freehold_engine::ports::{Elsewhere, LISTED_FOR, LIVE_FOR, NodeBeat, NodeOrders, NodeRecord, Share, StoreError};

use super::{Bench, TERM, lease, node, user};

/// Time enough for every clock to show another.
const TICK: Duration = Duration::from_secs(1);

fn beat(name: &str, incarnation: u64) -> NodeBeat {
    NodeBeat {
        holder: Holder { incarnation, ..node(name) },
        roles: "http,executor".to_owned(),
        version: "1.2.3".to_owned(),
        address: "10.0.0.1:7788".to_owned(),
        providers: vec!["docker".parse().expect("a name")],
    }
}

impl Bench {
    async fn node_start(&self, beat: NodeBeat) -> NodeOrders {
        self.store.node_start(beat).await.expect("the store answers")
    }

    async fn node_beat(&self, beat: NodeBeat) -> NodeOrders {
        self.store.node_beat(beat).await.expect("the store answers")
    }

    async fn nodes(&self) -> Vec<NodeRecord> {
        self.store.node_list().await.expect("the store answers")
    }

    async fn only_node(&self) -> NodeRecord {
        let mut nodes = self.nodes().await;
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        nodes.remove(0)
    }
}

/// What was told last, since when and when.
pub async fn a_beat_is_on_record(bench: Arc<Bench>) {
    let first = bench.node_start(beat("a", u64::MAX >> 1)).await;
    assert_eq!((first.draining, first.superseded, first.share), (false, false, Share::ALL));
    bench.clock.advance(TICK);
    let told = NodeBeat { roles: "http".to_owned(), version: "1.2.4".to_owned(), ..beat("a", u64::MAX >> 1) };
    let later = bench.node_beat(told.clone()).await;
    assert!(later.now >= first.now.plus(TICK), "the store's time goes on");
    let record = bench.only_node().await;
    let expected = NodeRecord { beat: told, started_at: first.now, seen_at: later.now, draining: false, operations: 0 };
    assert_eq!(record, expected);
}

/// Whoever starts last is the node.
pub async fn a_new_life_is_not_draining_and_starts_anew(bench: Arc<Bench>) {
    bench.node_start(beat("a", 1)).await;
    bench.store.node_drain(&node("a").node, true).await.expect("it is there");
    bench.clock.advance(TICK);
    let reborn = bench.node_start(beat("a", 2)).await;
    assert!(!reborn.draining);
    let record = bench.only_node().await;
    assert_eq!((record.beat, record.started_at, record.draining), (beat("a", 2), reborn.now, false));
}

/// It hears of it with its next beat, and keeps it over beats.
pub async fn a_node_is_drained_and_not(bench: Arc<Bench>) {
    bench.node_start(beat("a", 1)).await;
    let record = bench.store.node_drain(&node("a").node, true).await.expect("it is there");
    assert!(record.draining);
    for _ in 0..2 {
        assert!(bench.node_beat(beat("a", 1)).await.draining);
    }
    let record = bench.store.node_drain(&node("a").node, true).await.expect("twice is once");
    assert!(record.draining);
    assert_eq!(bench.store.node_drain(&node("a").node, false).await.map(|record| record.draining), Ok(false));
    assert!(!bench.node_beat(beat("a", 1)).await.draining);
}

/// A process that was frozen while another took its node's name, and wakes up.
pub async fn an_earlier_life_changes_nothing(bench: Arc<Bench>) {
    bench.node_start(beat("a", 9)).await;
    let current = bench.node_start(beat("a", 5)).await;
    bench.clock.advance(TICK);
    let told = NodeBeat { address: "10.0.0.9:1".to_owned(), ..beat("a", 9) };
    let zombie = bench.node_beat(told).await;
    assert!(zombie.superseded);
    assert_eq!(zombie.share, Share::ALL);
    let record = bench.only_node().await;
    assert_eq!((record.beat, record.seen_at), (beat("a", 5), current.now));
    assert!(!bench.node_beat(beat("a", 5)).await.superseded, "and the node is who it was");
}

/// Of two processes by one name one goes on when the other ends. What was asked of the name stays asked.
pub async fn a_silent_name_is_free(bench: Arc<Bench>) {
    bench.node_start(beat("a", 1)).await;
    bench.node_start(beat("a", 2)).await;
    bench.store.node_drain(&node("a").node, true).await.expect("it is there");
    bench.clock.advance(LIVE_FOR - TICK);
    assert!(bench.node_beat(beat("a", 1)).await.superseded);
    bench.clock.advance(TICK * 2);
    let heard = bench.node_beat(beat("a", 1)).await;
    assert_eq!((heard.superseded, heard.draining), (false, true));
    assert_eq!(bench.only_node().await.beat, beat("a", 1));
    assert!(bench.node_beat(beat("a", 2)).await.superseded, "the other one came too late");
}

/// Neither what never was, nor what was forgotten.
pub async fn what_is_not_on_the_list_is_not_drained(bench: Arc<Bench>) {
    let missing = Err(StoreError::Missing("node"));
    assert_eq!(bench.store.node_drain(&node("a").node, true).await, missing);
    bench.node_start(beat("a", 1)).await;
    bench.clock.advance(LISTED_FOR + TICK);
    assert_eq!(bench.store.node_drain(&node("a").node, true).await, missing);
    let back = bench.node_beat(beat("a", 1)).await;
    assert!(!back.superseded);
    assert_eq!(bench.only_node().await.beat, beat("a", 1), "one that is heard of again is on it again");
}

/// A silent one stays for a day.
pub async fn nodes_are_listed_by_name_for_a_day(bench: Arc<Bench>) {
    for name in ["b", "c", "a"] {
        bench.node_start(beat(name, 1)).await;
    }
    let names = async |bench: &Bench| -> Vec<String> {
        bench.nodes().await.iter().map(|record| record.beat.holder.node.to_string()).collect()
    };
    assert_eq!(names(&bench).await, ["a", "b", "c"]);
    bench.clock.advance(LISTED_FOR - TICK);
    bench.node_beat(beat("b", 1)).await;
    assert_eq!(names(&bench).await, ["a", "b", "c"]);
    bench.clock.advance(TICK * 2);
    assert_eq!(names(&bench).await, ["b"]);
    bench.node_start(beat("d", 1)).await;
    assert_eq!(names(&bench).await, ["b", "d"]);
}

/// What is held counts, what rests or lapsed does not.
pub async fn held_leases_are_counted(bench: Arc<Bench>) {
    bench.node_start(beat("a", 1)).await;
    bench.node_start(beat("b", 1)).await;
    let run = bench.taken(&user("alice")).await;
    bench.taken(&user("bob")).await;
    let nobodys = bench.admission(&user("carol"));
    bench.take(freehold_engine::ports::Admission { asked: bench.asked_of_others(), ..nobodys }).await;
    let operations =
        async |bench: &Bench| bench.nodes().await.iter().map(|record| record.operations).collect::<Vec<_>>();
    assert_eq!(operations(&bench).await, [2, 0]);
    let drained = bench.store.node_drain(&node("a").node, true).await.expect("it is there");
    assert_eq!(drained.operations, 2);
    bench.store.give_back(&[lease(&run)]).await.expect("it is given back");
    assert_eq!(operations(&bench).await, [1, 0]);
    bench.clock.advance(TERM.0 + TICK);
    assert_eq!(operations(&bench).await, [0, 0], "a lease that lapsed holds nothing");
}

/// Those that are there, not being drained, and executors have a part each, by name.
pub async fn live_executors_share_the_timers(bench: Arc<Bench>) {
    let share = |index, of| Share { index, of };
    assert_eq!(bench.node_start(beat("b", 1)).await.share, Share::ALL);
    assert_eq!(bench.node_start(beat("c", 1)).await.share, share(1, 2));
    let no_executor = NodeBeat { roles: "http,proxy".to_owned(), ..beat("a", 1) };
    assert_eq!(bench.node_start(no_executor.clone()).await.share, Share::ALL);
    assert_eq!(bench.node_beat(beat("b", 1)).await.share, share(0, 2));
    // One that becomes one, as one that is not drained any more does.
    assert_eq!(bench.node_beat(beat("a", 1)).await.share, share(0, 3));
    assert_eq!(bench.node_beat(beat("b", 1)).await.share, share(1, 3));
    bench.store.node_drain(&node("a").node, true).await.expect("it is there");
    assert_eq!(bench.node_beat(beat("b", 1)).await.share, share(0, 2));
    assert_eq!(bench.node_beat(beat("a", 1)).await.share, Share::ALL);
    bench.clock.advance(LIVE_FOR);
    assert_eq!(bench.node_beat(beat("c", 1)).await.share, Share::ALL, "a silent one has no part");
    assert_eq!(bench.node_beat(beat("b", 1)).await.share, share(0, 2), "until it is heard of again");
}

/// As long as it is there and an executor. A node has what it told last.
pub async fn what_another_executor_has_is_elsewhere(bench: Arc<Bench>) {
    let with = |name: &str, providers: &[&str]| NodeBeat {
        providers: providers.iter().map(|provider| provider.parse().expect("a name")).collect(),
        ..beat(name, 1)
    };
    let told = with("a", &["docker", "fly"]);
    let executed = async |told: &NodeBeat| bench.node_beat(told.clone()).await.elsewhere.executed;
    assert_eq!(bench.node_start(told.clone()).await.elsewhere, Elsewhere::default());
    assert_eq!(bench.nodes().await[0].beat, told);
    let other = with("b", &["fly", "own"]);
    assert_eq!(bench.node_start(other.clone()).await.elsewhere.executed, with("b", &["docker"]).providers);
    assert_eq!(executed(&told).await, with("a", &["own"]).providers);
    bench.node_beat(NodeBeat { roles: "http,reconcilers".to_owned(), ..other.clone() }).await;
    let watched = Elsewhere { executed: Vec::new(), watched: with("a", &["own"]).providers };
    assert_eq!(
        bench.node_beat(told.clone()).await.elsewhere,
        watched,
        "it runs no operations, and looks after runtimes"
    );
    bench.node_beat(other).await;
    assert_eq!(executed(&told).await, with("a", &["own"]).providers);
    bench.clock.advance(LIVE_FOR + TICK);
    assert_eq!(bench.node_beat(told).await.elsewhere, Elsewhere::default(), "it is gone");
}
