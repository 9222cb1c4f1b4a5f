//! Whether a container that is down was asked to stop: a file in it says which of its runs was.
//!
//! An engine does not tell a stop from an exit, and the labels of a container never change. So before a stop a file is put
//! into the container with the time at which the run began that is to end. A later run began at another time, and the file
//! says nothing about that. A program can write the file itself: then nobody brings it back, which is its own loss.

/// Where the file is.
pub(super) const FILE: &str = "/.freehold-stopped";

/// The size of the parts of an archive, in bytes (POSIX `ustar`).
const BLOCK: usize = 512;

/// An archive with the file in it.
pub(super) fn archive(started_at: &str) -> Vec<u8> {
    let content = started_at.as_bytes();
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, FILE.trim_start_matches('/').as_bytes());
    put(100, b"0000444\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    // The checksum is taken over a header with blanks in its place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

/// An archive with nothing in it.
pub(super) fn empty_archive() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// Whether an archive of the file names a run. Archives differ in what else they say, and a time is nothing else's.
pub(super) fn names(archive: &[u8], started_at: &str) -> bool {
    !started_at.is_empty() && archive.windows(started_at.len()).any(|part| part == started_at.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_run_it_was_written_for() {
        let archive = archive("2026-11-24T18:45:17.822760511Z");
        assert_eq!(archive.len(), 4 * BLOCK);
        assert!(names(&archive, "2026-11-24T18:45:17.822760511Z"));
        assert!(!names(&archive, "2026-11-24T18:45:17.822760512Z"));
        assert!(!names(&archive, ""));
    }
}
