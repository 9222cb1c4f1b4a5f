//! Ports are on record before they are used: a file per port, made exclusively, with the instance's id inside.
//!
//! An instance's folder names a port before the port's file is made, so whatever a crash leaves behind is found and
//! freed with the base.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use freehold_domain::ids::InstanceId;

use super::durable;
use super::folder::{Folder, Layout};

/// How many former ports a folder remembers. Each was freed when the next was taken; this covers crashes in between.
const HISTORY_MAX: usize = 8;

/// The port of an instance: the one it had if that is still free on this machine, or another. `None` if none is left.
/// The caller holds the folder's lock, and no program of the instance runs.
pub(super) fn reserve(
    layout: &Layout,
    folder: &Folder,
    instance: InstanceId,
    range: &RangeInclusive<u16>,
) -> io::Result<Option<u16>> {
    let ports = layout.ports();
    let mut history: Vec<u16> = durable::read_record(&folder.ports())?.unwrap_or_default();
    let former = history.last().copied();
    if let Some(port) = former
        && range.contains(&port)
        && is_free(port)
        && claim(&ports, port, instance)?
    {
        return Ok(Some(port));
    }
    for port in candidates(instance, range) {
        if Some(port) == former || !available(&ports, port, instance)? || !is_free(port) {
            continue;
        }
        history.push(port);
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        durable::replace_record(&folder.ports(), &history)?;
        if claim(&ports, port, instance)? {
            if let Some(former) = former {
                free_one(&ports, former, instance)?;
            }
            return Ok(Some(port));
        }
        history.pop();
    }
    Ok(None)
}

/// Gives back every port of an instance.
pub(super) fn free(layout: &Layout, folder: &Folder, instance: InstanceId) -> io::Result<()> {
    let history: Vec<u16> = durable::read_record(&folder.ports())?.unwrap_or_default();
    history.into_iter().try_for_each(|port| free_one(&layout.ports(), port, instance))
}

/// All ports of the range, from a place that depends on the instance, so that many do not queue for the first.
fn candidates(instance: InstanceId, range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (first, count) = (u64::from(*range.start()), range.len() as u64);
    let chance = instance.as_bytes()[8..].iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    (0..count).filter_map(move |step| u16::try_from(first + (chance % count + step) % count).ok())
}

fn file(ports: &Path, port: u16) -> PathBuf {
    ports.join(port.to_string())
}

fn holder(ports: &Path, port: u16) -> io::Result<Option<Vec<u8>>> {
    durable::read_if_there(&file(ports, port))
}

fn available(ports: &Path, port: u16, instance: InstanceId) -> io::Result<bool> {
    Ok(holder(ports, port)?.is_none_or(|holder| holder == instance.to_string().into_bytes()))
}

fn claim(ports: &Path, port: u16, instance: InstanceId) -> io::Result<bool> {
    match durable::create(&file(ports, port), instance.to_string().as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(holder(ports, port)?.is_some_and(|holder| holder == instance.to_string().into_bytes()))
        }
        Err(error) => Err(error),
    }
}

fn free_one(ports: &Path, port: u16, instance: InstanceId) -> io::Result<()> {
    if holder(ports, port)?.is_some_and(|holder| holder == instance.to_string().into_bytes()) {
        durable::remove_if_there(&file(ports, port))?;
        durable::sync_folder(ports)?;
    }
    Ok(())
}

/// Whether no stranger listens there at the moment.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_engine::ports::Tags;
    use std::collections::BTreeSet;
    use std::fs;

    /// A few ports that are free at the moment, outside the range of the default.
    fn some_range() -> RangeInclusive<u16> {
        let start = 12_000 + (std::process::id() % 8_000) as u16;
        start..=start + 15
    }

    fn instance(layout: &Layout, chance: u8) -> (InstanceId, Folder) {
        let id = InstanceId::mint(1, [chance; 10]);
        let folder = layout.folder(id);
        let [install, instance, owner, mac] = ["prod", "i", "o", "m"].map(str::to_owned);
        folder.make_base(&Tags { install, instance, owner, mac }).unwrap();
        (id, folder)
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        durable::make_folder(&layout.instances()).unwrap();
        durable::make_folder(&layout.ports()).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_port_stays_and_is_freed_with_the_base() {
        let (_dir, layout) = layout();
        let (id, folder) = instance(&layout, 1);
        let port = reserve(&layout, &folder, id, &some_range()).unwrap().unwrap();
        assert_eq!(reserve(&layout, &folder, id, &some_range()).unwrap(), Some(port));
        free(&layout, &folder, id).unwrap();
        assert_eq!(fs::read_dir(layout.ports()).unwrap().count(), 0);
    }

    #[test]
    fn a_port_that_a_stranger_took_is_changed_and_the_old_one_freed() {
        let (_dir, layout) = layout();
        let (id, folder) = instance(&layout, 1);
        let port = reserve(&layout, &folder, id, &some_range()).unwrap().unwrap();
        let _stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let other = reserve(&layout, &folder, id, &some_range()).unwrap().unwrap();
        assert_ne!(other, port);
        let left: Vec<_> = fs::read_dir(layout.ports()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, [other.to_string().as_str()]);
    }

    #[test]
    fn many_who_reserve_at_once_get_different_ports_until_none_is_left() {
        let (_dir, layout) = layout();
        let range = some_range();
        let instances: Vec<_> = (0..range.len() + 2).map(|n| instance(&layout, n as u8)).collect();
        let got: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = instances
                .iter()
                .map(|(id, folder)| scope.spawn(|| reserve(&layout, folder, *id, &range).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: BTreeSet<_> = got.iter().flatten().collect();
        assert_eq!(distinct.len(), got.iter().flatten().count(), "{got:?}");
        assert!(got.iter().any(Option::is_none) && distinct.len() > 8, "{got:?}");
    }
}
