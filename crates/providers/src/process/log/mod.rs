//! What an instance wrote: a current file and a few old ones, each bounded, whole lines where lines are of bearable
//! length.

mod read;
mod write;

use std::path::{Path, PathBuf};

pub(super) use read::{Cursor, Piece};
pub(super) use write::{Log, pump};

/// How large a file becomes before another one is begun, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;

/// How many old files are kept beside the current one.
const OLD_FILES: usize = 3;

/// The longest line that is kept in one piece, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The file that is being written (0), or one of the old ones, newest first.
fn file(folder: &Path, age: usize) -> PathBuf {
    if age == 0 { folder.join("current.log") } else { folder.join(format!("old-{age}.log")) }
}
