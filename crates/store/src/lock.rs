//! One server per data folder.
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
        "{} is in use by another freehold{}: stop it first, or give this one another data folder",
        dir.display(),
        pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    Held {
        /// The data folder.
        dir: PathBuf,
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

/// Holds a data folder until it is dropped.
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
        let path = dir.join(LOCK_FILE);
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A pid that cannot be read is missing from the message, that is all.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(LockError::Held { dir: dir.to_owned(), pid });
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
    fn a_folder_that_is_not_there_is_a_clear_error() {
        let refused = DataDirLock::acquire(Path::new("/proc/freehold")).expect_err("no folder").to_string();
        assert!(refused.contains("cannot lock /proc/freehold/lock"), "{refused}");
    }
}
