//! One server per data folder, and one per database: folders that differ may name one database.
//!
//! The lock is the kernel's, on an open file: it ends with the process that holds it, however that ends. The pid inside
//! the file is for the message only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The lock's file in a data folder.
const LOCK_FILE: &str = "lock";

/// Why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "{} is in use by another freehold{}: stop it first, or give this one another",
        held.display(),
        pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    Held {
        /// The data folder or the database.
        held: PathBuf,
        /// The process that has it, where it said so.
        pid: Option<u32>,
    },
    /// The lock file cannot be written.
    #[error("cannot lock {}: make the folder writable for this user", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Holds a data folder or a database until it is dropped.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Locks a data folder, which must exist.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's pid if another process has it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        Self::on(dir.join(LOCK_FILE), dir)
    }

    /// Locks a database, which need not exist yet, whatever links lead to it. The lock is a file beside it: SQLite's own
    /// locks end with each transaction.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's pid if another process has it.
    pub fn of_database(database: &Path) -> Result<Self, LockError> {
        let real = database.canonicalize().unwrap_or_else(|_| database.to_owned());
        let mut path = real.into_os_string();
        path.push(".lock");
        Self::on(path.into(), database)
    }

    fn on(path: PathBuf, held: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A pid that cannot be read is missing from the message, that is all.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(LockError::Held { held: held.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_and_told_who_has_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DataDirLock::acquire(dir.path()).expect("free");
        let refused = DataDirLock::acquire(dir.path()).expect_err("taken").to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        DataDirLock::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn a_database_is_locked_whatever_links_lead_to_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (database, link) = (dir.path().join("registry.db"), dir.path().join("link.db"));
        std::fs::write(&database, b"").expect("a file");
        std::os::unix::fs::symlink(&database, &link).expect("a link");
        let first = DataDirLock::of_database(&database).expect("free");
        let refused = DataDirLock::of_database(&link).expect_err("taken").to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        DataDirLock::of_database(&link).expect("free again");
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_clear_error() {
        let refused = DataDirLock::acquire(Path::new("/proc/freehold")).expect_err("no folder").to_string();
        assert!(refused.contains("cannot lock /proc/freehold/lock"), "{refused}");
    }
}
