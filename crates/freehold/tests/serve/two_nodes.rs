//! Two servers over one registry in PostgreSQL, through PgBouncer in transaction mode.

use std::process::Output;
use std::time::{Duration, Instant};

use freehold_flysim::{Endpoint, Fault, FlySim, Options, Rule};
use freehold_postgres_lab::Lab;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Home, Server, json as printed, stderr};

/// How long each call to the provider takes, in milliseconds.
const CALL_MS: u64 = 300;

/// What the nodes share: a registry that nobody has used yet, and a provider.
pub(crate) struct Place {
    url: String,
    _lab: Lab,
    fly: FlySim,
    _runtime: Runtime,
}

impl Place {
    pub(crate) fn new() -> Self {
        let lab = Lab::start().unwrap();
        let database = lab.database().unwrap();
        let url = lab.bouncer(&database).unwrap();
        // A second test of the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let fly = runtime.block_on(FlySim::start(Options::default())).unwrap();
        fly.rule(Rule::always(Endpoint::Any, Fault::Delay { ms: CALL_MS }));
        Self { url, _lab: lab, fly, _runtime: runtime }
    }

    /// Each instance has one machine.
    pub(crate) fn check(&self, operations: &[&Value]) {
        let world = self.fly.world();
        let mut apps: Vec<&str> = world.apps.keys().filter_map(|name| name.strip_prefix("fh-")).collect();
        let mut instances: Vec<String> =
            operations.iter().map(|one| one["instance_id"].as_str().unwrap().replace('-', "")).collect();
        apps.sort_unstable();
        instances.sort_unstable();
        assert_eq!(apps.iter().map(|app| app.replace('-', "")).collect::<Vec<_>>(), instances);
        for (name, app) in &world.apps {
            assert_eq!(app.machines.len(), 1, "{name}");
        }
    }

    /// A node of it, in a folder of its own.
    pub(crate) fn node(&self, name: &str) -> Home {
        self.node_without_fly(name)
            .with("PROVISION__DEFAULT_PROVIDER", "fly")
            .with("PROVIDERS__FLY__KIND", "fly")
            .with("PROVIDERS__FLY__API_URL", &self.fly.api_url())
            .with("PROVIDERS__FLY__TOKEN_ENV", "FLY_TOKEN")
            // What was under way when a node was killed is settled so long afterwards.
            .with("PROVIDERS__FLY__REQUEST_TIMEOUT", "2s")
            .with("PROVIDERS__FLY__SETTLE_HORIZON", "5s")
            .variable("FLY_TOKEN", "flysim")
    }

    /// One that cannot make what the others make.
    fn node_without_fly(&self, name: &str) -> Home {
        Home::new()
            .with("REGISTRY__URL", &self.url)
            .with("INSTALL_ID", "two-nodes")
            .with("NODE_ID", name)
            .with("PROVISION__DEFAULT_PROVIDER", "local")
            .with("PROVIDERS__LOCAL__KIND", "fake")
            .with("TEMPLATES__HELLO__IMAGE", "registry.example/hello:1")
            .with("TIMING__RENEW", "200ms")
            .with("TIMING__LEASE", "30s")
    }
}

pub(crate) fn run(home: &Home, server: &Server, args: &[&str]) -> Output {
    home.command(args).args(["--server", &server.url()]).output().unwrap()
}

pub(crate) fn nodes(server: &Server) -> Vec<Value> {
    let listed = server.get("/v1/nodes");
    assert_eq!(listed.status, 200, "{listed:?}");
    listed.body["nodes"].as_array().unwrap().clone()
}

#[test]
fn a_node_is_drained_into_another_one_while_it_works() {
    let place = Place::new();
    let (a_home, b_home) = (place.node("node-a"), place.node("node-b"));
    let (a, b) = (a_home.serve(), b_home.serve());
    let names: Vec<Value> = nodes(&a).iter().map(|node| node["name"].clone()).collect();
    assert_eq!(names, ["node-a", "node-b"]);

    let operations: Vec<Value> = (0..8).map(|number| a.begin(&format!("user:{number}"))).collect();
    let first = format!("/v1/operations/{}", operations[0]["id"].as_str().unwrap());
    a.until(&first, |seen| seen.body["steps"].as_array().is_some_and(|steps| steps.len() > 1));
    let began = Instant::now();
    let drained = run(&b_home, &b, &["node", "drain", "node-a", "--json"]);
    assert!(drained.status.success(), "{}", stderr(&drained));
    let node = printed(&drained);
    assert_eq!((&node["operations"], &node["roles"]), (&json!(0), &json!(["http", "reconcilers", "proxy"])));
    // Every lease that it had was given back: none had to lapse.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((a.get("/readyz").status, b.get("/readyz").status), (503, 200));

    // What it accepts now, the other one makes; and what was given back.
    let late = a.begin("user:late");
    assert_ne!(late["holder"], "node-a", "{late:#}");
    for operation in operations.iter().chain([&late]) {
        let operation = a.until_over(operation);
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
        let steps = operation["steps"].as_array().unwrap();
        assert!(steps.iter().all(|step| step["last_error"].is_null()), "nothing was in doubt: {operation:#}");
    }
    place.check(&operations.iter().chain([&late]).collect::<Vec<_>>());
    let verified = run(&b_home, &b, &["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));

    // It ends, and comes back as one that works.
    assert!(a.end().0.success());
    assert_eq!(nodes(&b)[0]["roles"], json!([]), "it said that it ends");
    let a = a_home.serve();
    let node = nodes(&b)[0].clone();
    assert_eq!((&node["draining"], &node["roles"][1]), (&json!(false), &json!("executor")));
    assert_eq!(a.get("/readyz").status, 200);
}

#[test]
fn a_process_that_wakes_up_to_find_its_name_taken_stands_aside_until_the_name_is_free() {
    let place = Place::new();
    let (old_home, new_home, other_home) = (place.node("node-a"), place.node("node-a"), place.node("node-b"));
    let old = old_home.serve();
    let other = other_home.serve();
    let working = old.begin("user:before");
    let path = format!("/v1/operations/{}", working["id"].as_str().unwrap());
    old.until(&path, |seen| seen.body["steps"].as_array().is_some_and(|steps| steps.len() > 1));
    old.signal(Signal::STOP);
    // The same node, as far as anybody can tell, in another life.
    let new = new_home.serve();
    let taken = nodes(&other)[0].clone();
    assert_eq!(taken["address"], new.address.as_str());
    old.signal(Signal::CONT);

    old.until("/readyz", |ready| ready.status == 503);
    let ready = old.get("/readyz?verbose").body.to_string();
    assert!(ready.contains("another process has this node's name"), "{ready}");
    assert!(old_home.log().contains("give each a node_id of its own"));
    let seen = nodes(&other);
    assert_eq!(seen.len(), 2, "{seen:#?}");
    assert_eq!(seen[0]["incarnation"], taken["incarnation"], "what it tells is not heard");
    // It serves on, and what it began or accepts is made once, by the others.
    let meanwhile = old.begin("user:meanwhile");
    for operation in [&working, &meanwhile] {
        let operation = other.until_over(operation);
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
    }
    place.check(&[&working, &meanwhile]);

    // The one that has the name ends: then it is free.
    assert!(new.end().0.success());
    old.until("/readyz", |ready| ready.status == 200);
    assert_eq!(nodes(&other)[0]["address"], old.address.as_str());
    assert_eq!(old.until_over(&old.begin("user:after"))["status"], "succeeded");
}

/// Whatever is asked of it, and whosever turn it is.
#[test]
fn a_node_without_a_provider_leaves_it_to_the_one_that_has_it() {
    let place = Place::new();
    let (with_home, without_home) = (place.node("node-a"), place.node_without_fly("node-b"));
    let with = with_home.serve();
    let begun: Vec<Value> = (0..12).map(|number| with.begin(&format!("user:{number}"))).collect();
    let first = format!("/v1/operations/{}", begun[0]["id"].as_str().unwrap());
    with.until(&first, |seen| seen.body["steps"].as_array().is_some_and(|steps| steps.len() > 1));
    // What a node held that is killed is due at once when it is back: in every part of the timers.
    with.kill();
    let without = without_home.serve();
    let with = with_home.serve();
    let providers = |node: &Value| node["providers"].clone();
    let listed = nodes(&with);
    assert_eq!((providers(&listed[0]), providers(&listed[1])), (json!(["fly", "local"]), json!(["local"])));
    for operation in &begun {
        let operation = without.until_over(operation);
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
        assert_eq!(never_there(&operation), None, "{operation:#}");
    }
    place.check(&begun.iter().collect::<Vec<_>>());

    // It accepts what it cannot do itself.
    assert!(without_home.log().contains("leaving operations to the nodes that have their provider"));
    let destroy = |operation: &Value| {
        let path = format!("/v1/instances/{}", operation["instance_id"].as_str().unwrap());
        let accepted = without.ask("DELETE", &path, "prefer: respond-async\r\n", "");
        assert_eq!(accepted.status, 202, "{accepted:?}");
        json!({"id": accepted.body["operation_id"]})
    };
    for destroy in begun.iter().map(destroy).collect::<Vec<_>>() {
        let over = without.until_over(&destroy);
        assert_eq!((&over["status"], never_there(&over)), (&json!("succeeded"), None), "{over:#}");
    }
    assert!(place.fly.world().apps.values().all(|app| app.machines.is_empty()));
}

/// A step of an operation that a node tried without the provider.
fn never_there(operation: &Value) -> Option<&Value> {
    let steps = operation["steps"].as_array().unwrap();
    steps
        .iter()
        .find(|step| step["last_error"].as_str().is_some_and(|error| error.contains("not configured on this node")))
}
