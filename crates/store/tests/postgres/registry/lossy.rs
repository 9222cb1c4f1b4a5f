//! A wire to the database that loses what it is told to lose.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of the next write on the wire.
const PASS: u32 = 0;
const LOSE_THE_ANSWER: u32 = 1;
const LOSE_THE_QUESTION: u32 = 2;

/// A wire.
#[derive(Clone)]
pub(super) struct Wire {
    port: u16,
    next: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
    looks: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
}

impl Wire {
    /// To a server on this machine.
    pub(super) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let wire =
            Self { port, next: Arc::default(), lost: Arc::default(), looks: Arc::default(), writes: Arc::default() };
        let own = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                tokio::spawn(own.clone().carry(client, server));
            }
        });
        wire
    }

    pub(super) fn url(&self, direct: &str, server: u16) -> String {
        direct.replace(&format!(":{server}/"), &format!(":{}/", self.port))
    }

    /// Loses the answer to the next write: it happens.
    pub(super) fn lose_an_answer(&self) {
        self.next.store(LOSE_THE_ANSWER, Ordering::SeqCst);
    }

    /// Loses the next write itself.
    pub(super) fn lose_a_question(&self) {
        self.next.store(LOSE_THE_QUESTION, Ordering::SeqCst);
    }

    /// How many looks at contexts, and how many writes, went over it.
    pub(super) fn seen(&self) -> (u32, u32) {
        (self.looks.load(Ordering::SeqCst), self.writes.load(Ordering::SeqCst))
    }

    /// How many writes were lost, one way or the other.
    pub(super) fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }

    async fn carry(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut answered) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut names = Names::default();
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(size @ 1..) = read else { return };
                    let bytes = &asked[..size];
                    let run = names.run(bytes);
                    let is_write = run.contains(&Statement::Write);
                    self.writes.fetch_add(u32::from(is_write), Ordering::SeqCst);
                    self.looks.fetch_add(u32::from(run.contains(&Statement::Look)), Ordering::SeqCst);
                    let fate = if is_write { self.next.swap(PASS, Ordering::SeqCst) } else { PASS };
                    if fate != PASS {
                        self.lost.fetch_add(1, Ordering::SeqCst);
                    }
                    if fate != LOSE_THE_QUESTION && server.write_all(bytes).await.is_err() {
                        return;
                    }
                    if fate == LOSE_THE_ANSWER {
                        // The server answers, and nobody hears it.
                        let _ = server.read(&mut answered).await;
                    }
                    if fate != PASS {
                        return;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(size @ 1..) = read else { return };
                    if client.write_all(&answered[..size]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statement {
    Look,
    Write,
    Other,
}

/// The statements of a session, by their names; the one without a name has an empty one.
#[derive(Default)]
struct Names(HashMap<Vec<u8>, Statement>);

impl Names {
    /// Which statements some messages run. A statement is parsed once, and run whenever arguments are bound to it.
    fn run(&mut self, mut messages: &[u8]) -> Vec<Statement> {
        let mut run = Vec::new();
        // The message that opens a session has no letter.
        while let [kind @ (b'A'..=b'Z' | b'a'..=b'z'), rest @ ..] = messages {
            let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else { break };
            let Some((message, behind)) = rest.split_at_checked(length) else { break };
            let mut texts = message.get(4..).unwrap_or_default().split(|byte| *byte == 0);
            match (kind, texts.next(), texts.next()) {
                (b'P', Some(name), Some(sql)) => {
                    self.0.insert(name.to_vec(), statement(sql));
                }
                (b'B', Some(_portal), Some(name)) => run.extend(self.0.get(name).copied()),
                _ => {}
            }
            messages = behind;
        }
        run
    }
}

fn statement(sql: &[u8]) -> Statement {
    let says = |words: &[u8]| sql.windows(words.len()).any(|part| part == words);
    if says(b"want") && says(b"guard") {
        Statement::Write
    } else if says(b"k.key_scope = w.scope") {
        Statement::Look
    } else {
        Statement::Other
    }
}
