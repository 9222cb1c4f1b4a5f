//! Reading: from a number of lines before the end, then on, across rotations, in bounded memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{LINE_BYTES_MAX, OLD_FILES, file};
use crate::process::durable;

/// How much is read at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What reading on gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Whole lines.
    Lines(Vec<u8>),
    /// Nothing more for the moment.
    Nothing,
}

/// A place in a log.
#[derive(Debug)]
pub(crate) struct Cursor {
    folder: PathBuf,
    open: Option<File>,
    pending: Vec<u8>,
}

impl Cursor {
    /// The place `tail` lines before the end of the log in a folder.
    pub(crate) fn at_tail(folder: PathBuf, tail: usize) -> io::Result<Self> {
        let mut missing = tail;
        let mut open = None;
        for age in 0..=OLD_FILES {
            let Some(mut input) = durable::there(File::open(file(&folder, age)))? else { break };
            if missing == 0 && open.is_some() {
                break;
            }
            let (start, found) = tail_start(&mut input, missing)?;
            input.seek(SeekFrom::Start(start))?;
            missing -= found;
            open = Some(input);
        }
        Ok(Self { folder, open, pending: Vec::new() })
    }

    /// Reads on.
    pub(crate) fn next(&mut self) -> io::Result<Piece> {
        loop {
            if self.open.is_none() {
                self.open = durable::there(File::open(file(&self.folder, 0)))?;
            }
            let Some(input) = &mut self.open else { return Ok(Piece::Nothing) };
            let before = self.pending.len();
            input.take(PIECE_BYTES as u64).read_to_end(&mut self.pending)?;
            let whole = match self.pending.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if self.pending.len() >= LINE_BYTES_MAX => self.pending.len(),
                None => 0,
            };
            if whole > 0 {
                return Ok(Piece::Lines(self.pending.drain(..whole).collect()));
            }
            if self.pending.len() == before && !self.turn_over()? {
                return Ok(Piece::Nothing);
            }
        }
    }

    /// Goes from a file that was read to its end, and has been put aside, to the next newer one. Says whether it did.
    fn turn_over(&mut self) -> io::Result<bool> {
        let Some(input) = &mut self.open else { return Ok(false) };
        let own = identity(&input.metadata()?);
        let mut age = None;
        let mut oldest = 0;
        for candidate in 0..=OLD_FILES {
            if let Some(found) = durable::there(std::fs::metadata(file(&self.folder, candidate)))? {
                oldest = candidate;
                if identity(&found) == own {
                    age = Some(candidate);
                }
            }
        }
        // Ours may have been thrown away already; then the oldest that is left comes next.
        let next = match age {
            Some(0) => return Ok(false),
            Some(age) => age - 1,
            None => oldest,
        };
        // What was written between our last read and its being put aside.
        let before = self.pending.len();
        input.take(PIECE_BYTES as u64).read_to_end(&mut self.pending)?;
        if self.pending.len() > before {
            return Ok(true);
        }
        self.open = durable::there(File::open(file(&self.folder, next)))?;
        Ok(true)
    }

    /// The last line, if it has no end.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where the last `wanted` lines of a file begin, and how many there are up to there.
fn tail_start(input: &mut File, wanted: usize) -> io::Result<(u64, usize)> {
    let end = input.seek(SeekFrom::End(0))?;
    let (mut at, mut found) = (end, 0);
    let mut block = vec![0; PIECE_BYTES];
    if wanted == 0 {
        return Ok((end, 0));
    }
    while at > 0 {
        let size = usize::try_from(at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        at -= size as u64;
        input.seek(SeekFrom::Start(at))?;
        input.read_exact(&mut block[..size])?;
        for position in (0..size).rev() {
            // A line begins behind the end of the one before it.
            if block[position] == b'\n' && at + position as u64 + 1 < end {
                found += 1;
                if found == wanted {
                    return Ok((at + position as u64 + 1, found));
                }
            }
        }
    }
    Ok((0, if end > 0 { found + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::super::Log;
    use super::*;

    fn everything(cursor: &mut Cursor) -> String {
        let mut text = Vec::new();
        while let Piece::Lines(lines) = cursor.next().unwrap() {
            text.extend(lines);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_tail_has_as_many_lines_as_asked_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path().to_owned(), 100);
        let mut cursor = Cursor::at_tail(dir.path().to_owned(), 5).unwrap();
        assert_eq!(everything(&mut cursor), "");
        for line in 0..25 {
            log.append(format!("line number {line:03}\n").as_bytes()).unwrap();
        }
        // Four files with six lines each at most: the first six are gone.
        for (tail, first) in [(0, 25), (1, 24), (4, 21), (5, 20), (6, 19), (11, 14), (19, 6), (99, 6)] {
            let mut cursor = Cursor::at_tail(dir.path().to_owned(), tail).unwrap();
            let expected: String = (first..25).map(|line| format!("line number {line:03}\n")).collect();
            assert_eq!(everything(&mut cursor), expected, "{tail}");
        }
    }

    #[test]
    fn following_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path().to_owned(), 100);
        let mut cursor = Cursor::at_tail(dir.path().to_owned(), 0).unwrap();
        let (mut expected, mut got) = (String::new(), String::new());
        for line in 0..60 {
            let text = format!("line number {line:03}\n");
            log.append(text.as_bytes()).unwrap();
            expected += &text;
            // Sometimes several files behind, never more than are kept.
            if line % 13 == 0 {
                got += &everything(&mut cursor);
            }
        }
        got += &everything(&mut cursor);
        assert_eq!(got, expected);
    }

    #[test]
    fn a_line_without_end_is_given_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path(), 0), "one\ntwo").unwrap();
        let mut cursor = Cursor::at_tail(dir.path().to_owned(), 9).unwrap();
        assert_eq!(cursor.next().unwrap(), Piece::Lines(b"one\n".to_vec()));
        assert_eq!(cursor.next().unwrap(), Piece::Nothing);
        assert_eq!(cursor.rest(), Some(b"two".to_vec()));
    }
}
