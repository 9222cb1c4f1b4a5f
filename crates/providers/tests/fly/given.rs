//! Apps that were made elsewhere: looked over, tagged, run, and removed; and never touched where they are not ours.

use freehold_domain::resource::{Custody, Observation, Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{Ident, Order, Provider, Survey, Unfit};
use freehold_flysim::{Endpoint, Fault, Rule};
use serde_json::{Value, json};

use crate::lab::{Lab, blueprint, ident, idents, instant, slow};

const APP: &str = "acme-prod";

impl Lab {
    /// Says something to the API as somebody else would.
    async fn say(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.fly.api_url());
        let answer =
            reqwest::Client::new().post(url).bearer_auth("flysim").json(body).send().await.expect("it answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("it is JSON")
    }

    /// An app as an older system makes them.
    async fn elsewhere(&self) -> (String, String) {
        self.say("/apps", &json!({"app_name": APP, "org_slug": "personal"})).await;
        let volumes = format!("/apps/{APP}/volumes");
        let volume = self.say(&volumes, &json!({"name": "data", "region": "fra", "size_gb": 3})).await["id"].clone();
        let config = json!({
            "image": "registry.example/acme:7", "env": {"MODE": "prod"}, "init": {"exec": ["acme", "serve"]},
            "guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 512}, "metadata": {"customer": "acme"},
            "mounts": [{"volume": volume, "path": "/var/acme"}], "services": [{"internal_port": 3000, "protocol": "tcp"}],
        });
        let machines = format!("/apps/{APP}/machines");
        let machine = self.say(&machines, &json!({"name": "web", "region": "fra", "config": config})).await;
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        (text(&machine["id"]), text(&volume))
    }

    fn given(&self) -> Ident {
        Ident { given: Some(APP.to_owned()), ..self.ident.clone() }
    }

    async fn surveyed(&self) -> Survey {
        self.provider.survey(APP).await.expect("it can be taken over")
    }

    async fn tagged(&self) -> (Ident, Vec<Resource>) {
        self.elsewhere().await;
        let (ident, resources) = (self.given(), self.surveyed().await.resources);
        assert_eq!(self.provider.tag(&ident, &resources).await, Outcome::Done(()));
        (ident, resources)
    }

    async fn seen(&self, ident: &Ident) -> Observation {
        self.provider.observe(ident).await.expect("it answers")
    }
}

fn foreign(outcome: &Outcome<()>) -> bool {
    matches!(outcome, Outcome::Rejected(rejection) if rejection.class == RejectionClass::ConflictForeign)
}

fn all(seen: &Observation, custody: Custody) -> bool {
    seen.found.iter().all(|found| found.custody == custody)
}

#[tokio::test]
async fn a_survey_says_what_is_there_and_changes_nothing() {
    let lab = Lab::open(instant()).await;
    let (machine, volume) = lab.elsewhere().await;
    let before = lab.fly.world().apps;
    let survey = lab.surveyed().await;
    let ids: Vec<&str> = survey.resources.iter().map(|resource| resource.id.as_str()).collect();
    assert_eq!(ids, [APP, &volume, &machine]);
    assert_eq!((survey.runtime, survey.region.as_deref()), (RuntimeState::Running, Some("fra")));
    assert_eq!(survey.image.as_deref(), Some("registry.example/acme:7"));
    assert_eq!((survey.command, survey.env["MODE"].as_str()), (vec!["acme".to_owned(), "serve".to_owned()], "prod"));
    assert_eq!((survey.memory_mb, survey.cpu_millis, survey.volume_gb), (512, 2_000, 3));
    assert_eq!(survey.tags, None);
    assert_eq!(lab.fly.world().apps, before);
}

#[tokio::test]
async fn what_cannot_be_taken_over_says_why() {
    let lab = Lab::open(instant()).await;
    let why = async |app: &str| match lab.provider.survey(app).await {
        Err(unfit @ (Unfit::Missing(_) | Unfit::Refused(_))) => unfit.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(why("nowhere").await.contains("there is no app nowhere"));
    assert!(why("../apps").await.contains("no name"));
    lab.fly.plant_app("others", "theirs").expect("it is planted");
    assert!(why("theirs").await.contains("not of the organisation personal"));
    lab.fly.plant_app("personal", "empty").expect("it is planted");
    assert!(why("empty").await.contains("no machine"));
    lab.fly.plant_machine("empty", "one", &[]).expect("it is planted");
    lab.fly.plant_volume("empty", "loose").expect("it is planted");
    assert!(why("empty").await.contains("not on its machine"));
    lab.fly.plant_machine("empty", "two", &[]).expect("it is planted");
    assert!(why("empty").await.contains("2 machines"));
    lab.fly.plant_app("personal", &lab.ident.name).expect("it is planted");
    assert!(why(&lab.ident.name).await.contains("made here"));
}

#[tokio::test]
async fn tagging_leaves_the_machine_as_it_is_and_can_be_repeated() {
    let lab = Lab::open(instant()).await;
    lab.elsewhere().await;
    let (ident, resources) = (lab.given(), lab.surveyed().await.resources);
    let seen = lab.seen(&ident).await;
    assert!(seen.found.len() == 3 && all(&seen, Custody::Foreign), "without tags it is somebody else's: {seen:?}");
    let before = lab.fly.world().machines().next().expect("it is there").1.clone();
    lab.fly.rule(Rule::once(Endpoint::PutMetadata, Fault::refusal(412, "machine version mismatch", "")));
    assert!(matches!(lab.provider.tag(&ident, &resources).await, Outcome::NotSent(_)), "it is looked at again");
    lab.fly.rule(Rule::once(Endpoint::PutMetadata, Fault::status(500, true)));
    assert!(matches!(lab.provider.tag(&ident, &resources).await, Outcome::Unknown(_)));
    for _ in 0..2 {
        assert_eq!(lab.provider.tag(&ident, &resources).await, Outcome::Done(()));
    }
    let after = lab.fly.world().machines().next().expect("it is there").1.clone();
    assert_eq!((after.instance_id, after.state), (before.instance_id, before.state), "it was not started anew");
    assert_eq!((after.metadata.len(), after.metadata["customer"].as_str()), (5, "acme"));
    let seen = lab.seen(&ident).await;
    assert!(all(&seen, Custody::Ours) && seen.found.len() == 3, "{seen:?}");
    assert_eq!(seen.runtime, RuntimeState::Running);
    let survey = lab.surveyed().await;
    assert!(idents(1).verify(&survey.tags.expect("it has some"), ident.instance));
    let endpoint = lab.provider.endpoint(&survey.resources).expect("it answers somewhere");
    assert!(endpoint.0.ends_with(":3000"), "at its own port: {endpoint:?}");
}

#[tokio::test]
async fn an_adopted_machine_is_stopped_started_and_updated_in_place() {
    let lab = Lab::open(instant()).await;
    let (ident, resources) = lab.tagged().await;
    let changed = freehold_engine::ports::Blueprint { region: None, ..blueprint() };
    let order = Order { ident: &ident, blueprint: &changed, resources: &resources };
    for outcome in [
        lab.provider.stop(&order).await,
        lab.provider.start(&order).await,
        lab.provider.restart(&order).await,
        lab.provider.update(&order, true).await,
    ] {
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }
    let world = lab.fly.world();
    let (app, machine) = world.machines().next().expect("it is there");
    assert_eq!((app, machine.image.as_str()), (APP, "registry.example/hello:1"));
    assert!(machine.volume.is_some() && machine.metadata.contains_key("customer"), "{machine:?}");
    assert!(all(&lab.seen(&ident).await, Custody::Ours));
    assert_eq!((world.calls(Endpoint::CreateMachine), world.calls(Endpoint::CreateApp)), (1, 1), "those of the test");
}

#[tokio::test]
async fn nothing_is_made_in_an_app_that_was_made_elsewhere() {
    let lab = Lab::open(instant()).await;
    let (ident, resources) = lab.tagged().await;
    assert!(lab.fly.vanish(&resources[2].id));
    let order = Order { ident: &ident, blueprint: &blueprint(), resources: &resources };
    for outcome in [
        lab.provider.ensure_base(&order).await,
        lab.provider.ensure_storage(&order).await,
        lab.provider.ensure_runtime(&order).await,
        lab.provider.start(&order).await,
        lab.provider.restart(&order).await,
    ] {
        assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }
    assert_eq!(lab.fly.world().machines().count(), 0);
}

#[tokio::test]
async fn a_destroy_leaves_nothing_wherever_it_was_interrupted() {
    for gone in [vec![], vec![2], vec![2, 1]] {
        let lab = Lab::open(slow()).await;
        let (ident, resources) = lab.tagged().await;
        for position in gone {
            assert!(lab.fly.vanish(&resources[position].id));
        }
        assert_eq!(lab.provider.seal(&ident).await, Outcome::Done(()));
        for resource in resources.iter().rev() {
            assert_eq!(lab.provider.destroy(&ident, resource).await, Outcome::Done(()), "{resource:?}");
        }
        assert!(lab.fly.world().apps.is_empty());
        assert!(lab.seen(&ident).await.proves_absence());
    }
}

#[tokio::test]
async fn an_app_of_the_same_name_without_our_tags_is_never_touched() {
    let lab = Lab::open(instant()).await;
    lab.elsewhere().await;
    let (ident, resources) = (lab.given(), lab.surveyed().await.resources);
    let before = lab.fly.world().apps;
    assert_eq!(lab.provider.seal(&ident).await, Outcome::Done(()), "nothing can be made in it");
    for resource in resources.iter().rev() {
        let outcome = lab.provider.destroy(&ident, resource).await;
        assert!(foreign(&outcome), "{resource:?}: {outcome:?}");
    }
    let order = Order { ident: &ident, blueprint: &blueprint(), resources: &resources };
    for outcome in
        [lab.provider.stop(&order).await, lab.provider.start(&order).await, lab.provider.update(&order, true).await]
    {
        assert!(foreign(&outcome.map(|_| ())));
    }
    assert!(all(&lab.seen(&ident).await, Custody::Foreign));
    assert_eq!(lab.fly.world().apps, before);
}

#[tokio::test]
async fn what_somebody_else_tags_again_is_somebody_elses_and_so_is_what_it_stands_on() {
    let lab = Lab::open(instant()).await;
    let (ident, resources) = lab.tagged().await;
    let (forged, machine) = (self::ident(&idents(9), 1), &resources[2].id);
    for (name, value) in forged.tags.pairs() {
        let url = format!("{}/apps/{APP}/machines/{machine}/metadata/{name}", lab.fly.api_url());
        let set = reqwest::Client::new().post(url).bearer_auth("flysim").json(&json!({"value": value}));
        assert!(set.send().await.expect("it answers").status().is_success());
    }
    assert!(all(&lab.seen(&ident).await, Custody::Foreign));
    assert!(foreign(&lab.provider.tag(&ident, &resources).await), "it is not tagged back");
    for resource in resources.iter().rev() {
        assert!(foreign(&lab.provider.destroy(&ident, resource).await), "{resource:?}");
    }
    assert_eq!(lab.fly.world().machines().count(), 1);
}

#[tokio::test]
async fn what_somebody_else_puts_beside_it_keeps_the_app_standing() {
    let lab = Lab::open(instant()).await;
    let (ident, resources) = lab.tagged().await;
    lab.fly.plant_machine(APP, "by-hand", &[]).expect("it is planted");
    for (position, resource) in resources.iter().enumerate().rev() {
        let outcome = lab.provider.destroy(&ident, resource).await;
        assert_eq!(foreign(&outcome), position == 0, "{:?}: {outcome:?}", ResourceKind::ALL[position]);
    }
    assert_eq!(lab.fly.world().machines().count(), 1);
}
