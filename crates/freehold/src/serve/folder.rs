//! The data folder: made, locked and read at start-up. It says who this node is and who its operator is.
//!
//! Every file is written whole or not at all, so a start that was cut off leaves nothing that the next one stumbles over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_domain::lease::NodeId;
use freehold_store::{DataDirLock, LockError};

use crate::api_key::{ApiKey, chance_name, is_undamaged};
use crate::commands::OPERATOR_KEY_FILE;
use crate::config::{Secret, plain, read_file};
use crate::exit::Failure;

/// How long to wait for a lock whose holder is dead: a process between two programs needs microseconds of it.
const DEAD_HOLDER_WAIT: Duration = Duration::from_secs(5);

/// How long to rest before the lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The file with the node's name.
const NODE_ID_FILE: &str = "node_id";

/// A data folder that is this process's alone.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: DataDirLock,
}

impl DataFolder {
    /// Makes the folder if it is not there, and locks it.
    ///
    /// # Errors
    /// A folder that cannot be made or written, or that another server has.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unusable(path, &error))?;
        let path = path.canonicalize().map_err(|error| unusable(path, &error))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The node's name: the configured one, else the one that the first start minted.
    ///
    /// # Errors
    /// A file that cannot be read, holds no name, or cannot be written.
    pub(crate) fn node_id(&self, configured: Option<&str>) -> Result<NodeId, Failure> {
        let no_name = |text: &str, error: &dyn std::fmt::Display| Failure::failed(format!("{text:?}: {error}"));
        if let Some(name) = configured {
            return name.parse().map_err(|error| no_name(name, &error));
        }
        let path = self.path.join(NODE_ID_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                Failure::failed(format!("{} does not hold a node's name", path.display()))
                    .hint("put the name back that the node had, or delete the file to get a new one")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = format!("node-{}", chance_name()?);
                self.write(NODE_ID_FILE, &name)?;
                name.parse().map_err(|error| no_name(&name, &error))
            }
            Err(error) => Err(unusable(&path, &error)),
        }
    }

    /// The operator's key. The first start mints it, and so does the first one after the file was deleted: the key that
    /// was in it is worth nothing from then on.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or cannot be written.
    pub(crate) fn operator_key(&self) -> Result<Secret, Failure> {
        let path = self.path.join(OPERATOR_KEY_FILE);
        if !path.try_exists().map_err(|error| unusable(&path, &error))? {
            let key = ApiKey::mint(Some("operator"))?;
            self.write(OPERATOR_KEY_FILE, key.text.expose())?;
            tracing::info!(file = %path.display(), "minted a key for the operator");
            return Ok(key.text);
        }
        let hint = "put it back, or delete the file: the next start mints a new key";
        let key = read_file(&path).map_err(|error| Failure::failed(error.to_string()).hint(hint))?;
        if is_undamaged(key.expose()) {
            Ok(key)
        } else {
            Err(Failure::failed(format!("the key in {} is cut off or changed", path.display())).hint(hint))
        }
    }

    /// Writes a small file that only its owner reads, whole or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (path, draft) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            // What a start that was cut off left has the mode that it happened to get.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| unusable(&path, &error))
    }
}

/// Locks an existing data folder.
///
/// A server that was killed while it started a program may leave the lock with that program's process for a moment,
/// until it runs the program. So a lock whose holder is dead is waited for, and one whose holder lives is not.
fn lock(path: &Path) -> Result<DataDirLock, Failure> {
    let hint = "stop that one first, or give this one another folder with --data-dir";
    patiently(|| DataDirLock::acquire(path), "data folder", hint)
}

/// Locks the registry's database: another data folder may name the same one, and two servers with folders of their own
/// would each take the other's programs for gone.
///
/// # Errors
/// A server that has it, or a folder that cannot be written.
pub(crate) fn lock_database(path: &Path) -> Result<DataDirLock, Failure> {
    let hint = "stop that one first, or give this one another registry.url";
    patiently(|| DataDirLock::of_database(path), "database", hint)
}

fn patiently(
    acquire: impl Fn() -> Result<DataDirLock, LockError>,
    what: &str,
    hint: &str,
) -> Result<DataDirLock, Failure> {
    let deadline = Instant::now() + DEAD_HOLDER_WAIT;
    loop {
        match acquire() {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { pid: Some(pid), .. }) if Instant::now() < deadline && !is_alive(pid) => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(LockError::Held { held, pid }) => {
                let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("the server with pid {pid}"));
                let failure = Failure::failed(format!("the {what} {} is in use by {who}", held.display()));
                return Err(failure.hint(hint));
            }
            Err(LockError::Io { path, source }) => return Err(unusable(&path, &source)),
        }
    }
}

/// Whether there is such a process that is not a zombie.
fn is_alive(pid: u32) -> bool {
    // The state stands behind the program's name, which is in brackets and may hold brackets itself.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A file or folder that cannot be used, and what to do about it.
pub(crate) fn unusable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot use {}: {}", path.display(), plain(error)));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failure.hint("make room on the disk"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("let this user write there, or choose another folder with --data-dir")
        }
        _ => failure.hint("choose another data folder with --data-dir"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_names_the_node_and_its_operator_and_later_ones_keep_both() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let first = DataFolder::open(&path).unwrap();
        let (node, key) = (first.node_id(None).unwrap(), first.operator_key().unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(OPERATOR_KEY_FILE))), (0o700, 0o600));
        drop(first);
        let again = DataFolder::open(&path).unwrap();
        assert_eq!(again.node_id(None).unwrap(), node);
        assert_eq!(again.operator_key().unwrap(), key);
        assert_eq!(again.node_id(Some("node-a")).unwrap().as_str(), "node-a");
        fs::remove_file(path.join(OPERATOR_KEY_FILE)).unwrap();
        assert_ne!(again.operator_key().unwrap(), key, "a deleted key is worth nothing");
    }

    #[test]
    fn a_damaged_key_is_told_and_not_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temp.path()).unwrap();
        let key = folder.operator_key().unwrap();
        let path = temp.path().join(OPERATOR_KEY_FILE);
        for damaged in [&key.expose()[..20], " \n"] {
            fs::write(&path, damaged).unwrap();
            assert!(folder.operator_key().is_err(), "{damaged:?}");
        }
        fs::write(&path, "a key of the operator's own making").unwrap();
        assert_eq!(folder.operator_key().unwrap().expose(), "a key of the operator's own making");
        fs::write(temp.path().join(NODE_ID_FILE), "not a name").unwrap();
        assert!(folder.node_id(None).is_err());
    }

    #[test]
    fn what_a_start_that_was_cut_off_left_is_in_nobodys_way() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("operator.key.new"), "half").unwrap();
        let folder = DataFolder::open(temp.path()).unwrap();
        assert!(folder.operator_key().is_ok());
        assert!(!temp.path().join("operator.key.new").exists());
    }

    #[test]
    fn a_folder_has_one_server() {
        let temp = tempfile::tempdir().unwrap();
        let _first = DataFolder::open(temp.path()).unwrap();
        let refused = DataFolder::open(temp.path()).unwrap_err();
        assert!(refused.lines[0].contains(&format!("pid {}", std::process::id())), "{refused:?}");
        fs::write(temp.path().join("file"), "").unwrap();
        assert!(DataFolder::open(&temp.path().join("file/x")).is_err());
    }
}
