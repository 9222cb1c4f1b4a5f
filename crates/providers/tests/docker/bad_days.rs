//! What goes wrong at a real engine, and what is left of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_domain::resource::{Custody, Outcome, Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_engine::ports::{Blueprint, LogQuery, Order, Provider};
use freehold_providers::docker::{DockerHost, DockerOptions};
use serde_json::{Value, json};

use super::world::{IMAGE, Kind, World, blueprint, by_hand, done, eventually, options, raw};

fn class<T: std::fmt::Debug>(outcome: Outcome<T>) -> RejectionClass {
    match outcome {
        Outcome::Rejected(Rejection { class, .. }) => class,
        other => panic!("not refused: {other:?}"),
    }
}

fn running(command: &[&str]) -> Blueprint {
    Blueprint { command: command.iter().map(|&word| word.to_owned()).collect(), ..blueprint() }
}

/// A registry that answers, and has nothing.
fn empty_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap_or(0);
            let is_ping = asked[..length].starts_with(b"GET /v2/ ");
            let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            let (status, body) = if is_ping { ("200 OK", "{}") } else { ("404 Not Found", unknown) };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    address
}

async fn an_image_nobody_has(kind: Kind, image: String) -> Outcome<freehold_engine::ports::Made> {
    let world = World::at(kind.host());
    done(world.ensure(ResourceKind::Base, &blueprint()).await);
    let outcome = world.ensure(ResourceKind::Runtime, &Blueprint { image: Some(image), ..blueprint() }).await;
    let seen = world.provider.observe(&world.ident).await.unwrap();
    assert_eq!(seen.runtime, RuntimeState::Missing);
    world.remove().await;
    outcome
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn an_image_that_its_registry_does_not_know_is_refused() {
    let outcome = an_image_nobody_has(Kind::Docker, format!("{}/nosuch:1", empty_registry())).await;
    assert_eq!(class(outcome), RejectionClass::Invalid);
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_registry_that_cannot_be_reached_is_no_refusal() {
    for kind in [Kind::Docker, Kind::Podman] {
        let outcome = an_image_nobody_has(kind, "127.0.0.1:1/nosuch:1".to_owned()).await;
        // The volume was asked for before.
        assert!(matches!(outcome, Outcome::NotSent(_) | Outcome::Unknown(_)), "{kind:?}: {outcome:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn an_image_that_is_no_reference_is_refused() {
    for kind in [Kind::Docker, Kind::Podman] {
        assert_eq!(class(an_image_nobody_has(kind, "UPPER:1".to_owned()).await), RejectionClass::Invalid, "{kind:?}");
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_was_not_sent_anything() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(DockerHost::Unix(folder.path().join("no.sock")));
    for kind in ResourceKind::ALL {
        assert!(matches!(world.ensure(kind, &blueprint()).await, Outcome::NotSent(_)), "{kind}");
        let removed = world.provider.destroy(&world.ident, &world.resource(kind)).await;
        assert!(matches!(removed, Outcome::NotSent(_)), "{removed:?}");
    }
    assert!(matches!(world.provider.seal(&world.ident).await, Outcome::NotSent(_)));
    assert!(world.provider.observe(&world.ident).await.is_err());
    assert!(world.provider.list_owned("test", None).await.is_err());
}

#[tokio::test]
async fn an_engine_that_says_nothing_may_have_done_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mute.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // It says which version it speaks, and then takes every call and answers none.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).unwrap_or(0);
            if asked[..length].starts_with(b"GET /_ping ") {
                let pong = b"HTTP/1.1 200 OK\r\napi-version: 1.41\r\nconnection: close\r\ncontent-length: 2\r\n\r\nOK";
                stream.write_all(pong).ok();
            } else {
                kept.push(stream);
            }
        }
    });
    let patience = Duration::from_millis(300);
    let world = World::with(DockerOptions { request_timeout: patience, ..options(DockerHost::Unix(socket)) });
    let began = Instant::now();
    let made = world.ensure(ResourceKind::Base, &blueprint()).await;
    assert!(matches!(made, Outcome::Unknown(_)), "{made:?}");
    // A look that was not answered changed nothing.
    let made = world.ensure(ResourceKind::Runtime, &blueprint()).await;
    assert!(matches!(made, Outcome::NotSent(_)), "{made:?}");
    assert!(world.provider.observe(&world.ident).await.is_err());
    assert!(began.elapsed() < 20 * patience, "each call answers within its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn of_twenty_who_create_at_once_all_get_the_same_container() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = Arc::new(World::at(kind.host()));
        done(world.ensure(ResourceKind::Base, &blueprint()).await);
        let racers: Vec<_> = (0..20)
            .map(|_| {
                let world = world.clone();
                tokio::spawn(async move { world.ensure(ResourceKind::Runtime, &blueprint()).await })
            })
            .collect();
        let mut handles = std::collections::BTreeSet::new();
        for racer in racers {
            handles.insert(done(racer.await.unwrap()).resource.handle);
        }
        assert_eq!(handles.len(), 1, "{kind:?}: {handles:?}");
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_strangers_container_with_our_name_is_left_alone() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        done(world.ensure(ResourceKind::Base, &blueprint()).await);
        let name = &world.ident.name;
        by_hand(&kind.host(), "POST", &format!("/containers/create?name={name}"), &json!({ "Image": IMAGE }));
        assert_eq!(class(world.ensure(ResourceKind::Runtime, &blueprint()).await), RejectionClass::ConflictForeign);
        assert_eq!(class(world.provider.seal(&world.ident).await), RejectionClass::ConflictForeign);
        let runtime = world.resource(ResourceKind::Runtime);
        assert_eq!(class(world.provider.destroy(&world.ident, &runtime).await), RejectionClass::ConflictForeign);
        let order = Order { ident: &world.ident, blueprint: &blueprint(), resources: &[] };
        assert_eq!(class(world.provider.stop(&order).await), RejectionClass::ConflictForeign);
        assert_eq!(class(world.provider.update(&order, true).await), RejectionClass::ConflictForeign);
        let seen = world.provider.observe(&world.ident).await.unwrap();
        assert!(
            seen.found.iter().any(|found| found.resource.same_thing(&runtime) && found.custody == Custody::Foreign)
        );
        by_hand(&kind.host(), "DELETE", &format!("/containers/{name}"), &Value::Null);
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_container_that_was_removed_by_hand_is_made_again() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        world.ensure_all(&blueprint()).await;
        by_hand(&kind.host(), "DELETE", &format!("/containers/{}?force=1", world.ident.name), &Value::Null);
        world.until(RuntimeState::Missing).await;
        let order = Order { ident: &world.ident, blueprint: &blueprint(), resources: &[] };
        done(world.provider.start(&order).await);
        world.until(RuntimeState::Running).await;
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_container_whose_volume_was_removed_by_hand_is_not_made_again_without_it() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        world.ensure_all(&blueprint()).await;
        let (name, volume) = (&world.ident.name, world.resource(ResourceKind::Storage));
        by_hand(&kind.host(), "DELETE", &format!("/containers/{name}?force=1"), &Value::Null);
        by_hand(&kind.host(), "DELETE", &format!("/volumes/{}", volume.id), &Value::Null);
        let order = Order { ident: &world.ident, blueprint: &blueprint(), resources: &[volume] };
        assert_eq!(class(world.provider.start(&order).await), RejectionClass::Invalid);
        assert_eq!(class(world.provider.update(&order, true).await), RejectionClass::Invalid);
        let seen = world.provider.observe(&world.ident).await.unwrap();
        assert!(!seen.found.iter().any(|found| found.resource.kind == ResourceKind::Storage), "{seen:?}");
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_container_that_was_renamed_by_hand_gets_its_name_back() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        let made = world.ensure_all(&blueprint()).await;
        let name = &world.ident.name;
        by_hand(&kind.host(), "POST", &format!("/containers/{name}/rename?name={name}-copy"), &Value::Null);
        let seen = world.provider.observe(&world.ident).await.unwrap();
        assert!(seen.found.iter().any(|found| found.resource.id.ends_with("-copy")), "{kind:?}: {seen:?}");
        let order = Order { ident: &world.ident, blueprint: &blueprint(), resources: &[] };
        assert_eq!(done(world.provider.start(&order).await).resource, made.resource);
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_program_that_ignores_its_end_is_ended() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        let deaf = running(&["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
        world.ensure_all(&deaf).await;
        world.until(RuntimeState::Running).await;
        let order = Order { ident: &world.ident, blueprint: &deaf, resources: &[] };
        let stopped = done(world.provider.stop(&order).await);
        assert_eq!(stopped.runtime, Some(RuntimeState::Stopped), "{kind:?}");
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn how_a_program_ended_is_told() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        world.ensure_all(&running(&["sh", "-c", "exit 3"])).await;
        world.until(RuntimeState::Exited("exit status 3".to_owned())).await;
        // It was down already when it was asked to stop: from then on that is wanted.
        let order = Order { ident: &world.ident, blueprint: &blueprint(), resources: &[] };
        assert_eq!(done(world.provider.stop(&order).await).runtime, Some(RuntimeState::Stopped), "{kind:?}");
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_command_that_does_not_exist_never_runs() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::with(DockerOptions { init: false, ..options(kind.host()) });
        done(world.ensure(ResourceKind::Base, &blueprint()).await);
        assert_eq!(
            class(world.ensure(ResourceKind::Runtime, &running(&["nosuch"])).await),
            RejectionClass::Invalid,
            "{kind:?}"
        );
        assert_eq!(world.provider.observe(&world.ident).await.unwrap().runtime, RuntimeState::Missing);
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn an_update_keeps_the_volume_and_refuses_what_cannot_run() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        let writes = running(&["sh", "-c", "echo kept > /data/file; exec sleep 3600"]);
        let first = world.ensure_all(&writes).await;
        world.until(RuntimeState::Running).await;
        let nowhere = Blueprint { image: Some("127.0.0.1:1/nosuch:1".to_owned()), ..blueprint() };
        let order = Order { ident: &world.ident, blueprint: &nowhere, resources: &[] };
        assert!(!matches!(world.provider.update(&order, true).await, Outcome::Done(_)));
        world.until(RuntimeState::Running).await;
        let reads = running(&["sh", "-c", "cat /data/file; exec sleep 3600"]);
        let order = Order { ident: &world.ident, blueprint: &reads, resources: &[] };
        let second = done(world.provider.update(&order, true).await);
        assert!(second.resource.same_thing(&first.resource));
        assert_ne!(second.resource.handle, first.resource.handle);
        eventually("the new program to have read what the old one wrote", async || {
            let query = LogQuery { tail: 1, follow: false };
            let mut reader = world.provider.logs(&world.ident, query).await.unwrap();
            reader.next().await.is_some_and(|lines| lines == b"kept\n")
        })
        .await;
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn what_a_program_wrote_can_be_read_and_followed() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        world.ensure_all(&running(&["sh", "-c", "for n in 1 2 3; do echo line $n; done; exit 0"])).await;
        world.until(RuntimeState::Exited("exit status 0".to_owned())).await;
        for follow in [false, true] {
            let query = LogQuery { tail: 2, follow };
            let mut reader = world.provider.logs(&world.ident, query).await.unwrap();
            let mut read = Vec::new();
            while let Some(lines) = reader.next().await {
                read.extend(lines);
            }
            assert_eq!(String::from_utf8_lossy(&read), "line 2\nline 3\n", "{kind:?}");
        }
        world.remove().await;
        assert!(world.provider.logs(&world.ident, LogQuery { tail: 1, follow: false }).await.is_err());
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn seals_are_kept_up_while_they_are_needed_and_then_forgotten() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        world.ensure_all(&blueprint()).await;
        world.remove().await;
        assert_eq!(world.provider.forget_seals().await, Ok(0));
        assert_eq!(class(world.ensure(ResourceKind::Base, &blueprint()).await), RejectionClass::Invalid);
        let name = &world.ident.name;
        let hasty =
            DockerOptions { settle_horizon: Duration::ZERO, seal_kept_min: Duration::ZERO, ..options(kind.host()) };
        let idents = world.idents.clone();
        let forgetful = freehold_providers::docker::DockerProvider::open(hasty, idents).unwrap();
        eventually("the seal to be forgotten", async || {
            forgetful.forget_seals().await.unwrap();
            [format!("/containers/{name}/json"), format!("/volumes/{name}"), format!("/volumes/{name}-data")]
                .iter()
                .all(|path| raw(&kind.host(), "GET", path, "text/plain", b"").0 == 404)
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn what_a_killed_engine_leaves_of_a_volume_is_in_nobodys_way() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        let name = &world.ident.name;
        by_hand(&kind.host(), "POST", "/volumes/create", &json!({ "Name": name }));
        by_hand(&kind.host(), "POST", "/volumes/create", &json!({ "Name": format!("{name}-data") }));
        world.ensure_all(&blueprint()).await;
        world.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn a_strangers_volume_without_labels_is_kept_for_what_is_in_it() {
    for kind in [Kind::Docker, Kind::Podman] {
        let world = World::at(kind.host());
        done(world.ensure(ResourceKind::Base, &blueprint()).await);
        let storage = format!("{}-data", world.ident.name);
        let writes = json!({
            "Image": IMAGE,
            "Cmd": ["sh", "-c", "echo precious > /x/file"],
            "HostConfig": { "Mounts": [{ "Type": "volume", "Source": storage, "Target": "/x" }] },
        });
        let stranger = format!("stranger-{storage}");
        by_hand(&kind.host(), "POST", &format!("/containers/create?name={stranger}"), &writes);
        by_hand(&kind.host(), "POST", &format!("/containers/{stranger}/start"), &Value::Null);
        by_hand(&kind.host(), "POST", &format!("/containers/{stranger}/wait"), &Value::Null);
        by_hand(&kind.host(), "DELETE", &format!("/containers/{stranger}"), &Value::Null);
        assert_eq!(class(world.ensure(ResourceKind::Storage, &blueprint()).await), RejectionClass::ConflictForeign);
        assert_eq!(class(world.provider.seal(&world.ident).await), RejectionClass::ConflictForeign);
        by_hand(&kind.host(), "DELETE", &format!("/volumes/{storage}"), &Value::Null);
        world.remove().await;
    }
}
