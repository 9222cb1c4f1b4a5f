//! How this node tells that its registry went back in time, however that came about.
//!
//! The data folder keeps a mark: how far the registry was when this node last looked. A registry that is not that far any
//! more was replaced by an older one: a file was copied back, a dump was read in, a database was recovered to a point in
//! time, a standby was promoted that had not heard everything. It is put in quarantine then, for every node.
//!
//! - The mark is only ever behind: it is written after it was read, so a crash between the two loses nothing.
//! - It belongs to an installation. A registry of another one in the same folder is another registry, not an older one;
//!   an empty one that is given the same name is older than everything.
//! - The end of a quarantine moves the registry on beyond every mark, so that the older one is accepted once.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use freehold_domain::lease::InstallId;
use freehold_engine::ports::{Clock, Store, StoreError};
use freehold_engine::standing::Standing;
use freehold_engine::world::World;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::folder::{DataFolder, unusable};
use crate::exit::Failure;

/// The file with the mark.
pub(super) const MARK_FILE: &str = "high_water";

/// How often the registry is looked at: so long an operator waits until the end of a quarantine is heard everywhere.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a node remembers of its registry.
#[derive(Debug)]
pub(super) struct Mark {
    install: InstallId,
    position: u64,
}

impl Mark {
    /// What the data folder says. Nothing, where it speaks of another installation.
    ///
    /// # Errors
    /// A mark that cannot be read.
    pub(super) fn read(folder: &DataFolder, install: &InstallId) -> Result<Self, Failure> {
        let path = folder.path().join(MARK_FILE);
        let fresh = Self { install: install.clone(), position: 0 };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let damaged = || {
            Failure::failed(format!("{} does not hold a mark", path.display())).hint(
                "delete the file if the registry is surely the one that this server had last; if it comes from a \
                 backup, `freehold restore status` must say so before anything else is done",
            )
        };
        let (whose, position) = text.trim().split_once(' ').ok_or_else(damaged)?;
        let position = position.parse().map_err(|_| damaged())?;
        if whose == install.as_str() {
            return Ok(Self { position, ..fresh });
        }
        tracing::warn!(was = whose, is = %install, "this data folder had another installation's registry before");
        Ok(fresh)
    }

    /// Looks how far the registry is: puts one that went back in quarantine, and remembers how far one that did not is.
    ///
    /// # Errors
    /// [`StoreError`] if the registry does not answer. Nothing is remembered then.
    pub(super) async fn compare(&mut self, folder: &DataFolder, store: &dyn Store) -> Result<(), StoreError> {
        let reached = store.high_water().await?;
        if reached < self.position {
            if store.quarantine().await?.is_none() {
                let why = format!("its audit trail ends at {reached}, and this server has seen {}", self.position);
                tracing::error!(%why, "the registry went back in time; it is put in quarantine");
                store.quarantine_begin(&why).await?;
            }
            return Ok(());
        }
        if reached > self.position {
            match folder.write(MARK_FILE, &format!("{} {reached}", self.install)) {
                Ok(()) => self.position = reached,
                // It stays behind, and is written the next time.
                Err(failure) => tracing::warn!(why = failure.lines.join("; "), "the mark cannot be written"),
            }
        }
        Ok(())
    }
}

/// Looks at the registry, in the order that keeps this node from acting on an old one.
///
/// # Errors
/// [`StoreError`] if the registry does not answer: what was heard last stays.
pub(super) async fn look(
    mark: &mut Mark,
    folder: &DataFolder,
    store: &dyn Store,
    clock: &dyn Clock,
    standing: &Standing,
) -> Result<(), StoreError> {
    mark.compare(folder, store).await?;
    let was = standing.quarantine();
    let is = standing.look(store, clock).await?;
    match (was, is) {
        (None, Some(quarantined)) => tracing::error!(
            why = quarantined.why,
            "the registry is in quarantine: reads, routes and traffic go on, and nothing is changed until `freehold \
             restore confirm`"
        ),
        (Some(_), None) => tracing::warn!("the quarantine of the registry is over"),
        (None, None) | (Some(_), Some(_)) => {}
    }
    Ok(())
}

/// Looks at the registry again and again, and once more at the end. Answers the folder when it is done with it.
pub(super) async fn keep(mut mark: Mark, folder: DataFolder, world: Arc<World>, stop: CancellationToken) -> DataFolder {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let goes_on = stop.run_until_cancelled(ticks.tick()).await.is_some();
        let (store, clock) = (world.store.as_ref(), world.clock.as_ref());
        if let Err(error) = look(&mut mark, &folder, store, clock, &world.standing).await {
            tracing::warn!(%error, "whether the registry is still the one that it was could not be seen");
        }
        if !goes_on {
            return folder;
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_domain::lease::LeaseTerm;
    use freehold_engine::ports::Quarantine as _;
    use freehold_store::{SqliteOptions, SqliteStore};

    use super::super::SystemClock;
    use super::*;

    fn install(name: &str) -> InstallId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_registry_that_is_not_as_far_as_its_mark_is_put_in_quarantine() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temp.path()).unwrap();
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(SqliteOptions::memory(clock, LeaseTerm(Duration::from_secs(10)))).unwrap();
        // A new registry in a new folder is as far as it is.
        Mark::read(&folder, &install("a")).unwrap().compare(&folder, &store).await.unwrap();
        assert_eq!(store.quarantine().await, Ok(None));
        // Another installation was here.
        folder.write(MARK_FILE, "b 100").unwrap();
        Mark::read(&folder, &install("a")).unwrap().compare(&folder, &store).await.unwrap();
        assert_eq!(store.quarantine().await, Ok(None));
        // It was further.
        folder.write(MARK_FILE, "a 100").unwrap();
        let mut mark = Mark::read(&folder, &install("a")).unwrap();
        mark.compare(&folder, &store).await.unwrap();
        let begun = store.quarantine().await.unwrap().unwrap();
        assert!(begun.why.contains("ends at 0") && begun.why.contains("seen 100"), "{}", begun.why);
        // Once it is confirmed it is beyond the mark, which follows.
        store.quarantine_end(1).await.unwrap();
        mark.compare(&folder, &store).await.unwrap();
        assert_eq!(store.quarantine().await, Ok(None));
        let reached = store.high_water().await.unwrap();
        assert_eq!(fs::read_to_string(temp.path().join(MARK_FILE)).unwrap(), format!("a {reached}\n"));
    }

    #[test]
    fn a_damaged_mark_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temp.path()).unwrap();
        for damaged in ["", "a", "a x", "a -1"] {
            folder.write(MARK_FILE, damaged).unwrap();
            assert!(Mark::read(&folder, &install("a")).is_err(), "{damaged:?}");
        }
    }
}
