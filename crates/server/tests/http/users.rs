//! End users: what is their own, and that everything else looks like nothing.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::server::{Options, PLATFORM, Server};
use crate::tokens;

const MISSING: &str = "01990000-0000-7000-8000-000000000001";

fn alice() -> String {
    tokens::of("alice", &["acme"])
}

fn ask(server: &Server, method: Method, path: &str) -> Call {
    server.call(method, path).key(&alice()).header("prefer", "wait=10")
}

async fn get(server: &Server, path: &str) -> Answer {
    ask(server, Method::GET, path).send().await
}

fn id(instance: &Value) -> &str {
    instance["id"].as_str().unwrap()
}

/// Everything about an answer that tells one from another. The request's own id is the caller's, and so the same.
fn told(answer: Answer) -> (u16, Vec<(String, String)>, String) {
    let mut headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.retain(|(name, _)| name != "date");
    headers.sort();
    let body = answer.text().to_owned();
    (answer.status, headers, body)
}

/// What somebody else has, and what nobody has.
struct Places {
    instances: Vec<String>,
    operations: Vec<String>,
    owners: Vec<&'static str>,
}

/// Every context that is not alice's, in every state that answers differently to whoever may see it.
async fn others(server: &Server) -> Places {
    let create = |owner: &str, user: &str| {
        let body = json!({"owner": owner, "assigned_user": user});
        server.call(Method::POST, "/v1/instances").key(PLATFORM).json(&body).send()
    };
    let mut made = Vec::new();
    for (owner, user) in [("user:bob", "bob"), ("org:acme", "bob"), ("org:other", "alice"), ("org:alice", "alice")] {
        made.push(create(owner, user).await.with(201).json());
    }
    // One that is gone, whose route and logs say so; one that is down.
    server.delete(&format!("/v1/instances/{}", id(&made[2]))).await.with(200);
    server.post(&format!("/v1/instances/{}/stop", id(&made[3]))).send().await.with(200);
    Places {
        instances: made.iter().map(|one| id(one).to_owned()).collect(),
        operations: made.iter().map(|one| one["operation_id"].as_str().unwrap().to_owned()).collect(),
        owners: vec!["user:bob", "org:other", "org:alice", "org:acme"],
    }
}

/// Requests for a route that are right, wrong in what follows the path, and everything between.
fn variants(operation: &str) -> Vec<(&'static str, Option<Value>)> {
    match operation {
        "updateInstance" => vec![
            ("", Some(json!({"spec": {"env": {"A": "1"}}}))),
            ("", Some(json!({"tier": "no-such"}))),
            ("", Some(json!({"nonsense": 1}))),
            ("", Some(json!(7))),
            ("", None),
        ],
        "destroyInstance" => vec![("", None), ("?reason=x", None), ("?nonsense=1", None)],
        "instanceLogs" => vec![("", None), ("?tail=1&follow=true", None), ("?tail=1000000", None)],
        _ => vec![("", None)],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_answered_like_what_is_not_there_on_every_route() {
    let server = Server::start().await;
    let others = others(&server).await;
    let audit = server.get("/v1/audit?limit=500").await.with(200).json();
    let calls = server.cloud.calls().len();
    let instances: Vec<&str> = others.instances.iter().map(String::as_str).collect();
    let operations: Vec<&str> = others.operations.iter().map(String::as_str).collect();

    let document: Value = server.get("/openapi.json").await.with(200).json();
    let mut swept = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            let method: Method = method.to_uppercase().parse().unwrap();
            let (place, foreign, missing, code) = match name {
                "showInstance" | "updateInstance" | "destroyInstance" | "startInstance" | "stopInstance"
                | "restartInstance" | "instanceLogs" => ("{id}", &instances, MISSING, "instance_not_found"),
                "showRoute" => ("{instance_id}", &instances, MISSING, "instance_not_found"),
                "showOperation" | "operationEvents" => ("{id}", &operations, MISSING, "operation_not_found"),
                "showOwner" => ("{owner}", &others.owners, "user:nobody", "owner_not_found"),
                "adoptInstance" | "anonymizeOwner" | "listReservations" | "showReservation" | "repairReservation"
                | "releaseReservation" | "listAudit" | "events" | "listLeaks" | "resolveLeak" | "metrics"
                | "listNodes" | "drainNode" | "showRestore" | "confirmRestore" => {
                    // Not for users at all, whatever they name.
                    for id in instances.iter().copied().chain([MISSING]) {
                        let path =
                            path.replace("{instance_id}", id).replace("{id}", id).replace("{owner}", "user:nobody");
                        let path = path.replace("{name}", "node-a");
                        ask(&server, method.clone(), &path).send().await.problem(403, "forbidden");
                    }
                    swept.push(name);
                    continue;
                }
                // Below.
                "createInstance" | "listInstances" => {
                    swept.push(name);
                    continue;
                }
                // For whoever has the secret, which is told from a key.
                "takeBillingEvent" => {
                    ask(&server, method.clone(), path).send().await.problem(401, "unauthorized");
                    swept.push(name);
                    continue;
                }
                "healthz" | "livez" | "readyz" | "openapi" | "explainProblem" | "landing" => {
                    assert_eq!(operation["security"], json!([{}]), "{name} is for whoever comes");
                    swept.push(name);
                    continue;
                }
                _ => panic!("{method} {path} ({name}) is not swept: say here how it keeps users apart"),
            };
            assert!(operation["security"][1]["user"].is_array(), "{name}");
            for (query, body) in variants(name) {
                let call = async |named: &str| {
                    let path = path.replace(place, named);
                    assert!(!path.contains('{'), "{path}");
                    let call = ask(&server, method.clone(), &format!("{path}{query}")).header("x-request-id", "r");
                    match &body {
                        Some(body) => call.json(body),
                        None => call,
                    }
                    .send()
                    .await
                };
                let nothing = call(missing).await;
                nothing.clone().problem(404, code);
                let nothing = told(nothing);
                for one in foreign {
                    assert_eq!(told(call(one).await), nothing, "{name}{query} {body:?} of {one}");
                }
            }
            swept.push(name);
        }
    }
    assert_eq!(swept.len(), 35, "{swept:?}");
    assert_eq!(server.get("/v1/audit?limit=500").await.with(200).json(), audit, "nothing was changed");
    assert_eq!(server.cloud.calls().len(), calls, "and nobody was sent to the provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_somebody_elses_instance_is_no_way() {
    let server = Server::start().await;
    let others = others(&server).await;
    for path in ["", "/", "/a/b?c=d"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let call = async |id: &str| {
                let path = format!("/i/{id}{path}");
                let answer = ask(&server, method.clone(), &path).header("x-request-id", "r").send().await;
                let (status, headers, body) = told(answer);
                let headers: Vec<_> =
                    headers.into_iter().map(|(name, value)| (name, value.replace(id, "ID"))).collect();
                (status, headers, body)
            };
            let nothing = call(MISSING).await;
            assert!(nothing.0 == 404 || path.is_empty(), "{nothing:?}");
            for one in &others.instances {
                assert_eq!(call(one).await, nothing, "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_lives_through_everything_with_its_own_instance() {
    let server = Server::start().await;
    let create = ask(&server, Method::POST, "/v1/instances").json(&json!({"owner": "user:alice"}));
    let made = create.send().await.with(201).json();
    let path = format!("/v1/instances/{}", id(&made));
    assert_eq!(get(&server, &path).await.with(200).json()["owner"], "user:alice");
    let operation = format!("/v1/operations/{}", made["operation_id"].as_str().unwrap());
    assert_eq!(get(&server, &operation).await.with(200).json()["status"], "succeeded");
    assert!(get(&server, &format!("{operation}/events")).await.with(200).text().contains("succeeded"));
    assert_eq!(get(&server, "/v1/owners/user:alice").await.with(200).json()["entries"][0]["instance_id"], made["id"]);
    get(&server, &format!("/v1/routes/{}", id(&made))).await.with(200);
    for verb in ["stop", "start", "restart"] {
        ask(&server, Method::POST, &format!("{path}/{verb}")).send().await.with(200);
    }
    ask(&server, Method::PATCH, &path).json(&json!({"spec": {"env": {"A": "1"}}})).send().await.with(200);
    // It is there for whoever has a key, and not for another user.
    server.get(&path).await.with(200);
    server.call(Method::GET, &path).key(&tokens::of("bob", &["acme"])).send().await.problem(404, "instance_not_found");
    ask(&server, Method::DELETE, &path).send().await.with(200);
    get(&server, &format!("/v1/routes/{}", id(&made))).await.problem(410, "gone");
    let trail = server.get(&format!("/v1/audit?instance_id={}&limit=500", id(&made))).await.with(200).json();
    let actors: Vec<&str> =
        trail["events"].as_array().unwrap().iter().map(|it| it["actor"].as_str().unwrap()).collect();
    assert!(actors.contains(&"user") && !actors.contains(&"platform"), "{actors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_creates_in_its_own_contexts_only() {
    let server = Server::start().await;
    let before = server.get("/v1/audit?limit=500").await.with(200).json();
    others(&server).await;
    let create =
        |body: Value| ask(&server, Method::POST, "/v1/instances").header("x-request-id", "r").json(&body).send();
    let mut seen = Vec::new();
    for (owner, user) in [
        ("user:bob", "bob"),
        ("user:nobody", "nobody"),
        ("org:acme", "bob"),
        ("org:acme", "nobody"),
        ("org:other", "alice"),
        ("org:nobody", "alice"),
    ] {
        let answer = create(json!({"owner": owner, "assigned_user": user})).await;
        answer.clone().problem(403, "forbidden");
        seen.push(told(answer));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "whether there is one cannot be told: {seen:#?}");
    assert_eq!(before["events"], json!([]));
    create(json!({"owner": "org:acme"})).await.problem(400, "invalid_request");
    let made = create(json!({"owner": "org:acme", "assigned_user": "alice"})).await.with(201).json();
    assert_eq!(made["assigned_user"], "alice");
    create(json!({"owner": "org:acme", "assigned_user": "alice"})).await.problem(409, "instance_already_active");
    let shown = get(&server, "/v1/owners/org:acme").await.with(200).json();
    assert_eq!(shown["entries"].as_array().unwrap().len(), 1, "the others of the organisation stay out: {shown:#}");
    assert_eq!(shown["reservations"].as_array().unwrap().len(), 1);
    assert_eq!(shown["entries"][0]["instance_id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_lists_its_own_in_pages_that_are_full() {
    let server = Server::start().await;
    let token = tokens::of("alice", &["a", "b", "c", "empty"]);
    let list = async |query: &str| {
        let path = format!("/v1/instances?{query}");
        server.call(Method::GET, &path).key(&token).send().await.with(200).json()
    };
    let ids = |page: &Value| -> Vec<String> {
        page["instances"].as_array().unwrap().iter().map(|it| id(it).to_owned()).collect()
    };
    let mut own = Vec::new();
    for owner in ["org:a", "user:alice", "org:c", "org:b"] {
        for user in ["bob", "alice", "carol"] {
            if owner.starts_with("user:") && user != "alice" {
                server.made(&format!("user:{user}")).await;
                continue;
            }
            let body = json!({"owner": owner, "assigned_user": user});
            let made =
                server.call(Method::POST, "/v1/instances").key(PLATFORM).json(&body).send().await.with(201).json();
            if user == "alice" {
                own.push(id(&made).to_owned());
            }
        }
    }
    assert_eq!(ids(&list("").await), own, "in the order of admission");
    for limit in 1..=5 {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = list(&format!("limit={limit}{cursor}")).await;
            let got = ids(&page);
            pages += 1;
            seen.extend(got.clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(got.len(), limit, "a page that is not the last is full");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, own, "{limit} at a time");
        assert!(pages <= own.len() / limit + 1);
    }
    for (query, count) in [
        ("owner=org:a", 1),
        ("owner=org:a&assigned_user=alice", 1),
        ("assigned_user=alice", 4),
        ("owner=org:empty", 0),
        ("owner=org:other", 0),
        ("owner=user:bob", 0),
        ("assigned_user=bob", 0),
        ("owner=org:a&assigned_user=bob", 0),
        ("status=destroyed", 0),
    ] {
        let page = list(query).await;
        assert_eq!(ids(&page).len(), count, "{query}");
        if count == 0 {
            assert_eq!(page, list("owner=user:nobody").await, "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_user_is_not_the_same_key_of_the_backend() {
    let server = Server::start().await;
    let create = |key: &str| {
        let call = server.call(Method::POST, "/v1/instances").key(key).header("idempotency-key", "k");
        call.json(&json!({"owner": "user:alice"})).send()
    };
    let made = create(PLATFORM).await.with(201);
    assert_eq!(create(PLATFORM).await.with(201).header("idempotency-replayed"), "true");
    let problem = create(&alice()).await.problem(409, "instance_already_active");
    assert_eq!(problem["instance_id"], made.json()["id"]);
    // Whichever token it comes with, it is the user's.
    ask(&server, Method::DELETE, &format!("/v1/instances/{}", id(&made.json()))).send().await.with(200);
    create(&alice()).await.with(201);
    let again = create(&tokens::of("alice", &[])).await.with(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_a_rate_each() {
    let settings =
        freehold_server::Settings { requests_per_second_per_caller: 3, ..freehold_server::Settings::default() };
    let server = Server::with(Options { settings, ..Options::default() }).await;
    let list = |token: &str| server.call(Method::GET, "/v1/instances").key(token).send();
    let mut refused = 0;
    for orgs in [&[][..], &["a"], &["b"], &["c"], &["d"], &["e"]] {
        refused += u32::from(list(&tokens::of("alice", orgs)).await.status == 429);
    }
    assert!(refused >= 2, "other tokens of the same user are no other user");
    list(&tokens::of("bob", &[])).await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refused_once_it_expired_and_where_none_are_taken() {
    let server = Server::start().await;
    let list = |server: &Server, token: &str| server.call(Method::GET, "/v1/instances").key(token).send();
    let problem = list(&server, &tokens::expired("alice")).await.problem(401, "unauthorized");
    assert_eq!(problem["detail"], "this token is not accepted: it has expired");
    let without = Server::with(Options { users: false, ..Options::default() }).await;
    let problem = list(&without, &alice()).await.problem(401, "unauthorized");
    assert_eq!(problem["detail"], "this server takes no end-user tokens; send an API key");
}
