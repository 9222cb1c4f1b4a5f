//! A way on which things get lost: before they arrive, or on the way back, when they have happened. It can be closed, and it
//! can fall silent with every connection open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How much is carried at once: most messages are shorter.
const CARRIED_BYTES_MAX: usize = 16 * 1024;

/// The longest delay.
const DELAY_MAX: Duration = Duration::from_millis(300);

/// How a way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Everything passes, but for what gets lost.
    Open,
    /// Connections end, and others come to nothing.
    Cut,
    /// Nothing passes in either direction, and no connection ends.
    Silent,
}

/// What went wrong, by sort.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) carried: AtomicU64,
    pub(crate) lost_before: AtomicU64,
    pub(crate) answers_lost: AtomicU64,
    pub(crate) delayed: AtomicU64,
}

impl Tally {
    pub(crate) fn lost(&self) -> u64 {
        self.lost_before.load(Ordering::Relaxed) + self.answers_lost.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Road {
    way: watch::Sender<Way>,
    percent: AtomicU64,
    chance: AtomicU64,
    tally: Tally,
}

impl Road {
    /// A draw that repeats (SplitMix64, from Steele, Lea and Flood, 2014).
    fn draw(&self) -> u64 {
        let mut z = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn goes_wrong(&self) -> bool {
        self.draw() % 100 < self.percent.load(Ordering::Relaxed)
    }
}

/// A proxy that loses things.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    road: Arc<Road>,
}

impl Proxy {
    /// To an address; of 100 questions `percent` go wrong.
    pub(crate) async fn to(upstream: SocketAddr, percent: u64, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, _) = watch::channel(Way::Open);
        let road = Arc::new(Road { way, percent: percent.into(), chance: seed.into(), tally: Tally::default() });
        let carrying = road.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, carrying.clone()));
            }
        });
        Self { address, road }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.road.tally
    }

    /// From here on the way is like this, for every connection.
    pub(crate) fn set(&self, way: Way) {
        self.road.way.send_replace(way);
    }

    /// From here on so many of 100 questions go wrong.
    pub(crate) fn lose(&self, percent: u64) {
        self.road.percent.store(percent, Ordering::Relaxed);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.road.percent.store(0, Ordering::Relaxed);
        self.set(Way::Open);
    }
}

/// Returns when the way is open: at once, or when a silent one is again. `false` if it is cut.
async fn is_open(way: &mut watch::Receiver<Way>) -> bool {
    way.wait_for(|way| *way != Way::Silent).await.is_ok_and(|way| *way == Way::Open)
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, road: Arc<Road>) {
    let mut way = road.way.subscribe();
    if !is_open(&mut way).await {
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut asked, mut answered) = (vec![0; CARRIED_BYTES_MAX], vec![0; CARRIED_BYTES_MAX]);
    let mut lose_answer = false;
    loop {
        tokio::select! {
            changed = way.changed() => {
                if changed.is_err() || !is_open(&mut way).await {
                    return;
                }
            }
            read = client.read(&mut asked) => {
                let Ok(bytes @ 1..) = read else { return };
                road.tally.carried.fetch_add(1, Ordering::Relaxed);
                if road.goes_wrong() {
                    match road.draw() % 3 {
                        0 => {
                            road.tally.lost_before.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        1 => lose_answer = true,
                        _ => {
                            road.tally.delayed.fetch_add(1, Ordering::Relaxed);
                            let millis = road.draw() % u64::try_from(DELAY_MAX.as_millis()).unwrap();
                            tokio::time::sleep(Duration::from_millis(millis)).await;
                        }
                    }
                }
                if !is_open(&mut way).await || server.write_all(&asked[..bytes]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(bytes @ 1..) = read else { return };
                if lose_answer {
                    // It has happened, and nobody hears of it.
                    road.tally.answers_lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                if !is_open(&mut way).await || client.write_all(&answered[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}
