//! Two nodes over one registry get another program while they work: node by node forward over a step of the schema, one
//! of them back, killed on the way, and forward again.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Home, Server, stderr};
use crate::two_nodes::{Place, nodes, run};

/// Creates that each node is asked for in each situation.
const EACH: usize = 6;

/// A cluster that is worked with all the time.
struct Cluster {
    place: Place,
    begun: Vec<Value>,
}

impl Cluster {
    /// Asks both for instances, and leaves them to it.
    fn begin(&mut self, situation: &str, both: [&Server; 2]) {
        for (node, server) in both.iter().enumerate() {
            let owners = (0..EACH).map(|number| format!("user:{situation}-{node}-{number}"));
            self.begun.extend(owners.map(|owner| server.begin(&owner)));
        }
        // Until the provider is being asked.
        let last = self.begun.last().unwrap()["id"].as_str().unwrap();
        both[1].until(&format!("/v1/operations/{last}"), |seen| {
            seen.body["steps"].as_array().is_some_and(|steps| steps.len() > 1)
        });
    }

    /// Whatever was begun came to what was asked for, whoever asks.
    fn check(&self, both: [&Server; 2]) {
        for operation in &self.begun {
            for server in both {
                let operation = server.until_over(operation);
                assert_eq!(operation["status"], "succeeded", "{operation:#}");
            }
        }
        self.place.check(&self.begun.iter().collect::<Vec<_>>());
    }
}

fn drained(by: (&Home, &Server), node: &str, server: Server) {
    let drained = run(by.0, by.1, &["node", "drain", node]);
    assert!(drained.status.success(), "{}", stderr(&drained));
    assert!(server.end().0.success());
}

fn chain_is_whole(home: &Home, server: &Server) {
    let verified = run(home, server, &["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
#[ignore = "needs a program with the schema before this one's: cargo xtask upgrade"]
fn a_cluster_is_upgraded_node_by_node_and_back_while_it_works() {
    let earlier: PathBuf = std::env::var_os("FREEHOLD_TEST_EARLIER").expect("run it with `cargo xtask upgrade`").into();
    let mut cluster = Cluster { place: Place::new(), begun: Vec::new() };
    let (mut a_home, mut b_home) = (cluster.place.node("node-a"), cluster.place.node("node-b"));
    let later = PathBuf::from(env!("CARGO_BIN_EXE_freehold"));

    // Both earlier.
    a_home.put_in_place(&earlier);
    b_home.put_in_place(&earlier);
    let (a, b) = (a_home.serve(), b_home.serve());
    assert_eq!(nodes(&a).len(), 2);
    cluster.begin("earlier", [&a, &b]);

    // One is drained and comes back as the later one, which takes the schema its step, under the feet of the other.
    drained((&a_home, &a), "node-b", b);
    b_home.put_in_place(&later);
    let b = b_home.serve();
    cluster.begin("mixed", [&a, &b]);

    // The earlier one is killed, comes back over the later schema, and goes on with what it held.
    a.kill();
    let a = a_home.serve();
    cluster.begin("mixed-again", [&a, &b]);
    chain_is_whole(&a_home, &a);

    // The later one goes back to the earlier program, killed in the middle: nobody liked it.
    b.kill();
    b_home.put_in_place(&earlier);
    let b = b_home.serve();
    cluster.begin("back", [&a, &b]);

    // And then both forward, one after the other.
    drained((&b_home, &b), "node-a", a);
    a_home.put_in_place(&later);
    let a = a_home.serve();
    cluster.begin("forward", [&a, &b]);
    drained((&a_home, &a), "node-b", b);
    b_home.put_in_place(&later);
    let b = b_home.serve();
    cluster.begin("later", [&a, &b]);

    cluster.check([&a, &b]);
    for (home, server) in [(&a_home, &a), (&b_home, &b)] {
        chain_is_whole(home, server);
    }
    println!("{} operations, and each came to one instance", cluster.begun.len());
}
