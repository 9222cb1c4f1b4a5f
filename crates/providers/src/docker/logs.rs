//! The logs of a container as the port hands them out: an engine sends pieces of either stream, and readers get whole lines.

use async_trait::async_trait;
use freehold_engine::ports::LogReader;

use super::wire::Opened;

/// The size of what is before each piece, in bytes: the stream, three zeros, and the length of the piece, high byte first.
const HEAD: usize = 8;

/// The longest line that is kept together, in bytes; and the longest piece that is waited for.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Reads the logs of one container.
#[derive(Debug)]
pub(super) struct Reader {
    opened: Option<Opened>,
    pieces: Pieces,
}

impl Reader {
    pub(super) fn new(opened: Opened) -> Self {
        Self { opened: Some(opened), pieces: Pieces::default() }
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(opened) = &mut self.opened {
            match opened.next().await {
                Some(Ok(bytes)) => {
                    if let Some(lines) = self.pieces.take(&bytes) {
                        return Some(lines);
                    }
                }
                Some(Err(_)) | None => self.opened = None,
            }
        }
        self.pieces.rest()
    }
}

/// What came and was not handed out yet.
#[derive(Debug, Default)]
struct Pieces {
    /// Bytes of a piece that is not all there.
    raw: Vec<u8>,
    /// The beginnings of lines: of the standard output, and of the standard error.
    begun: [Vec<u8>; 2],
}

impl Pieces {
    /// Takes what came, and hands out the lines that are whole by it.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.raw.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut at = 0;
        while let Some(&[stream, _, _, _, a, b, c, d]) = self.raw.get(at..at + HEAD) {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(piece) = self.raw.get(at + HEAD..at + HEAD + length) else {
                if length > LINE_BYTES_MAX {
                    // No engine sends such a piece: what comes is something else, and is passed on as it is.
                    lines.append(&mut self.raw);
                    at = 0;
                }
                break;
            };
            let begun = &mut self.begun[usize::from(stream == 2)];
            begun.extend_from_slice(piece);
            let whole = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            let whole = if begun.len() > LINE_BYTES_MAX { begun.len() } else { whole };
            lines.extend(begun.drain(..whole));
            at += HEAD + length;
        }
        self.raw.drain(..at);
        (!lines.is_empty()).then_some(lines)
    }

    /// Lines that never ended.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        for begun in &mut self.begun {
            if !begun.is_empty() {
                rest.append(begun);
                rest.push(b'\n');
            }
        }
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&[stream, 0, 0, 0], length.as_slice(), text.as_bytes()].concat()
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let sent = [piece(1, "one\ntw"), piece(2, "error\n"), piece(1, "o\nthree")].concat();
        for size in 1..sent.len() {
            let mut pieces = Pieces::default();
            let mut read: Vec<u8> = sent.chunks(size).filter_map(|chunk| pieces.take(chunk)).flatten().collect();
            read.extend(pieces.rest().expect("a line without an end"));
            assert_eq!(String::from_utf8(read).expect("text"), "one\nerror\ntwo\nthree\n");
            assert_eq!(pieces.rest(), None);
        }
    }

    #[test]
    fn what_is_no_piece_is_passed_on() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(b"plain text\n"), Some(b"plain text\n".to_vec()));
    }
}
