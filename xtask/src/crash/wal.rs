//! The log of a SQLite database as bytes: what is committed in it, and frames that continue it.
//!
//! From the SQLite file format, section 4 ("The Write-Ahead Log"). All numbers are big-endian. A header of 32 bytes:
//! magic, version, page size, checkpoint number, two salts, two checksums. Then frames, each a header of 24 bytes (page
//! number, size of the database in pages where the frame is a commit and 0 elsewhere, two salts, two checksums) and a
//! page. A frame counts if its salts are the header's and its checksums continue those of the frame before; what is
//! committed ends with the last frame that counts and is a commit.

use anyhow::{Result, ensure};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The magic number. Its last bit says in which order the words of a checksum are read.
const MAGIC: u32 = 0x377f_0682;

const VERSION: u32 = 3_007_000;

/// A log, read.
#[derive(Debug)]
pub(super) struct Wal {
    page_size: usize,
    big_endian: bool,
    salts: [u8; 8],
    /// The checksums of the last frame that is committed.
    sums: [u32; 2],
    /// How many frames are committed.
    pub(super) frames: usize,
    /// Where the last of them ends.
    pub(super) committed: usize,
}

impl Wal {
    /// Reads as much of a log as counts.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() >= HEADER, "a log of {} bytes has no header", bytes.len());
        let magic = word(bytes, 0);
        ensure!(magic & !1 == MAGIC && word(bytes, 4) == VERSION, "no log of SQLite's");
        let page_size = word(bytes, 8) as usize;
        let big_endian = magic & 1 == 1;
        let mut sums = checksum(big_endian, [0, 0], &bytes[..24]);
        ensure!(sums == [word(bytes, 24), word(bytes, 28)], "the log's header is damaged");
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[16..24]);
        let mut wal = Self { page_size, big_endian, salts, sums, frames: 0, committed: HEADER };
        for (index, frame) in bytes[HEADER..].chunks_exact(FRAME_HEADER + page_size).enumerate() {
            sums = wal.sums_of(sums, frame);
            if frame[8..16] != wal.salts || sums != [word(frame, 16), word(frame, 20)] {
                break;
            }
            if word(frame, 4) != 0 {
                (wal.sums, wal.frames) = (sums, index + 1);
                wal.committed = HEADER + wal.frames * frame.len();
            }
        }
        Ok(wal)
    }

    fn sums_of(&self, before: [u32; 2], frame: &[u8]) -> [u32; 2] {
        checksum(self.big_endian, checksum(self.big_endian, before, &frame[..8]), &frame[FRAME_HEADER..])
    }

    /// Frames that continue what is committed, for page 1, full of `fill`: only the last may be a commit.
    pub(super) fn continued(&self, count: usize, fill: u8, commits: bool) -> Vec<u8> {
        let (mut sums, mut bytes) = (self.sums, Vec::new());
        for index in 0..count {
            let size = u32::from(commits && index + 1 == count);
            let mut frame = [1, size].map(u32::to_be_bytes).concat();
            frame.extend(self.salts);
            frame.extend([0; 8]);
            frame.resize(FRAME_HEADER + self.page_size, fill);
            sums = self.sums_of(sums, &frame);
            frame[16..FRAME_HEADER].copy_from_slice(&sums.map(u32::to_be_bytes).concat());
            bytes.extend(frame);
        }
        bytes
    }

    /// The length of a frame.
    pub(super) fn frame_length(&self) -> usize {
        FRAME_HEADER + self.page_size
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `s0 += x0 + s1; s1 += x1 + s0` over pairs of words.
fn checksum(big_endian: bool, before: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let number = |at: &[u8]| {
        let bytes = [at[0], at[1], at[2], at[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(before, |[s0, s1], pair| {
        let s0 = s0.wrapping_add(number(&pair[..4])).wrapping_add(s1);
        [s0, s1.wrapping_add(number(&pair[4..])).wrapping_add(s0)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A log that SQLite wrote: some commits, the last with `last` in it, and a transaction that is open.
    fn written(folder: &std::path::Path) -> (Connection, Vec<u8>) {
        let conn = Connection::open(folder.join("a.db")).unwrap();
        conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        conn.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);").unwrap();
        let bytes = std::fs::read(folder.join("a.db-wal")).unwrap();
        (conn, bytes)
    }

    /// What a database with this log holds.
    fn held(folder: &std::path::Path, log: &[u8]) -> rusqlite::Result<i64> {
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join("a.db"), other.path().join("a.db")).unwrap();
        std::fs::write(other.path().join("a.db-wal"), log).unwrap();
        Connection::open(other.path().join("a.db")).unwrap().query_row("SELECT sum(x) FROM t", [], |row| row.get(0))
    }

    #[test]
    fn what_is_committed_is_what_sqlite_says_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let (_conn, bytes) = written(folder.path());
        let wal = Wal::read(&bytes).unwrap();
        assert_eq!((wal.committed, wal.frames), (bytes.len(), (bytes.len() - HEADER) / wal.frame_length()));
        assert_eq!(held(folder.path(), &bytes), Ok(3));
        // One byte less, and the last commit is none.
        let torn = Wal::read(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(torn.frames, wal.frames - 1);
        assert_eq!(held(folder.path(), &bytes[..torn.committed]), Ok(1));
    }

    #[test]
    fn a_frame_that_continues_the_log_counts_for_sqlite_too_if_it_commits() {
        let folder = tempfile::tempdir().unwrap();
        let (_conn, bytes) = written(folder.path());
        let wal = Wal::read(&bytes).unwrap();
        let with = |more: Vec<u8>| [bytes.clone(), more].concat();
        assert_eq!(held(folder.path(), &with(wal.continued(2, 0xff, false))), Ok(3), "half a transaction is none");
        // The twin: what would be wrong if such a frame did count.
        let commit = with(wal.continued(1, 0xff, true));
        assert_eq!(Wal::read(&commit).unwrap().frames, wal.frames + 1);
        assert!(held(folder.path(), &commit).is_err(), "a first page of garbage");
    }
}
