//! Writing: done by the shim, which must keep reading what the program says even if it can no longer be written down.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{LINE_BYTES_MAX, OLD_FILES, file};
use crate::process::durable;

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    file_bytes_max: u64,
    current: Mutex<Option<(File, u64)>>,
}

impl Log {
    /// A log in a folder, whose files have `file_bytes_max` bytes at most.
    pub(crate) fn open(folder: PathBuf, file_bytes_max: u64) -> Self {
        Self { folder, file_bytes_max, current: Mutex::new(None) }
    }

    /// Appends whole lines.
    pub(crate) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut output, mut size) = match current.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        if size > 0 && size + lines.len() as u64 > self.file_bytes_max {
            self.rotate()?;
            (output, size) = self.begin()?;
        }
        output.write_all(lines)?;
        size += lines.len() as u64;
        *current = Some((output, size));
        Ok(())
    }

    fn begin(&self) -> io::Result<(File, u64)> {
        let path = file(&self.folder, 0);
        let output = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let size = output.metadata()?.len();
        Ok((output, size))
    }

    fn rotate(&self) -> io::Result<()> {
        for age in (0..OLD_FILES).rev() {
            durable::there(fs::rename(file(&self.folder, age), file(&self.folder, age + 1)))?;
        }
        Ok(())
    }
}

/// Copies a stream to the log until it ends, line by line. Gives back its last line that says something.
pub(crate) fn pump(mut source: impl Read, log: &Log) -> Vec<u8> {
    let mut pending: Vec<u8> = Vec::new();
    let mut last = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let read = match source.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        pending.extend_from_slice(&chunk[..read]);
        if read == 0 && !pending.is_empty() {
            pending.push(b'\n');
        }
        let whole = match pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if pending.len() >= LINE_BYTES_MAX => pending.len(),
            None => 0,
        };
        if whole > 0 {
            let lines: Vec<u8> = pending.drain(..whole).collect();
            if let Some(line) = lines.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty()) {
                last = line.to_vec();
            }
            // A full disk must not stop the program: what cannot be written down is lost, and it goes on.
            drop(log.append(&lines));
        }
        if read == 0 {
            return last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path().to_owned(), 100);
        for line in 0..100 {
            log.append(format!("line number {line:03}\n").as_bytes()).unwrap();
        }
        let sizes: Vec<_> = (0..=OLD_FILES).map(|age| fs::metadata(file(dir.path(), age)).unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), OLD_FILES + 1);
        assert!(fs::read_to_string(file(dir.path(), 0)).unwrap().ends_with("line number 099\n"));
    }

    #[test]
    fn pumping_keeps_everything_and_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path().to_owned(), 1 << 20);
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("one\n{long}\nthe end\n\n");
        assert_eq!(pump(text.as_bytes(), &log), b"the end");
        assert_eq!(fs::read_to_string(file(dir.path(), 0)).unwrap(), text);
        assert_eq!(pump(&b"no line end"[..], &log), b"no line end");
        assert!(fs::read_to_string(file(dir.path(), 0)).unwrap().ends_with("no line end\n"));
    }

    #[test]
    fn a_disk_that_takes_nothing_does_not_stop_the_program() {
        let log = Log::open("/proc/nowhere".into(), 100);
        assert_eq!(pump(&b"words\n"[..], &log), b"words");
    }
}
