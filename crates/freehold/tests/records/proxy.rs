//! A way to the database on which things get lost: before they arrive, or on the way back, when they have happened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How much is carried at once: most messages are shorter.
const CARRIED_BYTES_MAX: usize = 16 * 1024;

/// The longest delay.
const DELAY_MAX: Duration = Duration::from_millis(300);

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
        let road = Arc::new(Road { percent: percent.into(), chance: seed.into(), tally: Tally::default() });
        let way = road.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, way.clone()));
            }
        });
        Self { address, road }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.road.tally
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.road.percent.store(0, Ordering::Relaxed);
    }
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, road: Arc<Road>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut asked, mut answered) = (vec![0; CARRIED_BYTES_MAX], vec![0; CARRIED_BYTES_MAX]);
    let mut lose_answer = false;
    loop {
        tokio::select! {
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
                if server.write_all(&asked[..bytes]).await.is_err() {
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
                if client.write_all(&answered[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}
