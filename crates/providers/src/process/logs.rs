//! The logs of an instance as the port hands them out.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use freehold_engine::ports::{LogQuery, LogReader};
use tokio::task::JoinHandle;

use super::folder::{Folder, Standing};
use super::log::{Cursor, Piece};
use super::record::{self, Marker, Record};
use super::work::Place;

/// How long to wait before looking whether more was written.
const POLL: Duration = Duration::from_millis(100);

/// Reads the logs of one instance. A call that is given up loses nothing: the next one goes on with its reading.
#[derive(Debug)]
pub(super) struct Reader {
    folder: Folder,
    marker: Marker,
    follow: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    At(Cursor),
    Reading(JoinHandle<Read>),
    Ended,
}

#[derive(Debug)]
struct Read {
    piece: io::Result<Piece>,
    cursor: Cursor,
    /// Whether more may be written after this.
    goes_on: bool,
}

impl Reader {
    pub(super) fn open(place: &Place, query: LogQuery) -> Result<Self, String> {
        let folder = place.folder();
        match place.standing(&folder).map_err(|error| error.to_string())? {
            Standing::Ours { base: true, .. } => {}
            Standing::Ours { base: false, .. } | Standing::Missing => return Err("there is no instance".to_owned()),
            Standing::Foreign => return Err("the instance's folder is somebody else's".to_owned()),
        }
        let cursor = Cursor::at_tail(folder.logs(), query.tail).map_err(|error| error.to_string())?;
        Ok(Self { folder, marker: Marker::of(&place.ident), follow: query.follow, state: State::At(cursor) })
    }
}

/// Whether anything may still write: the program, or the shim with its last words.
fn may_be_written(folder: &Folder, marker: &Marker) -> io::Result<bool> {
    match Record::read(folder)? {
        Some(record) if record.is_alive(folder, marker)? || record.shim_is_alive()? => Ok(true),
        Some(_) => Ok(false),
        None => Ok(record::look(folder, marker)?.is_some()),
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::At(mut cursor) => {
                    let (folder, marker, follow) = (self.folder.clone(), self.marker.clone(), self.follow);
                    State::Reading(tokio::task::spawn_blocking(move || {
                        // In this order: what is written before the end is read before the end.
                        let goes_on = follow && may_be_written(&folder, &marker).unwrap_or(false);
                        Read { piece: cursor.next(), cursor, goes_on }
                    }))
                }
                reading @ State::Reading(_) => reading,
                State::Ended => return None,
            };
            let State::Reading(reading) = &mut self.state else { return None };
            let read = reading.await;
            self.state = State::Ended;
            let Read { piece, mut cursor, goes_on } = read.ok()?;
            match piece {
                Ok(Piece::Lines(lines)) => {
                    self.state = State::At(cursor);
                    return Some(lines);
                }
                Ok(Piece::Nothing) if goes_on => {
                    self.state = State::At(cursor);
                    tokio::time::sleep(POLL).await;
                }
                Ok(Piece::Nothing) | Err(_) => return cursor.rest(),
            }
        }
    }
}
