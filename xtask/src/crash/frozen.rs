//! Frozen for longer than a lease, and thawed: by SIGSTOP and SIGCONT, as by a hypervisor or a laptop's lid.
//!
//! There is one server for a database, so whoever takes the work over is the one that was frozen. It must not send on a
//! lease that lapsed, must not do by two hands what one began, and must answer those who still wait.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

use super::Told;
use super::api::Api;
use super::chance::Chance;
use super::house::{House, LEASE, until};
use super::points::{By, Case, told};
use super::processes;
use super::storm::{self, Promises, Storm};
use super::verdict::Tally;
use crate::server::Server;

/// Where it freezes: with an intent on record and no call sent, with a call that came back and nobody wrote that down,
/// and before the commits that publish and release.
const PLACES: [(&str, By); 10] = [
    ("base:noted", By::Create),
    ("runtime:noted", By::Create),
    ("runtime:sent", By::Create),
    ("subscribe:noted", By::Create),
    ("complete:before_note", By::Create),
    ("power:noted", By::Restart),
    ("seal:noted", By::Destroy),
    ("remove:sent", By::Destroy),
    ("mark_destroyed:noted", By::Destroy),
    ("release:before_note", By::Destroy),
];

/// How often it is frozen at a random moment under a storm.
const IN_THE_STORM: usize = 5;

/// How long it is frozen: past every lease.
const FROZEN_FOR: Duration = LEASE.saturating_add(Duration::from_millis(300));

/// How long it may take until it is frozen.
const FREEZES_WITHIN: Duration = Duration::from_secs(30);

/// What was frozen, and how often its leases were seen to have lapsed.
#[derive(Default)]
struct Seen {
    freezes: usize,
    requests: usize,
    /// Creates that froze between an intent and its call, and how many of them went on under a lease of a later epoch.
    withheld: (usize, usize),
    taken_over: u64,
}

pub(super) async fn play(house: &House, mut chance: Chance, tally: &mut Tally) -> Result<Told> {
    let mut seen = Seen::default();
    let mut server = house.start(None)?;
    for (place, by) in PLACES {
        freeze_at(house, &mut server, place, by, &mut seen, tally)
            .await
            .with_context(|| format!("freezing at {place}"))?;
    }
    house.restart(&mut server, None)?;
    let fault = async |server: &mut Server, storm: &Storm| {
        seen.requests += freeze_under(server, storm).await?;
        seen.freezes += 1;
        Ok(())
    };
    let promises = storm::rage(house, &mut server, IN_THE_STORM, &mut chance, Promises::default(), fault).await?;
    house.settle(&server, &promises, tally).await?;
    seen.taken_over += takeovers(&Api::of(&server)).await?;
    let Seen { freezes, requests, withheld: (creates, later), taken_over } = seen;
    ensure!(taken_over > 0, "in {freezes} freezes no operation was taken over");
    // A thawed server may renew a lease that nobody has claimed before its executor looks at it; not every time.
    ensure!(later > 0, "no call was withheld, though its lease had lapsed each time");
    let line = format!(
        "frozen past the lease {freezes} times: {} at places, {IN_THE_STORM} in a storm, with {requests} requests open; \
         {later} of {creates} calls left under a later lease only, {taken_over} operations were taken over",
        PLACES.len()
    );
    Ok(Told { line, count: Some(format!("{freezes} freezes")), kills: 0 })
}

/// Freezes at a place that the server knows by name.
async fn freeze_at(
    house: &House,
    server: &mut Server,
    place: &str,
    by: By,
    seen: &mut Seen,
    tally: &mut Tally,
) -> Result<()> {
    let case = Case::prepare(house, server, place, by, ("FREEHOLD_FREEZE_AT", place)).await?;
    let (api, pid) = (Api::of(server), server.pid());
    let (answer, frozen) = tokio::join!(case.ask(&api), async {
        until("the server is frozen", FREEZES_WITHIN, || processes::is_stopped(pid)).await?;
        thaw_after(pid).await
    });
    frozen.with_context(|| format!("the answer was {}", told(&answer)))?;
    let answer = answer.context("the server was frozen and not killed, so it has to answer")?;
    if by == By::Create && place.ends_with(":noted") {
        let later = answer.json()?["epoch"].as_u64().is_some_and(|epoch| epoch > 1);
        seen.withheld = (seen.withheld.0 + 1, seen.withheld.1 + usize::from(later));
    }
    tally.check(matches!(answer.status, 200..=202), || format!("{place}: {}", told(&Ok(answer))));
    case.judge(house, server, tally).await?;
    seen.freezes += 1;
    seen.requests += 1;
    seen.taken_over += takeovers(&api).await?;
    Ok(())
}

/// Freezes the server while requests are open. Answers how many there are.
async fn freeze_under(server: &Server, storm: &Storm) -> Result<usize> {
    until("requests are open", FREEZES_WITHIN, || Ok(storm.waiting() > 1)).await?;
    processes::signal(server.pid(), "STOP")?;
    until("the server is frozen", FREEZES_WITHIN, || processes::is_stopped(server.pid())).await?;
    let open = storm.waiting();
    thaw_after(server.pid()).await?;
    let answered = storm.answered();
    until("the thawed server answers", FREEZES_WITHIN, || Ok(storm.answered() > answered)).await?;
    Ok(open)
}

/// Lets a frozen server be until its leases are over, and sees that it was frozen all the while.
async fn thaw_after(pid: u32) -> Result<()> {
    let thaws_at = Instant::now() + FROZEN_FOR;
    while Instant::now() < thaws_at {
        ensure!(processes::is_stopped(pid)?, "the server is not frozen any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    processes::signal(pid, "CONT")
}

/// How many steps without a finding this life of the server has taken over.
async fn takeovers(api: &Api) -> Result<u64> {
    api.metric("freehold_takeovers_total").await
}
