//! Ending processes: gently for a stop, and provably for a destroy.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::cgroup;
use super::folder::Folder;
use super::kernel::{self, Identity};
use super::record::{Marker, Record, launch_of};

/// How long one round of killing waits for its dead before it looks again for what they started meanwhile.
const ROUND: Duration = Duration::from_millis(200);

/// How long to wait before looking again whether the lock of the dead is gone.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Asks the program and its group to end, waits, and kills what is left. The shim is spared: it writes down how the
/// program ended. Says whether the program is dead and nothing that it started is left.
pub(super) fn stop(
    record: &Record,
    folder: &Folder,
    marker: &Marker,
    grace: Duration,
    deadline: Instant,
) -> io::Result<bool> {
    let asked = Instant::now();
    if record.is_alive(folder, marker)? {
        // Once each: many programs take a second request for impatience. A program that dropped its environment is still
        // known by its record.
        let mut asked_to_end: BTreeSet<Identity> = BTreeSet::from([record.main]);
        let group = marker.processes()?.into_iter().filter(|one| one.stat.group == record.main.pid);
        asked_to_end.extend(group.map(|one| one.stat.id));
        for process in asked_to_end {
            kernel::signal(process, Signal::TERM)?;
        }
        kernel::await_death(record.main, (asked + grace).min(deadline))?;
    }
    loop {
        let mut targets: Vec<Identity> = belongings(marker, record.launch)?;
        if record.is_alive(folder, marker)? {
            targets.push(record.main);
        }
        if targets.is_empty() {
            return Ok(true);
        }
        if !kill_round(&targets, deadline)? {
            return Ok(false);
        }
    }
}

/// Kills what the program of a launch, and those before it, left behind. Called by a shim, which is not part of that.
pub(super) fn leftovers(marker: &Marker, launch: u64, deadline: Instant) -> io::Result<bool> {
    loop {
        let targets = belongings(marker, launch)?;
        if targets.is_empty() {
            return Ok(true);
        }
        if !kill_round(&targets, deadline)? {
            return Ok(false);
        }
    }
}

fn belongings(marker: &Marker, launch: u64) -> io::Result<Vec<Identity>> {
    let processes = marker.processes()?;
    Ok(processes.iter().filter(|one| launch_of(one).is_some_and(|its| its <= launch)).map(|one| one.stat.id).collect())
}

/// Kills everything of an instance, shims included, until nothing carries the marker, twice over, and nobody holds the
/// launch lock. Says whether that is so.
pub(super) fn everything(folder: &Folder, marker: &Marker, deadline: Instant) -> io::Result<bool> {
    let mut empty_looks = 0;
    loop {
        cgroup::kill(folder)?;
        let mut targets: Vec<Identity> = marker.processes()?.iter().map(|one| one.stat.id).collect();
        if let Some(record) = Record::read(folder)?
            && record.is_alive(folder, marker)?
        {
            targets.push(record.main);
        }
        let held = folder.launch_lock_is_held()?;
        if targets.is_empty() && held {
            // It dropped its environment and left its group; the lock it inherited gives it away.
            targets = kernel::appending_to(&folder.launch_lock())?;
        }
        let this = kernel::own_identity()?;
        targets.retain(|target| *target != this);
        if !targets.is_empty() {
            empty_looks = 0;
            if !kill_round(&targets, deadline)? {
                return Ok(false);
            }
        } else if held {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(LOCK_POLL);
        } else {
            empty_looks += 1;
            if empty_looks == 2 {
                return Ok(true);
            }
        }
    }
}

/// Kills, and waits a while for the deaths. `false` if the deadline passed.
fn kill_round(targets: &[Identity], deadline: Instant) -> io::Result<bool> {
    for target in targets {
        kernel::signal(*target, Signal::KILL)?;
    }
    let until = (Instant::now() + ROUND).min(deadline);
    for target in targets {
        kernel::await_death(*target, until)?;
    }
    Ok(Instant::now() < deadline)
}
