//! A disk that fails on cue, for the database of one house: `failing_disk.c`, preloaded into the server.
//!
//! Instances never see it: they are started with an environment of their own.

use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::house::{House, text};
use crate::workspace;

const SOURCE: &str = include_str!("failing_disk.c");

/// The disk, and the folder with its switches.
pub(super) struct FailingDisk {
    switches: PathBuf,
}

impl FailingDisk {
    /// Puts it under the database of a house whose server has not been started.
    pub(super) fn under(house: &mut House) -> Result<Self> {
        let switches = house.folder().join("disk");
        std::fs::create_dir(&switches)?;
        let (source, library) = (switches.join("failing_disk.c"), switches.join("failing_disk.so"));
        std::fs::write(&source, SOURCE)?;
        let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(&library)
            .arg(&source);
        workspace::succeed(&mut cc).context("compiling the disk that fails; it needs a C compiler, as SQLite does")?;
        // As the kernel calls it: through no link.
        let database = house.data_dir().canonicalize()?.join("registry.db");
        house.env.push(("LD_PRELOAD", text(&library)?.to_owned()));
        house.env.push(("DISK_OF", text(&database)?.to_owned()));
        house.env.push(("DISK_SWITCHES", text(&switches)?.to_owned()));
        Ok(Self { switches })
    }

    /// Whether each sync fails from here on.
    pub(super) fn fail_syncs(&self, fail: bool) -> Result<()> {
        self.switch("fail-sync", fail)
    }

    /// Whether there is no room from here on.
    pub(super) fn fill(&self, full: bool) -> Result<()> {
        self.switch("full", full)
    }

    fn switch(&self, name: &str, on: bool) -> Result<()> {
        let path = self.switches.join(name);
        if on {
            File::create(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// How many syncs have failed.
    pub(super) fn failed_syncs(&self) -> Result<u64> {
        match self.switches.join("failed-syncs").metadata() {
            Ok(counted) => Ok(counted.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves what a power cut would leave of the database: what the last good sync of each of its files put on the disk.
    /// The server is dead. Answers how many pages of the files are not what they were.
    pub(super) fn cut_power(&self, house: &House) -> Result<usize> {
        let mut lost = 0;
        for (file, disk) in [(house.database(), "db.disk"), (house.database_log(), "wal.disk")] {
            let disk = std::fs::read(self.switches.join(disk))?;
            lost += differences(&std::fs::read(&file).unwrap_or_default(), &disk);
            write_whole(&file, &disk)?;
            File::create(self.switches.join(if file == house.database() { "db.dirty" } else { "wal.dirty" }))?;
        }
        // The index of the log lives in memory; the next life makes it anew.
        std::fs::remove_file(house.database().with_extension("db-shm"))?;
        Ok(lost)
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}

fn differences(one: &[u8], other: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let page = |of: &[u8], index: usize| {
        of.get(index * PAGE..).map(|rest| rest[..rest.len().min(PAGE)].to_vec()).unwrap_or_default()
    };
    (0..one.len().max(other.len()).div_ceil(PAGE)).filter(|index| page(one, *index) != page(other, *index)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a page of `fill` at the page `at` of a house's database, and syncs it. Answers whether both went well.
    fn write(house: &House, fill: u8, at: usize) -> bool {
        let page = house.folder().join("page");
        std::fs::write(&page, [fill; 4096]).unwrap();
        // Opened for reading as well, as SQLite does.
        let mut dd = Command::new("sh");
        dd.args(["-c", "exec dd if=\"$0\" bs=4096 conv=notrunc,fsync seek=\"$1\" status=none 1<>\"$2\""]);
        dd.arg(page).arg(at.to_string()).arg(house.database()).envs(house.env.iter().cloned());
        dd.output().unwrap().status.success()
    }

    #[test]
    fn a_page_whose_sync_failed_is_read_and_is_not_on_the_disk_until_it_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::new(Path::new("none"), folder.path(), "test-of-the-disk".to_owned()).unwrap();
        let disk = FailingDisk::under(&mut house).unwrap();
        let pages = |path: &Path| std::fs::read(path).unwrap().chunks(4096).map(|page| page[0]).collect::<Vec<_>>();
        let on_disk = || pages(&disk.switches.join("db.disk"));
        let read = || pages(&house.database());
        assert!(write(&house, b'a', 0));
        disk.fail_syncs(true).unwrap();
        assert!(!write(&house, b'b', 0));
        disk.fail_syncs(false).unwrap();
        assert!(write(&house, b'c', 1), "another process, whose sync is good");
        assert_eq!((read(), on_disk()), (b"bc".to_vec(), b"ac".to_vec()));
        // The twin: what makes it last.
        assert!(write(&house, b'b', 0));
        assert_eq!((on_disk(), disk.failed_syncs().unwrap()), (b"bc".to_vec(), 1));
        disk.fill(true).unwrap();
        assert!(write(&house, b'd', 1), "there is room for what was there");
        assert!(!write(&house, b'd', 2));
        assert_eq!(on_disk(), b"bd");
    }
}
