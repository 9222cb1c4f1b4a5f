//! Every place where an executor can die: each step, before its note, after it, after its call, after its finding.

use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

use super::Told;
use super::api::{Api, instance_named};
use super::house::{House, REST_WITHIN, until};
use super::storm::Promises;
use super::verdict::{self, Tally};
use crate::http::Answer;
use crate::server::Server;

/// What makes an executor pass a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Create,
    Destroy,
    Restart,
    Update,
}

/// The steps with a call of their own, and what leads there.
const STEPS: [(&str, By); 13] = [
    ("base", By::Create),
    ("storage", By::Create),
    ("runtime", By::Create),
    ("ready", By::Create),
    ("record", By::Create),
    ("subscribe", By::Create),
    ("power", By::Restart),
    ("update", By::Update),
    ("seal", By::Destroy),
    ("remove", By::Destroy),
    ("absence", By::Destroy),
    ("end_subscription", By::Destroy),
    ("mark_destroyed", By::Destroy),
];

const GAPS: [&str; 4] = ["before_note", "noted", "sent", "answered"];

/// The steps that are one commit and nothing else.
const COMMITS: [(&str, By); 2] = [("complete", By::Create), ("release", By::Destroy)];

const COMMIT_GAPS: [&str; 2] = ["before_note", "answered"];

/// How long a server may take to reach the point where it dies.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// Dies at every point once.
pub(super) async fn play(house: &House, tally: &mut Tally) -> Result<Told> {
    let mut server = house.start(None)?;
    let calls = STEPS.iter().flat_map(|step| GAPS.map(|gap| (*step, gap)));
    let commits = COMMITS.iter().flat_map(|step| COMMIT_GAPS.map(|gap| (*step, gap)));
    let mut count = 0;
    for ((step, by), gap) in calls.chain(commits) {
        let point = format!("{step}:{gap}");
        die_at(house, &mut server, &point, by, tally).await.with_context(|| format!("dying at {point}"))?;
        count += 1;
    }
    house.settle(&server, &Promises::default(), tally).await?;
    Ok(Told { line: format!("killed at each of {count} points"), count: Some(format!("{count} points")), kills: count })
}

async fn die_at(house: &House, server: &mut Server, point: &str, by: By, tally: &mut Tally) -> Result<()> {
    let case = Case::prepare(house, server, point, by, ("FREEHOLD_CRASH_AT", point)).await?;
    let lost = case.ask(&Api::of(server)).await;
    let died = until("the server dies", DIES_WITHIN, || server.is_dead()).await;
    died.with_context(|| format!("the point was not reached; the answer was {}", told(&lost)))?;
    house.restart(server, None)?;
    case.judge(house, server, tally).await
}

/// One request that leads an executor through a place.
pub(super) struct Case {
    name: String,
    by: By,
    owner: String,
    key: String,
    prepared: Option<String>,
}

impl Case {
    /// Makes what is to be worked on, and begins a life of the server with `variable`.
    pub(super) async fn prepare(
        house: &House,
        server: &mut Server,
        name: &str,
        by: By,
        variable: (&str, &str),
    ) -> Result<Self> {
        let (owner, key) = (format!("user:{}", name.replace(':', "-")), format!("create-{name}"));
        let prepared = match by {
            By::Create => None,
            By::Destroy | By::Restart | By::Update => {
                let answer = Api::of(server).create(&owner, &key).await?;
                ensure!(answer.status == 201, "the instance to work on is answered {}", answer.status);
                Some(instance_named(&answer)?)
            }
        };
        house.restart(server, Some(variable))?;
        Ok(Self { name: name.to_owned(), by, owner, key, prepared })
    }

    /// Asks for it.
    pub(super) async fn ask(&self, api: &Api) -> Result<Answer> {
        match (self.by, &self.prepared) {
            (By::Create, _) => api.create(&self.owner, &self.key).await,
            (By::Destroy, Some(instance)) => api.destroy(instance).await,
            (By::Restart, Some(instance)) => api.work(instance, "restart").await,
            (By::Update, Some(instance)) => api.update(instance).await,
            (By::Destroy | By::Restart | By::Update, None) => bail!("nothing to work on"),
        }
    }

    /// Whether it came to what was asked for, once the world is at rest.
    pub(super) async fn judge(&self, house: &House, server: &Server, tally: &mut Tally) -> Result<()> {
        let Self { name, by, owner, key, prepared } = self;
        let api = Api::of(server);
        verdict::come_to_rest(&api, REST_WITHIN).await?;
        // The same request again has the same instance, whether its first answer was lost or not.
        let again = api.create(owner, key).await?;
        let instance = instance_named(&again)?;
        tally.check(prepared.as_ref().is_none_or(|prepared| *prepared == instance), || {
            format!("{name}: the key has another instance")
        });
        let status = api.instance(&instance).await?["status"].as_str().unwrap_or_default().to_owned();
        let expected = match by {
            By::Create | By::Restart | By::Update => ["running", "starting"].as_slice(),
            By::Destroy => &["destroyed"],
        };
        tally.check(expected.contains(&status.as_str()), || format!("{name}: the instance is {status}"));
        verdict::check_processes(house, &api, tally).await?;
        if *by != By::Destroy {
            api.destroy(&instance).await?;
        }
        Ok(())
    }
}

pub(super) fn told(answer: &Result<Answer>) -> String {
    match answer {
        Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => format!("none: {error:#}"),
    }
}
