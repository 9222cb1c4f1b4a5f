//! A fleet of an older system is adopted by the program, and lives and ends like what was made here.

use std::process::Output;
use std::time::Duration;

use freehold_api::v1::adoptions::Adopt;
use freehold_api::v1::instances::{Instance, InstanceStatus};
use freehold_flysim::{Endpoint, Fault, Options, Rule};
use serde_json::Value;

use crate::town::Town;

const PATIENCE: Duration = Duration::from_secs(30);

/// Some apps with a started machine each, and a file that names all of them.
fn fleet(town: &Town, apps: &[&str]) -> String {
    let mut text = "app,tier,owner\n".to_owned();
    for app in apps {
        town.fly.plant_app("personal", app).unwrap();
        town.fly.plant_machine(app, "web", &[("customer", app)]).unwrap();
        text.push_str(&format!("\"{app}\",small,user:{app}\n"));
    }
    text
}

/// Runs `freehold adopt` over a file, beside the server.
async fn adopt(town: &Town, text: &str, flags: &[&str]) -> Output {
    let file = town.home.path().join("fleet.csv");
    std::fs::write(&file, text).unwrap();
    let server = town.client.base().to_string();
    let mut args = vec!["adopt", "--server", &server, "--provider", "fly", "--from", file.to_str().unwrap()];
    args.extend(flags);
    let mut command = town.home.command(&args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn items(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["items"].as_array().unwrap().clone()
}

fn body(app: &str) -> Adopt {
    Adopt { owner: format!("user:{app}"), provider: "fly".into(), base: app.into(), ..Adopt::default() }
}

async fn destroyed(town: &Town, instance: &Instance) {
    town.client.destroy(instance.id, None).await.unwrap();
    for _ in 0..300 {
        if town.client.instance(instance.id).await.unwrap().status == InstanceStatus::Destroyed {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is never gone: {}", town.home.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_adopted_as_it_runs_and_leaves_nothing_when_it_is_destroyed() {
    let town = Town::found(Options::default()).await;
    let text = fleet(&town, &["acme", "initech"]) + "empty,small,user:empty\n";
    town.fly.plant_app("personal", "empty").unwrap();
    let before = town.fly.world().apps;

    let broken = adopt(&town, "owner,app\nuser:a\n", &["--yes"]).await;
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    let planned = adopt(&town, &text, &["--dry-run", "--json"]).await;
    assert_eq!(planned.status.code(), Some(3), "{planned:?}");
    assert_eq!(items(&planned)[2]["problem"]["code"], "provider_resources_present");
    assert_eq!(items(&planned)[2]["line"], 4);
    assert_eq!(town.fly.world().apps, before, "so far it was only looked at");

    for _ in 0..2 {
        let done = adopt(&town, &text, &["--yes", "--json"]).await;
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        assert!(items(&done)[..2].iter().all(|item| item["adoption"]["instance"]["routable"] == true), "{done:?}");
    }
    let adopted = town.client.instances(&Default::default()).await.unwrap().instances;
    assert_eq!(adopted.len(), 2);
    let world = town.fly.world();
    assert_eq!((world.calls(Endpoint::CreateApp), world.calls(Endpoint::CreateMachine)), (0, 0));
    assert_eq!(world.calls(Endpoint::PutMetadata), 2, "each is tagged once");
    for (app, machine) in world.machines() {
        let was = &before[app].machines[0];
        assert_eq!((&machine.id, &machine.instance_id, &machine.state), (&was.id, &was.instance_id, &was.state));
    }

    let [acme, initech] = adopted.as_slice() else { panic!("there are two") };
    assert!(town.client.route(acme.id).await.is_ok());
    assert_eq!(town.client.stop(acme.id).await.unwrap().instance.status, InstanceStatus::Stopped);
    assert!(town.client.start(acme.id).await.unwrap().changed);
    for instance in [acme, initech] {
        destroyed(&town, instance).await;
    }
    town.until(PATIENCE, |town| {
        let left: Vec<String> = town.fly.world().apps.into_keys().collect();
        if left == ["empty"] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_was_cut_short_goes_on_when_it_is_asked_for_again() {
    let town = Town::found(Options::default()).await;
    fleet(&town, &["acme"]);
    town.fly.rule(Rule::once(Endpoint::PutMetadata, Fault::Cut { effect: true }));
    let cut = town.client.adopt(&body("acme")).await.unwrap_err().to_string();
    assert!(cut.contains("provider_unavailable"), "{cut}");
    let recorded = town.client.instances(&Default::default()).await.unwrap().instances;
    assert_eq!(recorded.len(), 1);
    assert!(!recorded[0].routable && recorded[0].status == InstanceStatus::Quarantined);
    let (first, second) =
        tokio::join!(async { town.client.adopt(&body("acme")).await.unwrap().instance.unwrap() }, async {
            town.client.adopt(&body("acme")).await.unwrap().instance.unwrap()
        },);
    assert_eq!((first.id, second.id), (recorded[0].id, recorded[0].id));
    assert!(town.client.instance(first.id).await.unwrap().routable);
    let again = town.client.adopt(&body("acme")).await.unwrap();
    assert!(again.already && again.found.is_none());
    let other = town.client.adopt(&Adopt { owner: "user:other".into(), ..body("acme") }).await.unwrap_err().to_string();
    assert!(other.contains("adopted already"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_or_tagged_by_somebody_is_refused_and_left_alone() {
    let town = Town::found(Options::default()).await;
    fleet(&town, &["acme", "second"]);
    town.client.adopt(&body("acme")).await.unwrap();
    let before = town.fly.world().apps;
    let taken = Adopt { owner: "user:acme".into(), ..body("second") };
    let tagged = body("tagged");
    town.fly.plant_app("personal", "tagged").unwrap();
    let theirs =
        [("freehold_install", "other"), ("freehold_instance", "i"), ("freehold_owner", "o"), ("freehold_mac", "m")];
    town.fly.plant_machine("tagged", "web", &theirs).unwrap();
    let offered = Adopt { tier: Some("gigantic".into()), ..body("second") };
    let elsewhere = Adopt { provider: "mars".into(), ..body("second") };
    for (body, code) in [
        (taken, "instance_already_active"),
        (tagged, "the installation other"),
        (offered, "tier_not_offered"),
        (elsewhere, "provider_unknown"),
        (body("nowhere"), "there is no app"),
    ] {
        let refused = town.client.adopt(&body).await.unwrap_err().to_string();
        assert!(refused.contains(code), "{code}: {refused}");
    }
    let after = town.fly.world().apps;
    assert_eq!((&after["acme"], &after["second"]), (&before["acme"], &before["second"]));
    assert_eq!(town.fly.world().calls(Endpoint::PutMetadata), 1);
}
