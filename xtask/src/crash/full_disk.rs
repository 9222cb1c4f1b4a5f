//! No room on the disk: not for the database, nor for the instances' folders.
//!
//! The data folder is a small file system of its own, filled with ballast. Where none can be mounted, a disk that says so
//! is preloaded into the server instead, and only the database is without room.

use anyhow::{Context, Result, ensure};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Told;
use super::api::Api;
use super::chance::Chance;
use super::disk::FailingDisk;
use super::house::{House, text, until};
use super::processes;
use super::storm::{self, Promises, Storm};
use super::verdict::{self, Tally};
use crate::server::Server;
use crate::workspace;

/// The size of the file system, in MiB: room for the database, its log and some instances.
const SIZE_MIB: u32 = 192;

/// How a round goes on while the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// There is room again, and the server goes on.
    Heals,
    /// The server is killed, and starts where there is room.
    Killed,
    /// The server is killed and started where there is no room; then there is.
    KilledAndStartedFull,
}

const ROUNDS: [Then; 4] = [Then::Heals, Then::Killed, Then::KilledAndStartedFull, Then::Heals];

/// Requests that have to be told in a round.
const TOLD: usize = 8;

/// Requests that have to be answered after a round for the server to count as well.
const ANSWERS: usize = 12;

/// How long what has to happen may take.
const WITHIN: Duration = Duration::from_secs(30);

/// How long the server is watched while nobody asks it anything.
const WATCHED_FOR: Duration = Duration::from_millis(1500);

/// The most processor time it may use meanwhile, and the most it may say: it has a few dozen operations that cannot go on,
/// and looks at each about once a second.
const CPU_MAX: Duration = Duration::from_millis(750);
const LOG_BYTES_MAX: u64 = 150_000;

/// Where there is no room.
enum Room {
    /// In a file system of our own.
    Mounted(Mount),
    /// In a library's opinion.
    Preloaded(FailingDisk),
}

impl Room {
    fn of(house: &mut House) -> Result<Self> {
        match Mount::over(house.data_dir()) {
            Ok(mount) => Ok(Self::Mounted(mount)),
            Err(error) => {
                println!("no file system can be mounted here ({error:#}); a preloaded disk stands in for it");
                FailingDisk::under(house).map(Self::Preloaded)
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Mounted(_) => "a mounted file system",
            Self::Preloaded(_) => "a preloaded disk",
        }
    }

    /// Leaves no room. To be called again and again: what is deleted meanwhile makes some.
    fn fill(&self) -> Result<()> {
        match self {
            Self::Mounted(mount) => mount.fill(),
            Self::Preloaded(disk) => disk.fill(true),
        }
    }

    /// Copies what would go away with the mount, for whoever looks for what went wrong.
    fn keep(&self, house: &House) -> Result<()> {
        let Self::Mounted(mount) = self else { return Ok(()) };
        let kept = house.folder().join("data.kept");
        workspace::succeed(Command::new("cp").arg("-a").arg(&mount.0).arg(&kept))
            .with_context(|| format!("copying {} to {}", mount.0.display(), kept.display()))
    }

    fn make_room(&self) -> Result<()> {
        match self {
            Self::Mounted(mount) => Ok(std::fs::remove_file(mount.ballast())?),
            Self::Preloaded(disk) => disk.fill(false),
        }
    }
}

/// A file system in memory. Dropping it unmounts it.
struct Mount(PathBuf);

impl Mount {
    fn over(folder: PathBuf) -> Result<Self> {
        let size = format!("size={SIZE_MIB}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "freehold-crash", text(&folder)?]).output();
        let mounted = mounted.context("there is no mount")?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr).trim());
        Ok(Self(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) -> Result<()> {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast())?;
        for piece in [&[0; 1 << 20][..], &[0; 4096]] {
            loop {
                match ballast.write_all(piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Instances may still live in it: it goes away with the last of them.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("warning: {} stays mounted; umount it", self.0.display());
        }
    }
}

#[derive(Default)]
struct Seen {
    unavailable: usize,
    /// The most instances that could not go on while the server was watched, and the most it did meanwhile.
    stuck: usize,
    cpu: Duration,
    log_bytes: u64,
    refused_starts: usize,
}

pub(super) async fn play(house: &mut House, chance: Chance, tally: &mut Tally) -> Result<Told> {
    let room = Room::of(house)?;
    let told = play_in(&room, house, chance, tally).await;
    if told.is_err() || tally.failed > 0 {
        room.keep(house)?;
    }
    told
}

async fn play_in(room: &Room, house: &House, mut chance: Chance, tally: &mut Tally) -> Result<Told> {
    let mut server = house.start(None)?;
    let mut rounds = ROUNDS.into_iter();
    let mut seen = Seen::default();
    let fault = async |server: &mut Server, storm: &Storm| {
        let then = rounds.next().context("more rounds than were thought of")?;
        round(house, room, server, storm, then, &mut seen, tally)
            .await
            .with_context(|| format!("a full disk, then {then:?}"))
    };
    let promises = storm::rage(house, &mut server, ROUNDS.len(), &mut chance, Promises::default(), fault).await?;
    house.settle(&server, &promises, tally).await?;
    server.end();
    let Seen { unavailable, stuck, cpu, log_bytes, refused_starts } = seen;
    ensure!(stuck > 0, "nothing was on its way while the disk was full, so nothing could have been asked in vain");
    let line = format!(
        "filled {} {} times: {unavailable} requests told so, {refused_starts} starts refused; with {stuck} instances on \
         their way at most {} ms of processor and {log_bytes} bytes of log in {} ms",
        room.name(),
        ROUNDS.len(),
        cpu.as_millis(),
        WATCHED_FOR.as_millis()
    );
    Ok(Told { line, count: Some(format!("{} full disks", ROUNDS.len())), kills: 0 })
}

async fn round(
    house: &House,
    room: &Room,
    server: &mut Server,
    storm: &Storm,
    then: Then,
    seen: &mut Seen,
    tally: &mut Tally,
) -> Result<()> {
    let unavailable = storm.unavailable();
    until("requests are told that there is no room", WITHIN, || {
        room.fill()?;
        Ok(storm.unavailable() >= unavailable + TOLD)
    })
    .await?;
    seen.unavailable += storm.unavailable() - unavailable;
    ensure!(!server.is_dead()?, "the server went away");
    let read = Api::of(server).call("GET", "/v1/instances", &[], None).await?;
    tally.check(read.status == 200, || format!("a read on a full disk is answered {}", read.status));
    match then {
        Then::Heals => {
            watch(house, room, server, storm, seen, tally).await?;
            room.make_room()?;
        }
        Then::Killed => {
            server.end();
            room.make_room()?;
            house.restart(server, None)?;
        }
        Then::KilledAndStartedFull => {
            server.end();
            // As after a reboot: the index of the log, which lives in memory, is to be made anew.
            std::fs::remove_file(house.database().with_extension("db-shm"))?;
            room.fill()?;
            let started = house.start(None);
            if started.is_err() {
                seen.refused_starts += 1;
                tally.check(house.was_told_of_the_disk()?, || "a refused start does not tell of the disk".to_owned());
            }
            room.make_room()?;
            *server = match started {
                Ok(started) => started,
                Err(_) => house.start(None)?,
            };
        }
    }
    storm.turn_to(server);
    let answered = storm.answered();
    until("there is room, and requests are answered", WITHIN, || Ok(storm.answered() >= answered + ANSWERS)).await?;
    ensure!(!server.is_dead()?, "the server went away");
    Ok(())
}

/// Nobody asks anything: the server has nothing to do but to wait for room.
async fn watch(
    house: &House,
    room: &Room,
    server: &Server,
    storm: &Storm,
    seen: &mut Seen,
    tally: &mut Tally,
) -> Result<()> {
    storm.pause(true);
    // What is asked already gets its answer first.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let measure =
        || -> Result<_> { Ok((processes::cpu_time(server.pid())?, File::open(house.log())?.metadata()?.len())) };
    seen.stuck = seen.stuck.max(verdict::on_their_way(&Api::of(server)).await?);
    let before = measure()?;
    let until_then = std::time::Instant::now() + WATCHED_FOR;
    until("it was watched", WITHIN, || {
        room.fill()?;
        Ok(std::time::Instant::now() >= until_then)
    })
    .await?;
    let after = measure()?;
    storm.pause(false);
    let (cpu, log) = (after.0.saturating_sub(before.0), after.1 - before.1);
    (seen.cpu, seen.log_bytes) = (seen.cpu.max(cpu), seen.log_bytes.max(log));
    tally.check(cpu <= CPU_MAX, || format!("with nothing to do it used {cpu:?} of {WATCHED_FOR:?}"));
    tally.check(log <= LOG_BYTES_MAX, || format!("with nothing to do it wrote {log} bytes of log in {WATCHED_FOR:?}"));
    Ok(())
}
