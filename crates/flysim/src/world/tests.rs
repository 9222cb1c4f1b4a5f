//! The world without a socket: what holds after any calls in any order, and what time does by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::World;
use crate::call::{Call, Endpoint};
use crate::chance::Chance;
use crate::options::Options;

const START: u64 = 1_700_000_000_000;

fn call(method: &str, path: &str, query: &str, body: &str) -> Call {
    let mut call = Call::route(method, &format!("/v1{path}"), query).expect("it exists");
    call.token = Some("flysim".to_owned());
    call.body = body.as_bytes().to_vec();
    call.name_from_body();
    call
}

fn said(world: &mut World, call: &Call) -> u16 {
    world.call(call).map_or(0, |answer| answer.status)
}

/// A call that may make sense: names and ids are taken from a few, and from what there is.
fn any_call(chance: &mut Chance, world: &World) -> Call {
    let pick = |chance: &mut Chance, from: &[String]| {
        let at = chance.draw() as usize % from.len().max(1);
        from.get(at).cloned().unwrap_or_else(|| "none".to_owned())
    };
    let view = world.view();
    // Half of the calls are of the sort that changes what there is.
    let busy = [Endpoint::CreateApp, Endpoint::CreateMachine, Endpoint::CreateVolume, Endpoint::DeleteMachine];
    let busy: Vec<_> = Endpoint::TABLE.iter().filter(|row| busy.contains(&row.0)).collect();
    let (endpoint, _, method, path) = match chance.draw() % 2 {
        0 => *busy[chance.draw() as usize % busy.len()],
        _ => Endpoint::TABLE[chance.draw() as usize % Endpoint::TABLE.len()],
    };
    let app = pick(chance, &["one".to_owned(), "two".to_owned()]);
    let volumes: Vec<String> = view.volumes().map(|(_, volume)| volume.id.clone()).collect();
    let is_volume = path.contains("volumes");
    let ids =
        if is_volume { volumes.clone() } else { view.machines().map(|(_, machine)| machine.id.clone()).collect() };
    let path = path.replace("{app}", &app).replace("{id}", &pick(chance, &ids)).replace("{key}", "k");
    let mount = match chance.draw() % 2 {
        0 => String::new(),
        _ => format!(r#","mounts":[{{"volume":"{}","path":"/data"}}]"#, pick(chance, &volumes)),
    };
    let name = pick(chance, &["m".to_owned(), "n".to_owned()]);
    let body = match endpoint {
        Endpoint::CreateApp => format!(r#"{{"app_name":"{app}"}}"#),
        Endpoint::CreateMachine => format!(r#"{{"name":"{name}","config":{{"image":"a"{mount}}}}}"#),
        Endpoint::UpdateMachine => format!(r#"{{"config":{{"image":"a"{mount}}}}}"#),
        Endpoint::CreateVolume => r#"{"name":"data"}"#.to_owned(),
        _ => String::new(),
    };
    // An app that is deleted too often leaves nothing to look at.
    let force = if chance.draw().is_multiple_of(4) { "force=true" } else { "" };
    call(method, &path, force, &body)
}

fn check(world: &World) {
    let view = world.view();
    for (name, tally) in &view.tallies {
        let machines = view.machines().filter(|(app, _)| app == name).count() as u64;
        let volumes = view.volumes().filter(|(app, _)| app == name).count() as u64;
        assert_eq!((tally.machines_live, tally.volumes_live), (machines, volumes), "{name}");
        assert!(tally.machines_live_max >= machines && tally.volumes_live_max >= volumes, "{name}");
    }
    for (name, app) in &view.apps {
        let live: Vec<_> = app.machines.iter().filter(|machine| machine.state != "destroyed").collect();
        let names: BTreeSet<_> = live.iter().map(|machine| &machine.name).collect();
        assert_eq!(names.len(), live.len(), "two machines of {name} share a name");
        let held: BTreeSet<_> = live.iter().filter_map(|one| Some((one.volume.clone()?, one.id.clone()))).collect();
        let holding: BTreeSet<_> =
            app.volumes.iter().filter_map(|one| Some((one.id.clone(), one.attached_machine_id.clone()?))).collect();
        assert_eq!(held, holding, "volumes and machines of {name} disagree");
    }
}

#[test]
fn the_ledger_and_the_world_agree_after_any_calls() {
    let mut made = 0;
    for seed in 0..20 {
        let mut chance = Chance::of(seed);
        let mut world = World::new(Options::default(), START);
        let mut now = START;
        for _ in 0..400 {
            let call = any_call(&mut chance, &world);
            if chance.draw().is_multiple_of(10) {
                world.call_later(call, Duration::from_millis(chance.draw() % 200));
            } else {
                world.call(&call);
            }
            now += chance.draw() % 20;
            world.settle(now);
            check(&world);
        }
        made += world.view().made.len();
    }
    assert!(made > 20 * 40, "{made} things only: the calls are not worth much");
}

#[test]
fn the_same_calls_give_the_same_ids_whenever_time_passes() {
    let ids = |pause| {
        let mut world = World::new(Options::default(), START);
        let mut now = START;
        said(&mut world, &call("POST", "/apps", "", r#"{"app_name":"one"}"#));
        for name in ["a", "b", "c"] {
            let body = format!(r#"{{"name":"{name}","config":{{"image":"a"}}}}"#);
            assert_eq!(said(&mut world, &call("POST", "/apps/one/machines", "", &body)), 200);
            now += pause;
            world.settle(now);
        }
        world.view().made.into_iter().map(|made| made.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(0), ids(1000));
}

#[test]
fn what_is_due_happens_in_order_however_late_somebody_looks() {
    let mut world = World::new(Options { app_gone: Duration::from_millis(100), ..Options::default() }, START);
    said(&mut world, &call("POST", "/apps", "", r#"{"app_name":"one"}"#));
    let create = |name: &str| {
        call("POST", "/apps/one/machines", "", &format!(r#"{{"name":"{name}","config":{{"image":"a"}}}}"#))
    };
    world.call_later(create("early"), Duration::from_millis(50));
    world.call_later(create("late"), Duration::from_millis(150));
    world.call_later(call("DELETE", "/apps/one", "force=true", ""), Duration::from_millis(60));
    world.settle(START + 10_000);
    let view = world.view();
    assert_eq!((view.late.done, view.late.refused, view.apps.len()), (2, 1, 0));
    assert_eq!((view.tally("one").machines_made, view.tally("one").machines_live), (1, 0));
    assert_eq!(view.made[1].gone_at, Some(START + 80), "destroyed when it was due, not when somebody looked");
}

#[test]
fn a_command_ends_what_an_earlier_one_had_in_store() {
    let mut world = World::new(Options { boot: Duration::from_millis(100), ..Options::default() }, START);
    said(&mut world, &call("POST", "/apps", "", r#"{"app_name":"one"}"#));
    said(&mut world, &call("POST", "/apps/one/machines", "", r#"{"name":"m","config":{"image":"a"}}"#));
    let id = world.view().machines().map(|(_, machine)| machine.id.clone()).next().expect("a machine");
    world.settle(START + 60);
    assert_eq!(said(&mut world, &call("POST", &format!("/apps/one/machines/{id}/stop"), "", "")), 200);
    world.settle(START + 10_000);
    assert_eq!(world.view().machines().next().map(|(_, machine)| machine.state.clone()).as_deref(), Some("stopped"));
}

#[test]
fn time_does_not_run_backwards() {
    let mut world = World::new(Options::default(), START);
    world.settle(START - 1000);
    assert_eq!(world.now(), START);
}
