//! One address before several servers: every connection goes to the next one that answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

/// A balancer. It knows nothing of health but whether somebody listens.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    servers: Arc<Mutex<Vec<Option<SocketAddr>>>>,
}

impl Balancer {
    /// Before so many servers, none of which is there yet.
    pub(crate) async fn before(count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let servers = Arc::new(Mutex::new(vec![None; count]));
        let known = servers.clone();
        tokio::spawn(async move {
            let turn = Arc::new(AtomicUsize::new(0));
            while let Ok((client, _)) = listener.accept().await {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                let servers: Vec<Option<SocketAddr>> = known.lock().unwrap().clone();
                tokio::spawn(pass(client, turn, servers));
            }
        });
        Self { address, servers }
    }

    /// Where a server is in its present life, or that it is in none.
    pub(crate) fn set(&self, server: usize, at: Option<SocketAddr>) {
        self.servers.lock().unwrap()[server] = at;
    }

    /// Where a server is.
    pub(crate) fn get(&self, server: usize) -> Option<SocketAddr> {
        self.servers.lock().unwrap()[server]
    }
}

async fn pass(mut client: TcpStream, turn: usize, servers: Vec<Option<SocketAddr>>) {
    for step in 0..servers.len() {
        let Some(server) = servers[(turn + step) % servers.len()] else { continue };
        if let Ok(mut server) = TcpStream::connect(server).await {
            // Either side may go away in the middle: that is what this is for.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
