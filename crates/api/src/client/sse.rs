//! Reading server-sent events from bytes as they come, however they are cut.
//!
//! Follows the WHATWG HTML standard, section 9.2.6: lines end in CR, LF or both; a blank line ends an event; comments
//! and fields that are not known are skipped; an event without data is none; an id stays until another one comes.

use serde::de::DeserializeOwned;

use super::ClientError;

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sse {
    /// Its name; `message` where the server gives none.
    pub event: String,
    /// The last id that was seen up to it; empty if there was none.
    pub id: String,
    /// Its data.
    pub data: String,
}

impl Sse {
    /// Its data as JSON.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if it is not what the caller expects.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.data)
            .map_err(|_| ClientError::unexpected(reqwest::StatusCode::OK, self.data.as_bytes()))
    }
}

/// Puts events together from chunks.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: String,
    id: String,
    data: Option<String>,
}

impl SseReader {
    /// Takes a chunk, and gives the events that it completes.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Sse> {
        let mut events = Vec::new();
        for &byte in chunk {
            let second_of_pair = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if second_of_pair => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take(&line));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn take(&mut self, line: &[u8]) -> Option<Sse> {
        let line = String::from_utf8_lossy(line);
        let line = if self.begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        self.begun = true;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let event = if event.is_empty() { "message".to_owned() } else { event };
            return self.data.take().map(|data| Sse { event, id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // `retry`, comments (an empty field name) and whatever comes later.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\u{feff}: hello\n\nevent: operation\nid: 1\ndata: {\"a\":1}\n\ndata: two\r\ndata:lines\r\n\r\n\
                          event: nothing\n\nretry: 5\nid: 2\rdata\r\rdata: cut";

    fn expected() -> Vec<Sse> {
        let event = |event: &str, id: &str, data: &str| Sse { event: event.into(), id: id.into(), data: data.into() };
        vec![event("operation", "1", "{\"a\":1}"), event("message", "1", "two\nlines"), event("message", "2", "")]
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        assert_eq!(SseReader::default().push(STREAM.as_bytes()), expected());
        assert_eq!(expected()[0].json::<serde_json::Value>().unwrap()["a"], 1);
        assert!(expected()[1].json::<serde_json::Value>().is_err());
    }

    proptest! {
        #[test]
        fn where_the_chunks_are_cut_makes_no_difference(cuts in proptest::collection::vec(1_usize..9, 1..200)) {
            let mut reader = SseReader::default();
            let (mut rest, mut events) = (STREAM.as_bytes(), Vec::new());
            for cut in cuts.into_iter().chain(std::iter::repeat(7)) {
                let (chunk, behind) = rest.split_at(cut.min(rest.len()));
                events.extend(reader.push(chunk));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(events, expected());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SseReader::default().push(&bytes);
        }
    }
}
