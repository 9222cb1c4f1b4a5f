//! Writing that survives a crash: a file is there whole or not at all, and what was acknowledged is on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest record that is read, in bytes: many times what is ever written.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other process on this machine uses at the moment, nor this one ever again.
pub(super) fn unique(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Makes a folder and those above it, readable by us only.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes what happened to a folder's entries last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a file that was not there, whole. [`ErrorKind::AlreadyExists`] if it was.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, RenameFlags::NOREPLACE)
}

/// Puts a file in the place of the one that may be there, in one step.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, RenameFlags::empty())
}

fn put(path: &Path, content: &[u8], flags: RenameFlags) -> io::Result<()> {
    let (draft, mut file) = draft_file(parent(path))?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(renameat_with(CWD, &draft, CWD, path, flags)?));
    if written.is_err() {
        remove_if_there(&draft)?;
    }
    written.and_then(|()| sync_folder(parent(path)))
}

/// A new file beside its final place. A dead process with our pid, as in a container that was started again, may have
/// left drafts of the same names; they are not what [`ErrorKind::AlreadyExists`] tells of.
fn draft_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let draft = folder.join(unique(".draft-"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return Ok((draft, opened?)),
        }
    }
}

/// [`replace`] with a record.
pub(super) fn replace_record(path: &Path, record: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(record)?)
}

/// Reads a record. `None` if there is none, or none that makes sense.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(text) = read_if_there(path)? else { return Ok(None) };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a record makes no sense and counts as missing");
            Ok(None)
        }
    }
}

/// Reads a small file. `None` if there is none.
pub(super) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = there(File::open(path))? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Whether there is anything under the name, be it a link to nowhere.
pub(super) fn is_there(path: &Path) -> io::Result<bool> {
    Ok(there(fs::symlink_metadata(path))?.is_some())
}

/// `None` where there is nothing under a name.
pub(super) fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file, if there is one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    there(fs::remove_file(path)).map(drop)
}

/// Gives a folder its name in one step. [`ErrorKind::AlreadyExists`] if the name is taken.
pub(super) fn publish_folder(draft: &Path, path: &Path) -> io::Result<()> {
    renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE)?;
    sync_folder(parent(path))
}

/// Takes a folder out of sight in one step, then removes it. What a crash leaves behind has a name that means nothing.
pub(super) fn remove_folder(path: &Path, graveyard: &Path) -> io::Result<()> {
    let grave = graveyard.join(unique(".gone-"));
    if there(fs::rename(path, &grave))?.is_none() {
        return Ok(());
    }
    sync_folder(parent(path))?;
    remove_tree(&grave)
}

/// Removes a tree, even where its own owner took himself the right to.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match there(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            there(fs::remove_dir_all(path)).map(drop)
        }
        other => other.map(drop),
    }
}

/// Removes whatever is under a name.
pub(super) fn remove_tree_or_file(path: &Path) -> io::Result<()> {
    match there(fs::symlink_metadata(path))? {
        Some(found) if found.is_dir() => remove_tree(path),
        Some(_) => remove_if_there(path),
        None => Ok(()),
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes what processes that are gone left half made or half removed.
pub(super) fn remove_leftovers(folder: &Path, is_alive: impl Fn(u32) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = [".new-", ".gone-"].iter().find_map(|prefix| name.strip_prefix(prefix)) else { continue };
        let maker = rest.split('-').next().and_then(|pid| pid.parse().ok());
        if maker.is_some_and(|pid| !is_alive(pid)) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A draft of a folder beside its final place.
pub(super) fn draft_folder(graveyard: &Path) -> io::Result<PathBuf> {
    let draft = graveyard.join(unique(".new-"));
    make_folder(&draft)?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_a_dead_process_with_our_pid_left_half_made_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tombstone");
        let next = COUNTER.load(Ordering::Relaxed);
        for count in next..next + 100 {
            fs::write(folder.path().join(format!(".draft-{}-{count}", std::process::id())), "hal").unwrap();
        }
        create(&path, b"sealed").unwrap();
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"sealed", "it is not taken for there already");
    }

    #[test]
    fn a_record_that_makes_no_sense_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_record::<u32>(&path).unwrap(), None);
        create(&path, b"{").unwrap();
        assert_eq!(read_record::<u32>(&path).unwrap(), None);
        replace_record(&path, &7).unwrap();
        assert_eq!(read_record::<u32>(&path).unwrap(), Some(7));
    }

    #[test]
    fn of_two_who_publish_a_folder_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("final");
        let drafts = [draft_folder(folder.path()).unwrap(), draft_folder(folder.path()).unwrap()];
        publish_folder(&drafts[0], &path).unwrap();
        assert_eq!(publish_folder(&drafts[1], &path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_what_the_dead_left_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".new-1-0", ".gone-2-7", ".gone-x", "kept"] {
            make_folder(&folder.path().join(name).join("inside")).unwrap();
        }
        remove_leftovers(folder.path(), |pid| pid == 1).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".gone-x", ".new-1-0", "kept"]);
    }
}
