//! Whether a connection has a session of the server's own, or shares one behind a pooler.
//!
//! In a session of its own statements are prepared once and have names: they are parsed no more. Behind a pooler that gives
//! each transaction another session a name may lead to somebody else's statement, so there no statement has one.
//!
//! A server names the process that serves a connection when it is opened, for requests to cancel; a pooler answers such
//! requests itself, and names something of its own. So a session is ours where that name is the process that runs our
//! statements. Where it is not, or nothing is known, statements go without names: slower, and right everywhere.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Hook, HookError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Error, Row};

use super::args::Args;

/// What every session of our own has. A statement is planned once, for any arguments; so that a plan from when a table was
/// empty is as good when it is full, rows are found by an index wherever there is one. Where there is none the plan looks so
/// costly that it would be compiled, each time it is run.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";

/// The first statement that is prepared in a session of our own. That there is one says that it is.
const OURS: &str = "SELECT 1";

/// Looks at each connection once it is open.
pub(super) fn look(within: Duration) -> Hook {
    Hook::async_fn(move |client, _| {
        Box::pin(async move {
            match timeout(within, prepare(client)).await {
                // An engine that does not know a part of it has no sessions of that kind.
                Ok(Err(error)) if error.code().is_none() => Err(HookError::Backend(error)),
                Ok(Ok(()) | Err(_)) => Ok(()),
                Err(_) => Err(HookError::message(format!("the server said nothing within {within:?}"))),
            }
        })
    })
}

async fn prepare(client: &ClientWrapper) -> Result<(), Error> {
    if is_ours(client).await? {
        client.batch_execute(SETTINGS).await?;
        client.prepare_typed_cached(OURS, &[]).await?;
    }
    Ok(())
}

async fn is_ours(client: &Client) -> Result<bool, Error> {
    let Some(named) = named(client).await else { return Ok(false) };
    let rows = client.query_typed("SELECT pg_backend_pid()", &[]).await?;
    Ok(rows.first().is_some_and(|row| row.try_get::<_, i32>(0).is_ok_and(|runs| runs == named)))
}

/// The process that the server named when the connection was opened. It is in every request to cancel: one is written, and
/// goes nowhere.
async fn named(client: &Client) -> Option<i32> {
    let mut request = Vec::new();
    client.cancel_token().cancel_query_raw(Nowhere(&mut request), Plain).await.ok()?;
    // Its length, its code, the process and a secret, each of four bytes; there may be a request for TLS before it.
    let process = request.len().checked_sub(8).and_then(|begin| request.get(begin..begin + 4))?;
    process.try_into().map(i32::from_be_bytes).ok()
}

/// Runs a statement: by name in a session of our own.
pub(super) async fn query(client: &ClientWrapper, sql: &str, args: &Args) -> Result<Vec<Row>, Error> {
    let typed = args.typed();
    if client.statement_cache.size() == 0 {
        return client.query_typed(sql, &typed).await;
    }
    let (values, types): (Vec<_>, Vec<_>) = typed.into_iter().unzip();
    let statement = client.prepare_typed_cached(sql, &types).await?;
    client.query(&statement, &values).await
}

/// A place to write to that leads nowhere, and agrees to everything.
struct Nowhere<'w>(&'w mut Vec<u8>);

impl AsyncWrite for Nowhere<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Nowhere<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // To a request for TLS.
        if into.remaining() > 0 {
            into.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Nowhere<'_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// No TLS, whatever was agreed: nothing leaves.
struct Plain;

impl<'w> TlsConnect<Nowhere<'w>> for Plain {
    type Stream = Nowhere<'w>;
    type Error = Infallible;
    type Future = Ready<Result<Nowhere<'w>, Infallible>>;

    fn connect(self, stream: Nowhere<'w>) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use freehold_postgres_lab::{Lab, PASSWORD, PASSWORD_ROLE};

    use super::super::pool::{Database, Options};
    use super::super::registry::SCHEMA;

    /// Whether statements have names in connections to a place.
    async fn is_ours(url: &str) -> bool {
        let database = Database::new(&url.parse().expect("a URL"), Options::default(), SCHEMA).expect("a place");
        let lent = database.lend_for_transaction().await.map_err(|trouble| format!("{trouble:?}")).expect("connected");
        lent.statement_cache.size() > 0
    }

    #[tokio::test]
    async fn a_session_is_ours_where_no_pooler_is_in_between() {
        let lab = Lab::start().expect("a cluster");
        let url = lab.database().expect("a database");
        assert!(is_ours(&url).await);
        // What is asked with TLS begins with a request for it.
        lab.database().expect("another database");
        lab.sql("postgres", &format!("GRANT ALL ON DATABASE db1 TO {PASSWORD_ROLE}")).expect("granted");
        let (port, roots) = (lab.port(), lab.authority().display().to_string());
        let place = format!("localhost:{port}/db1?sslmode=require&sslrootcert={}", roots.replace('/', "%2F"));
        assert!(is_ours(&format!("postgres://{PASSWORD_ROLE}:{PASSWORD}@{place}")).await);
        assert!(!is_ours(&lab.bouncer(&url).expect("a bouncer")).await);
    }
}
