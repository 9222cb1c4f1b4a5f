//! The disk tells the database that a sync failed, and then the power fails.
//!
//! After a failed sync the kernel takes the pages for clean: they are read as they were written, are not on the disk, and
//! no later sync brings them there. So a commit that was answered as unknown may be found by the next life of the server,
//! which then builds on something that a power cut takes away. What was acknowledged has to survive all that: each round
//! that ends with a power cut leaves only what a good sync has put on the disk.

use anyhow::{Context, Result, ensure};
use std::time::Duration;

use super::Told;
use super::chance::Chance;
use super::disk::FailingDisk;
use super::house::{House, until};
use super::processes;
use super::storm::{self, Promises, Storm};
use super::verdict::Tally;
use crate::server::Server;

/// How a round goes on once syncs have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The disk is well again, and the server goes on.
    Heals,
    /// The same, and after further work the power fails.
    HealsThenPowerCut,
    /// The server is killed, starts over a disk that is well again, and after further work the power fails.
    KilledThenPowerCut,
    /// The server is killed and cannot start over a disk that still fails; then it is well again.
    KilledAndStartedSick,
    /// The server is asked to end while nothing can be synced, and the power fails.
    StoppedThenPowerCut,
}

const ROUNDS: [Then; 9] = [
    Then::Heals,
    Then::KilledThenPowerCut,
    Then::HealsThenPowerCut,
    Then::StoppedThenPowerCut,
    Then::KilledAndStartedSick,
    Then::KilledThenPowerCut,
    Then::HealsThenPowerCut,
    Then::KilledThenPowerCut,
    Then::Heals,
];

/// Syncs that have to fail in a round, and requests that have to be told so.
const FAILURES: u64 = 3;

/// Requests that have to be answered after a round for the server to count as well.
const ANSWERS: usize = 12;

/// How long what has to happen may take.
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Seen {
    syncs: u64,
    unavailable: usize,
    power_cuts: usize,
    lost_pages: usize,
}

pub(super) async fn play(house: &mut House, mut chance: Chance, tally: &mut Tally) -> Result<Told> {
    let disk = FailingDisk::under(house)?;
    let house = &*house;
    let mut server = house.start(None)?;
    let mut rounds = ROUNDS.into_iter();
    let mut seen = Seen::default();
    let fault = async |server: &mut Server, storm: &Storm| {
        let then = rounds.next().context("more rounds than were thought of")?;
        round(house, &disk, server, storm, then, &mut seen)
            .await
            .with_context(|| format!("a failed sync, then {then:?}"))
    };
    let promises = storm::rage(house, &mut server, ROUNDS.len(), &mut chance, Promises::default(), fault).await?;
    house.settle(&server, &promises, tally).await?;
    let Seen { syncs, unavailable, power_cuts, lost_pages } = seen;
    let line = format!(
        "failed {syncs} syncs in {} rounds, {unavailable} requests told so, {power_cuts} power cuts after them with \
         {lost_pages} pages lost",
        ROUNDS.len()
    );
    Ok(Told { line, count: Some(format!("{syncs} failed syncs, {power_cuts} power cuts")), kills: 0 })
}

async fn round(
    house: &House,
    disk: &FailingDisk,
    server: &mut Server,
    storm: &Storm,
    then: Then,
    seen: &mut Seen,
) -> Result<()> {
    let (syncs, unavailable) = (disk.failed_syncs()?, storm.unavailable());
    disk.fail_syncs(true)?;
    until("syncs fail and requests are told so", WITHIN, || {
        Ok(disk.failed_syncs()? >= syncs + FAILURES && storm.unavailable() > unavailable)
    })
    .await?;
    match then {
        Then::Heals => disk.fail_syncs(false)?,
        Then::HealsThenPowerCut => {
            disk.fail_syncs(false)?;
            work_goes_on(storm).await?;
            power_cut(house, disk, server, storm, seen)?;
        }
        Then::KilledThenPowerCut => {
            server.end();
            disk.fail_syncs(false)?;
            house.restart(server, None)?;
            storm.turn_to(server);
            work_goes_on(storm).await?;
            power_cut(house, disk, server, storm, seen)?;
        }
        Then::KilledAndStartedSick => {
            server.end();
            ensure!(house.start(None).is_err(), "a server started that cannot know what is on its disk");
            ensure!(house.was_told_of_the_disk()?, "a refused start does not tell of the disk");
            disk.fail_syncs(false)?;
            house.restart(server, None)?;
            storm.turn_to(server);
        }
        Then::StoppedThenPowerCut => {
            processes::signal(server.pid(), "TERM")?;
            until("the server ends", WITHIN, || server.is_dead()).await?;
            disk.fail_syncs(false)?;
            power_cut(house, disk, server, storm, seen)?;
        }
    }
    ensure!(!server.is_dead()?, "the server went away");
    work_goes_on(storm).await?;
    seen.syncs += disk.failed_syncs()? - syncs;
    seen.unavailable += storm.unavailable() - unavailable;
    Ok(())
}

async fn work_goes_on(storm: &Storm) -> Result<()> {
    let answered = storm.answered();
    until("further requests are answered", WITHIN, || Ok(storm.answered() >= answered + ANSWERS)).await
}

/// Kills the server and starts it over what is on the disk.
fn power_cut(house: &House, disk: &FailingDisk, server: &mut Server, storm: &Storm, seen: &mut Seen) -> Result<()> {
    server.end();
    seen.lost_pages += disk.cut_power(house)?;
    seen.power_cuts += 1;
    house.restart(server, None).context("starting over what a power cut left")?;
    storm.turn_to(server);
    Ok(())
}
