//! Three servers, one address before them, one PgBouncer behind them with a way to it for each server, and a provider. What is
//! behind PgBouncer is somebody else's: a pair, or Patroni's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use freehold_api::client::{Client, Token};
use freehold_flysim::{FlySim, Options};
use freehold_postgres_lab::{Bouncer, DATABASE_ROLE};

use crate::balancer::Balancer;
use crate::node::{KEY, Node};
use crate::proxy::{Proxy, Way};

/// How many servers there are.
pub(crate) const NODES: usize = 3;

/// How long a server may work on something before another one may: what [`config`] says.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How long an unanswered call to the provider may still take effect: what [`config`] says.
pub(crate) const HORIZON: Duration = Duration::from_secs(4);

/// How long a server may take to start once its database is there.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Of 100 messages on the way to the database, and of 100 from clients: how many go wrong.
const LOST_PER_CENT: u64 = 1;

/// Connections from PgBouncer to the database: fewer than the servers have to it.
pub(crate) const POOLED: u32 = 12;

fn config(fly: &FlySim) -> String {
    format!(
        "install_id = \"chaos\"\n\
         [limits]\nrequests_per_second_per_caller = 100000\n\
         [provision]\ndefault_provider = \"fly\"\ndeadline = \"25s\"\n\
         [janitor]\ndry_run = \"never\"\n\
         [timing]\nlease = \"{}s\"\nrenew = \"500ms\"\nretry_min = \"100ms\"\nretry_max = \"3s\"\njanitor_interval = \"3s\"\n\
         [providers.fly]\nkind = \"fly\"\napi_url = \"{}\"\ntoken_env = \"FLY_TOKEN\"\nregions = [\"ams\", \"fra\"]\n\
         request_timeout = \"1500ms\"\nsettle_horizon = \"{}s\"\n\
         [templates.hello]\nimage = \"registry.example/hello:1\"\n",
        LEASE.as_secs(),
        fly.api_url(),
        HORIZON.as_secs(),
    )
}

/// Everything that can fail.
pub(crate) struct Town {
    pub(crate) bouncer: Mutex<Bouncer>,
    /// By server: its way to PgBouncer.
    pub(crate) roads: Vec<Proxy>,
    pub(crate) nodes: Vec<Mutex<Node>>,
    pub(crate) balancer: Balancer,
    /// The way from clients to the balancer.
    pub(crate) front: Proxy,
    pub(crate) fly: FlySim,
}

impl Town {
    /// Starts everything over a database behind a PgBouncer. Nothing fails yet.
    pub(crate) async fn found(folder: &Path, seed: u64, bouncer: Bouncer, database: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fly = FlySim::start(Options::default()).await.unwrap();
        let config_file = folder.join("freehold.toml");
        std::fs::write(&config_file, config(&fly)).unwrap();
        let balancer = Balancer::before(NODES).await;
        let front = Proxy::to(balancer.address, 0, seed).await;
        let (mut roads, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..NODES {
            let upstream = SocketAddr::from(([127, 0, 0, 1], bouncer.port()));
            let road = Proxy::to(upstream, 0, seed.wrapping_add(1 + number as u64)).await;
            let registry = format!("postgres://{DATABASE_ROLE}@{}/{database}?sslmode=disable", road.address);
            nodes.push(Mutex::new(Node::new(&folder.join(format!("node-{number}")), &config_file, registry)));
            roads.push(road);
        }
        let town = Self { bouncer: Mutex::new(bouncer), roads, nodes, balancer, front, fly };
        for number in 0..NODES {
            town.start(number);
        }
        town
    }

    /// From here on messages get lost.
    pub(crate) fn lose_messages(&self) {
        self.roads.iter().chain([&self.front]).for_each(|road| road.lose(LOST_PER_CENT));
    }

    /// Starts a server, again and again until its database lets it.
    pub(crate) fn start(&self, number: usize) {
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            let started = self.nodes[number].lock().unwrap().start();
            if let Some(address) = started {
                return self.balancer.set(number, Some(address));
            }
            assert!(Instant::now() < deadline, "server {number} does not start");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends everything that fails, and starts what does not run.
    pub(crate) fn heal(&self) {
        self.fly.clear_rules();
        self.front.heal();
        self.roads.iter().for_each(Proxy::heal);
        for number in 0..NODES {
            let mut node = self.nodes[number].lock().unwrap();
            node.thaw();
            node.turn_clock(0);
            let runs = node.runs();
            drop(node);
            if !runs {
                self.start(number);
            }
        }
    }

    /// A client of all servers.
    pub(crate) fn client(&self) -> Client {
        client(self.front.address)
    }

    /// A client of each server.
    pub(crate) fn clients(&self) -> Vec<Client> {
        (0..NODES).map(|number| client(self.balancer.get(number).unwrap())).collect()
    }

    /// Lets a server's way to the database be like this.
    pub(crate) fn set_road(&self, number: usize, way: Way) {
        self.roads[number].set(way);
    }
}

fn client(address: SocketAddr) -> Client {
    Client::new(&format!("http://{address}"), Some(Token::new(KEY).unwrap())).unwrap()
}
