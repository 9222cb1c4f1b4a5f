//! What is written down about a runtime, and what that says of it together with a look at the machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use freehold_domain::resource::RuntimeState;
use freehold_engine::ports::Ident;
use serde::{Deserialize, Serialize};

use super::durable;
use super::folder::Folder;
use super::kernel::{self, Identity, Marked};

/// A program that does not listen counts as running after this long.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long a connection to this very machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a shim may take to write down how its program ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The variable with the instance's id.
pub(super) const INSTANCE_VARIABLE: &str = "FREEHOLD_INSTANCE_ID";
/// The variable with the MAC of the instance's tags: with the id, the marker of all that belongs to it.
pub(super) const MAC_VARIABLE: &str = "FREEHOLD_MAC";
/// The variable with the number of the launch; shims do not have it.
pub(super) const LAUNCH_VARIABLE: &str = "FREEHOLD_LAUNCH";

/// The runtime of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Rises with every launch.
    pub(super) launch: u64,
    /// Under which boot of the machine.
    pub(super) boot: String,
    /// What waits for the program; nobody does for a program found without a record.
    pub(super) shim: Option<Identity>,
    /// The program.
    pub(super) main: Identity,
    /// The port it was given.
    pub(super) port: u16,
}

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    /// Which launch.
    pub(super) launch: u64,
    /// In words: "exit status 1: …".
    pub(super) how: String,
}

/// Which launch was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StopAsked {
    /// Which launch.
    pub(super) launch: u64,
}

/// The number for the next launch in a folder: higher than any that left a trace.
pub(super) fn next_launch(folder: &Folder) -> io::Result<u64> {
    let record = Record::read(folder)?.map_or(0, |record| record.launch);
    let exit = durable::read_record::<Exit>(&folder.exit())?.map_or(0, |exit| exit.launch);
    let stop = durable::read_record::<StopAsked>(&folder.stop())?.map_or(0, |stop| stop.launch);
    Ok(record.max(exit).max(stop) + 1)
}

/// What others need to find the runtime again: opaque to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    pid: i32,
    start: u64,
    /// The port it answers on.
    pub(super) port: u16,
    boot: String,
}

impl From<&Record> for Handle {
    fn from(record: &Record) -> Self {
        let Identity { pid, start } = record.main;
        Self { pid, start, port: record.port, boot: record.boot.clone() }
    }
}

impl Record {
    /// Reads the record of a folder. `None` if there is none.
    pub(super) fn read(folder: &Folder) -> io::Result<Option<Self>> {
        durable::read_record(&folder.runtime())
    }

    /// Whether the program lives: same boot, pid and start time, and the marker. Start times are counted in ticks of some
    /// milliseconds, so the first three alone may fit a stranger. A program that dropped its environment is known by the
    /// launch lock it inherited, and one whose environment cannot be read is believed: what is unknown is not gone.
    pub(super) fn is_alive(&self, folder: &Folder, marker: &Marker) -> io::Result<bool> {
        if self.boot != kernel::boot_id()? || !kernel::is_alive(self.main)? {
            return Ok(false);
        }
        match kernel::carries(self.main.pid, &marker.variables())? {
            Some(true) | None => Ok(true),
            Some(false) => Ok(kernel::appending_to(&folder.launch_lock())?.contains(&self.main)),
        }
    }

    /// Whether its shim lives.
    pub(super) fn shim_is_alive(&self) -> io::Result<bool> {
        match self.shim {
            Some(shim) if self.boot == kernel::boot_id()? => kernel::is_alive(shim),
            Some(_) | None => Ok(false),
        }
    }
}

/// What marks everything that belongs to an instance.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    instance: String,
    mac: String,
}

impl Marker {
    pub(super) fn new(instance: &str, mac: &str) -> Self {
        Self { instance: instance.to_owned(), mac: mac.to_owned() }
    }

    pub(super) fn of(ident: &Ident) -> Self {
        Self::new(&ident.tags.instance, &ident.tags.mac)
    }

    /// The marker as variables.
    pub(super) fn variables(&self) -> [(&str, &str); 2] {
        [(INSTANCE_VARIABLE, &self.instance), (MAC_VARIABLE, &self.mac)]
    }

    /// Every living process that carries it, oldest first; shims among them.
    pub(super) fn processes(&self) -> io::Result<Vec<Marked>> {
        kernel::marked(&self.variables())
    }
}

/// The number of the launch that a marked process belongs to. `None` for a shim.
pub(super) fn launch_of(process: &Marked) -> Option<u64> {
    process.variable(LAUNCH_VARIABLE)?.parse().ok()
}

/// The program of a launch that is not on record: whoever wanted to write it down died in between.
pub(super) fn unrecorded(record: Option<&Record>, processes: &[Marked]) -> io::Result<Option<Record>> {
    let known = record.map_or(0, |record| record.launch);
    let Some((process, launch)) =
        processes.iter().find_map(|one| launch_of(one).filter(|launch| *launch > known).map(|launch| (one, launch)))
    else {
        return Ok(None);
    };
    let port = process.variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(0);
    Ok(Some(Record { launch, boot: kernel::boot_id()?, shim: None, main: process.stat.id, port }))
}

/// A runtime as a look found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What is known of it, where something is.
    pub(super) record: Option<Record>,
    /// What it is doing.
    pub(super) state: RuntimeState,
}

/// Looks at the runtime of a folder. `None`: there is none, for sure.
pub(super) fn look(folder: &Folder, marker: &Marker) -> io::Result<Option<Seen>> {
    let record = Record::read(folder)?;
    if let Some(record) = &record
        && record.is_alive(folder, marker)?
    {
        return Ok(Some(Seen { state: up(record)?, record: Some(record.clone()) }));
    }
    let processes = marker.processes()?;
    if let Some(found) = unrecorded(record.as_ref(), &processes)? {
        return Ok(Some(Seen { state: up(&found)?, record: Some(found) }));
    }
    let known_shim = record.as_ref().and_then(|record| record.shim);
    if processes.iter().any(|one| launch_of(one).is_none() && Some(one.stat.id) != known_shim) {
        // A launch that is under way may have gone on meanwhile.
        let record = Record::read(folder)?;
        return Ok(Some(Seen { record, state: RuntimeState::Starting }));
    }
    if let Some(record) = record {
        return Ok(Some(Seen { state: down(folder, &record)?, record: Some(record) }));
    }
    let something = !processes.is_empty() || folder.launch_lock_is_held()? || durable::is_there(&folder.runtime())?;
    Ok(something.then_some(Seen { record: None, state: RuntimeState::Starting }))
}

fn up(record: &Record) -> io::Result<RuntimeState> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, record.port));
    let answers = record.port != 0 && TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok();
    let settled = answers || kernel::age(record.main)? >= SETTLED_AFTER;
    Ok(if settled { RuntimeState::Running } else { RuntimeState::Starting })
}

/// Whether this launch was asked to stop: its program ends, or has.
pub(super) fn is_to_stop(folder: &Folder, record: &Record) -> io::Result<bool> {
    let stop: Option<StopAsked> = durable::read_record(&folder.stop())?;
    Ok(stop.is_some_and(|stop| stop.launch == record.launch))
}

fn down(folder: &Folder, record: &Record) -> io::Result<RuntimeState> {
    if is_to_stop(folder, record)? {
        return Ok(RuntimeState::Stopped);
    }
    if let (true, Some(shim)) = (record.shim_is_alive()?, record.shim) {
        // It is writing down how the program ended.
        kernel::await_death(shim, Instant::now() + LAST_WORDS)?;
    }
    let exit: Option<Exit> = durable::read_record(&folder.exit())?;
    Ok(RuntimeState::Exited(match exit.filter(|exit| exit.launch == record.launch) {
        Some(exit) => exit.how,
        None if record.boot != kernel::boot_id()? => "the machine was restarted".to_owned(),
        None => "nobody saw how it ended".to_owned(),
    }))
}
