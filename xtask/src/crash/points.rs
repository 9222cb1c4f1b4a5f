//! Every place where an executor can die: each step, before its note, after it, after its call, after its finding.

use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

use super::api::{Api, instance_named};
use super::verdict::{self, Tally};
use super::{House, REST_WITHIN};
use crate::http::Answer;
use crate::server::Server;

/// What makes an executor pass a step.
#[derive(Clone, Copy, Debug)]
enum By {
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

/// Dies at every point once. `server` is a living one before and after. Answers how many points there are.
pub(super) async fn go_through(house: &House, server: &mut Server, tally: &mut Tally) -> Result<usize> {
    let calls = STEPS.iter().flat_map(|step| GAPS.map(|gap| (*step, gap)));
    let commits = COMMITS.iter().flat_map(|step| COMMIT_GAPS.map(|gap| (*step, gap)));
    let mut count = 0;
    for ((step, by), gap) in calls.chain(commits) {
        let point = format!("{step}:{gap}");
        die_at(house, server, &point, by, tally).await.with_context(|| format!("dying at {point}"))?;
        count += 1;
    }
    Ok(count)
}

async fn die_at(house: &House, server: &mut Server, point: &str, by: By, tally: &mut Tally) -> Result<()> {
    let owner = format!("user:{}", point.replace(':', "-"));
    let key = format!("create-{point}");
    let prepared = match by {
        By::Create => None,
        By::Destroy | By::Restart | By::Update => {
            let answer = Api::of(server).create(&owner, &key).await?;
            ensure!(answer.status == 201, "the instance to work on is answered {}", answer.status);
            Some(instance_named(&answer)?)
        }
    };
    restart(house, server, Some(point))?;
    let api = Api::of(server);
    let lost = match (by, &prepared) {
        (By::Create, _) => api.create(&owner, &key).await,
        (By::Destroy, Some(instance)) => api.destroy(instance).await,
        (By::Restart, Some(instance)) => api.work(instance, "restart").await,
        (By::Update, Some(instance)) => api.update(instance).await,
        (By::Destroy | By::Restart | By::Update, None) => bail!("nothing to work on"),
    };
    let deadline = Instant::now() + DIES_WITHIN;
    while !server.is_dead()? {
        ensure!(Instant::now() < deadline, "the point was not reached; the answer was {}", told(&lost));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    restart(house, server, None)?;
    let api = Api::of(server);
    verdict::come_to_rest(&api, REST_WITHIN).await?;
    // The same request again has the same instance, whether its first answer was lost or not.
    let again = api.create(&owner, &key).await?;
    let instance = instance_named(&again)?;
    tally.check(prepared.is_none_or(|prepared| prepared == instance), || {
        format!("{point}: the key has another instance")
    });
    let status = api.instance(&instance).await?["status"].as_str().unwrap_or_default().to_owned();
    let expected = match by {
        By::Create | By::Restart | By::Update => ["running", "starting"].as_slice(),
        By::Destroy => &["destroyed"],
    };
    tally.check(expected.contains(&status.as_str()), || format!("{point}: the instance is {status}"));
    verdict::check_processes(house, &api, tally).await?;
    if !matches!(by, By::Destroy) {
        api.destroy(&instance).await?;
    }
    Ok(())
}

fn told(answer: &Result<Answer>) -> String {
    match answer {
        Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => format!("none: {error:#}"),
    }
}

/// Ends a life of the server, if it is not over, and begins the next.
pub(super) fn restart(house: &House, server: &mut Server, crash_at: Option<&str>) -> Result<()> {
    server.end();
    *server = house.start(crash_at)?;
    Ok(())
}
