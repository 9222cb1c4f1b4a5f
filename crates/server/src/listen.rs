//! The accept loop: so many connections, so much of a head, so long to send it; and an end that does not wait for ever.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::limits::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_READ_MAX, HEADERS_MAX};
use crate::proxy::Peer;

/// How long to rest when the system has no file descriptor left for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most connections at once.
    pub connections: usize,
    /// How long the head of a request may take, and how long an idle connection is kept.
    pub head_read: Duration,
    /// How long open connections may go on after the shutdown began.
    pub drain: Duration,
}

impl Default for Bounds {
    /// [`crate::limits`].
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head_read: HEAD_READ_MAX, drain: crate::limits::DRAIN_MAX }
    }
}

/// Serves until the token is cancelled, then lets open requests finish for [`Bounds::drain`], and cuts what is left.
///
/// # Errors
/// When the listener cannot say its address; what goes wrong with a single connection goes to the log.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // A client that has said everything may close its half; what it asked for is done all the same.
        .half_close(true)
        .header_read_timeout(bounds.head_read)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // A place first: who has none waits in the kernel's queue, not in our memory.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(builder.clone(), stream, Peer(peer), router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    tracing::debug!(%address, open = connections.len(), "no connections are accepted any more");
    let drained = tokio::time::timeout(bounds.drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(open = connections.len(), "connections that did not end in time are cut");
        connections.shutdown().await;
    }
    Ok(())
}

async fn connection(
    builder: http1::Builder,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
) {
    // An answer is one write; waiting for a second one to fill the packet only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
