//! A copy of a registry that somebody serves, good by itself: one moment of it, whole, marked as a copy.
//!
//! - The copy is made beside its place, checked, synced, and put there at once: a copy that is there is good.
//! - It is in quarantine from its first moment on. Whoever starts a server on it is told, and nothing is changed at a
//!   provider until somebody has looked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use freehold_domain::time::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::connect;
use super::migrate::{self, MigrateError};

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// How large it is, in bytes.
    pub bytes: u64,
    /// How far the audit trail in it is.
    pub position: u64,
    /// How many instances are in it.
    pub instances: u64,
    /// Whether it is in quarantine; a registry of a schema before there was one cannot be.
    pub marked: bool,
}

/// Why no copy was made. Nothing was put in its place.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no registry.
    #[error("there is no registry at {}", .0.display())]
    Missing(PathBuf),
    /// Something is where the copy was to be.
    #[error("{} is there already", .0.display())]
    There(PathBuf),
    /// The registry is none that this program reads.
    #[error(transparent)]
    Schema(#[from] MigrateError),
    /// The copy is not good.
    #[error("the copy is not good: {0}")]
    Damaged(String),
    /// SQLite refused.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The copy cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a copy is called until it is good.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What is not there any more was put in its place.
        let _ = fs::remove_file(&self.0);
    }
}

/// Copies the registry at `from` to `to`, while somebody may serve it. `over`: in the place of a file that is there.
///
/// # Errors
/// [`BackupError`]; what was at `to` is there as it was.
pub fn backup(from: &Path, to: &Path, why: &str, now: Timestamp, over: bool) -> Result<Backup, BackupError> {
    if !from.exists() {
        return Err(BackupError::Missing(from.to_owned()));
    }
    if migrate::status(from)?.database == 0 {
        return Err(BackupError::Missing(from.to_owned()));
    }
    if !over && to.symlink_metadata().is_ok() {
        return Err(BackupError::There(to.to_owned()));
    }
    let io = |source| BackupError::Io { path: to.to_owned(), source };
    let name = to.file_name().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = Unfinished(folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id())));
    let Unfinished(path) = &unfinished;
    // The keys of the installation are in it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    copy(from, path)?;
    let backup = mark(path, why, now)?;
    File::open(path).and_then(|file| file.sync_all()).map_err(io)?;
    if over {
        fs::rename(path, to).map_err(io)?;
    } else {
        // A link never takes the place of what is there.
        fs::hard_link(path, to).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::There(to.to_owned()),
            _ => io(error),
        })?;
    }
    drop(unfinished);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(backup)
}

/// Copies one moment: readers and the writer go on meanwhile.
fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let conn = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(connect::BUSY_WAIT)?;
    conn.execute("VACUUM INTO ?1", params![to.to_string_lossy()])?;
    Ok(())
}

/// Puts a copy in quarantine, and looks whether it is whole.
fn mark(path: &Path, why: &str, now: Timestamp) -> Result<Backup, BackupError> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    let checked: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if checked != "ok" {
        return Err(BackupError::Damaged(checked));
    }
    let knows = conn.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'quarantine'", [], |_| Ok(())).optional()?;
    if knows.is_some() {
        // The row of an earlier quarantine stays where this one would stand; what it says beyond that is kept.
        conn.execute(
            "INSERT INTO quarantine (only_row, why, since) VALUES (1, ?1, ?2) \
             ON CONFLICT (only_row) DO UPDATE SET why = excluded.why, since = excluded.since",
            params![why, now.as_micros()],
        )?;
        let ends = "SELECT 1 FROM pragma_table_info('quarantine') WHERE name = 'ended_at'";
        if conn.query_row(ends, [], |_| Ok(())).optional()?.is_some() {
            conn.execute("UPDATE quarantine SET ended_at = NULL", [])?;
        }
    }
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
    let backup = Backup {
        bytes: number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
        position: number("SELECT coalesce(max(position), 0) FROM audit")?,
        instances: number("SELECT count(*) FROM reservations")?,
        marked: knows.is_some(),
    };
    conn.close().map_err(|(_, error)| error)?;
    Ok(backup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(folder: &Path) -> PathBuf {
        let path = folder.join("registry.db");
        migrate::up(&path, Timestamp::from_micros(1)).expect("it is made");
        path
    }

    #[test]
    fn a_copy_is_in_quarantine_and_its_original_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (registry(folder.path()), folder.path().join("copy.db"));
        let made = backup(&from, &to, "a copy", Timestamp::from_micros(7), false).expect("it is made");
        assert!(made.marked && made.bytes > 0, "{made:?}");
        let why = |path: &Path| {
            let conn = Connection::open(path).expect("opens");
            conn.query_row("SELECT why FROM quarantine WHERE ended_at IS NULL", [], |row| row.get::<_, String>(0)).ok()
        };
        assert_eq!((why(&from), why(&to)), (None, Some("a copy".to_owned())));
        let left = fs::read_dir(folder.path()).expect("reads").flatten();
        assert!(!left.into_iter().any(|file| file.file_name().to_string_lossy().starts_with('.')), "nothing is left");
    }

    #[test]
    fn what_is_there_stays_unless_it_is_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (registry(folder.path()), folder.path().join("copy.db"));
        fs::write(&to, b"precious").expect("written");
        let refused = backup(&from, &to, "a copy", Timestamp::from_micros(7), false);
        assert!(matches!(refused, Err(BackupError::There(_))), "{refused:?}");
        assert_eq!(fs::read(&to).expect("reads"), b"precious");
        backup(&from, &to, "a copy", Timestamp::from_micros(7), true).expect("it is meant");
        assert_eq!(migrate::status(&to).expect("a database").pending, []);
    }

    #[test]
    fn what_is_no_registry_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("nothing.db"), folder.path().join("copy.db"));
        let missing = backup(&from, &to, "a copy", Timestamp::from_micros(7), false);
        assert!(matches!(missing, Err(BackupError::Missing(_))), "{missing:?}");
        fs::write(&from, b"this is no database, whatever its name says of it").expect("written");
        let foreign = backup(&from, &to, "a copy", Timestamp::from_micros(7), false);
        assert!(matches!(foreign, Err(BackupError::Schema(_))), "{foreign:?}");
        assert!(!to.exists() && from.exists());
    }
}
