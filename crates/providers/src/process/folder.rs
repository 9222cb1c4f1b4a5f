//! The folder of one instance, and the two locks that make a launch and a seal exclude each other.
//!
//! ```text
//! instances/ID/          locked (flock) while anything in it is made, sealed or removed
//!   owner                the tags: the base is there if this is; appears together with the folder
//!   tombstone            the tags again: nothing is made here any more; stays for ever
//!   volume/  work/       the storage, and where a program without one works
//!   logs/                what it wrote
//!   ports                the ports it was given, the one in use last
//!   launch.lock          held (flock) by the shim and inherited by the program, for as long as either lives
//!   runtime  exit  stop  what was launched, how it ended, which launch was asked to stop
//! ```
//!
//! A launch happens under the folder's lock, after a look at the tombstone; the tombstone is made under the same lock.
//! So once it is there, a launch either is on record or will be refused. A lock goes with the processes that hold it,
//! however they die.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_domain::ids::InstanceId;
use freehold_engine::ports::Tags;
use serde::{Deserialize, Serialize};

use super::durable;

/// How long to wait before asking for a lock again: a launch takes a few milliseconds.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    pub(super) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn instances(&self) -> PathBuf {
        self.data_dir.join("instances")
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.data_dir.join("ports")
    }

    pub(super) fn folder(&self, instance: InstanceId) -> Folder {
        let instances = self.instances();
        Folder { path: instances.join(instance.to_string()), instances }
    }
}

/// The tags as they are written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrittenTags {
    freehold_install: String,
    freehold_instance: String,
    freehold_owner: String,
    freehold_mac: String,
}

impl From<&Tags> for WrittenTags {
    fn from(tags: &Tags) -> Self {
        Self {
            freehold_install: tags.install.clone(),
            freehold_instance: tags.instance.clone(),
            freehold_owner: tags.owner.clone(),
            freehold_mac: tags.mac.clone(),
        }
    }
}

impl From<WrittenTags> for Tags {
    fn from(tags: WrittenTags) -> Self {
        Self {
            install: tags.freehold_install,
            instance: tags.freehold_instance,
            owner: tags.freehold_owner,
            mac: tags.freehold_mac,
        }
    }
}

/// Whose a folder is, and what may happen in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none.
    Missing,
    /// It has our name, and nothing that proves it ours: it is left alone.
    Foreign,
    /// Ours.
    Ours {
        /// Whether it is a base, as opposed to what is left of one.
        base: bool,
        /// Whether nothing may be made in it any more.
        sealed: bool,
    },
}

/// The folder of one instance.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    instances: PathBuf,
}

/// A folder's lock, for as long as this lives.
#[derive(Debug)]
pub(super) struct Locked(#[expect(dead_code, reason = "closing it is what unlocks")] File);

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of folders.
    pub(super) fn instances(&self) -> &Path {
        &self.instances
    }

    pub(super) fn owner(&self) -> PathBuf {
        self.path.join("owner")
    }

    pub(super) fn tombstone(&self) -> PathBuf {
        self.path.join("tombstone")
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.path.join("volume")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.path.join("ports")
    }

    pub(super) fn runtime(&self) -> PathBuf {
        self.path.join("runtime")
    }

    pub(super) fn exit(&self) -> PathBuf {
        self.path.join("exit")
    }

    pub(super) fn stop(&self) -> PathBuf {
        self.path.join("stop")
    }

    pub(super) fn launch_lock(&self) -> PathBuf {
        self.path.join("launch.lock")
    }

    /// The tags of the base, if it is there.
    pub(super) fn owner_tags(&self) -> io::Result<Option<Tags>> {
        Ok(durable::read_record::<WrittenTags>(&self.owner())?.map(Tags::from))
    }

    /// Whether nothing may be made here any more.
    pub(super) fn is_sealed(&self) -> io::Result<bool> {
        durable::is_there(&self.tombstone())
    }

    /// Decides whose the folder is; `is_ours` checks tags.
    pub(super) fn standing(&self, is_ours: impl Fn(&Tags) -> bool) -> io::Result<Standing> {
        let standing = self.standing_once(&is_ours)?;
        // A folder that went away and came back between two reads looks like nobody's: look again.
        if standing == Standing::Foreign { self.standing_once(&is_ours) } else { Ok(standing) }
    }

    fn standing_once(&self, is_ours: impl Fn(&Tags) -> bool) -> io::Result<Standing> {
        match durable::there(fs::symlink_metadata(&self.path))? {
            None => return Ok(Standing::Missing),
            Some(found) if !found.is_dir() => return Ok(Standing::Foreign),
            Some(_) => {}
        }
        // In this order: a base that is being removed has its tombstone first.
        let base = durable::is_there(&self.owner())?;
        let sealed = self.is_sealed()?;
        let tags = if base { self.owner_tags()? } else { None };
        let tags = match tags {
            Some(tags) => Some(tags),
            None => durable::read_record::<WrittenTags>(&self.tombstone())?.map(Tags::from),
        };
        if tags.is_some_and(|tags| is_ours(&tags)) {
            return Ok(Standing::Ours { base, sealed });
        }
        Ok(if durable::is_there(&self.path)? { Standing::Foreign } else { Standing::Missing })
    }

    /// Makes the folder with one file of tags in it, all in one step. [`ErrorKind::AlreadyExists`] if it is there.
    fn publish(&self, file: &str, tags: &Tags, subfolders: &[&str]) -> io::Result<()> {
        let draft = durable::draft_folder(&self.instances)?;
        let made = subfolders
            .iter()
            .try_for_each(|name| durable::make_folder(&draft.join(name)))
            .and_then(|()| durable::create(&draft.join(file), &serde_json::to_vec(&WrittenTags::from(tags))?))
            .and_then(|()| durable::publish_folder(&draft, &self.path));
        if made.is_err() {
            durable::remove_tree(&draft)?;
        }
        made
    }

    /// Makes the base. [`ErrorKind::AlreadyExists`] if a folder is there, whosever it is.
    pub(super) fn make_base(&self, tags: &Tags) -> io::Result<()> {
        self.publish("owner", tags, &["work", "logs"])
    }

    /// Makes a folder that is sealed from the start. [`ErrorKind::AlreadyExists`] if a folder is there.
    pub(super) fn make_sealed(&self, tags: &Tags) -> io::Result<()> {
        self.publish("tombstone", tags, &[])
    }

    /// Seals the folder. The caller holds its lock.
    pub(super) fn seal(&self, _locked: &Locked, tags: &Tags) -> io::Result<()> {
        match durable::create(&self.tombstone(), &serde_json::to_vec(&WrittenTags::from(tags))?) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => durable::sync_folder(&self.path),
            other => other,
        }
    }

    /// Takes the folder's lock. `None` if somebody else holds it until `deadline`; [`ErrorKind::NotFound`] if there is
    /// no folder.
    pub(super) fn lock(&self, deadline: Instant) -> io::Result<Option<Locked>> {
        loop {
            let file = File::open(&self.path)?;
            match file.try_lock() {
                Ok(()) => {
                    // What was locked may have been removed, and another one put in its place.
                    let (locked, named) = (file.metadata()?, fs::metadata(&self.path)?);
                    if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
                        return Ok(Some(Locked(file)));
                    }
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// Takes the launch lock in a way that a program can inherit. `None` if it is held.
    pub(super) fn take_launch_lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().append(true).create(true).open(self.launch_lock())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a shim or a program of this instance lives, known or not.
    pub(super) fn launch_lock_is_held(&self) -> io::Result<bool> {
        let Some(file) = durable::there(File::open(self.launch_lock()))? else { return Ok(false) };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> (tempfile::TempDir, Folder, Tags) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        durable::make_folder(&layout.instances()).unwrap();
        let folder = layout.folder(InstanceId::mint(1, [1; 10]));
        let [install, instance, owner, mac] = ["prod", "i", "o", "m"].map(str::to_owned);
        (dir, folder, Tags { install, instance, owner, mac })
    }

    #[test]
    fn a_base_and_a_seal_that_race_end_in_one_folder() {
        let (_dir, folder, tags) = setup();
        assert_eq!(folder.standing(|_| true).unwrap(), Standing::Missing);
        folder.make_sealed(&tags).unwrap();
        assert_eq!(folder.make_base(&tags).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(folder.standing(|found| *found == tags).unwrap(), Standing::Ours { base: false, sealed: true });
        assert_eq!(fs::read_dir(folder.instances()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn only_valid_tags_make_a_folder_ours() {
        let (_dir, folder, tags) = setup();
        folder.make_base(&tags).unwrap();
        assert_eq!(folder.standing(|found| *found == tags).unwrap(), Standing::Ours { base: true, sealed: false });
        assert_eq!(folder.standing(|_| false).unwrap(), Standing::Foreign);
        fs::remove_file(folder.owner()).unwrap();
        assert_eq!(folder.standing(|_| true).unwrap(), Standing::Foreign, "a name alone proves nothing");
        fs::remove_dir_all(folder.path()).unwrap();
        std::os::unix::fs::symlink("/", folder.path()).unwrap();
        assert_eq!(folder.standing(|_| true).unwrap(), Standing::Foreign);
    }

    #[test]
    fn a_lock_excludes_and_ends_with_its_holder() {
        let (_dir, folder, tags) = setup();
        assert_eq!(folder.lock(Instant::now()).unwrap_err().kind(), ErrorKind::NotFound);
        folder.make_base(&tags).unwrap();
        let held = folder.lock(Instant::now()).unwrap().unwrap();
        assert!(folder.lock(Instant::now()).unwrap().is_none());
        drop(held);
        assert!(folder.lock(Instant::now()).unwrap().is_some());

        assert!(!folder.launch_lock_is_held().unwrap());
        let held = folder.take_launch_lock().unwrap().unwrap();
        assert!(folder.launch_lock_is_held().unwrap() && folder.take_launch_lock().unwrap().is_none());
        drop(held);
        assert!(!folder.launch_lock_is_held().unwrap());
    }
}
