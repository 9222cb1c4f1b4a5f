//! `serve`: from a data folder to a server, and back.
//!
//! - Nothing is answered before everything stands; then one line on stdout says where.
//! - A start that is refused leaves nothing half done; the next start after any other end goes on from what is on disk.
//! - Work that grows with the registry begins behind that line.

mod alone;
mod beat;
mod caution;
mod clock;
mod drivers;
mod folder;
mod gaps;
mod installation;
mod mark;
pub(crate) mod registry;
pub(crate) mod wiring;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use clap::Args;
use freehold_domain::lease::Holder;
use freehold_engine::standing::Standing;

use freehold_server::{Bounds, Metrics, router};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::beat::Told;
pub(crate) use self::clock::SystemClock;
use self::drivers::{Drivers, Duties};
pub(crate) use self::folder::{DataFolder, lock_database};
use self::installation::Wanted;
use self::mark::Mark;
use self::registry::Place;
use self::wiring::{Identity, Wired};
use crate::api_key::chance;
use crate::commands::Context;
use crate::config::{Config, Roles, plain};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Run the server.
#[derive(Debug, Args)]
#[command(after_help = "\
It prints one line on stdout, `listening on http://ADDRESS`, when it can answer. The first start
mints an operator's key and keeps it in operator.key in the data folder. SIGTERM or Ctrl-C end it:
open requests are finished, leases given back; instances run on.

Examples:
  freehold serve
  freehold serve --data-dir /var/lib/freehold --config /etc/freehold.toml
  freehold serve --listen 127.0.0.1:0 --roles http,proxy")]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7788]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What this node does: some of http, executor, reconcilers, proxy
    #[arg(long, value_name = "ROLES", default_value_t = Roles::ALL)]
    roles: Roles,
}

/// What ends a program that serves.
pub(crate) struct Ending {
    term: Signal,
    int: Signal,
}

impl Ending {
    /// Watches from this moment on; until then the signals have their usual effect.
    ///
    /// # Errors
    /// Signals that cannot be watched.
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits until somebody asks for the end. Answers how.
    pub(crate) async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

impl Serve {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut ending = Ending::watch()?;
        let config = Config::load(&context.sources().flag("--listen", &["listen"], self.listen))?;
        let (folder, listener) = claim(&config)?;
        let clock = Arc::new(SystemClock::new());
        let wanted = Wanted::of(&config)?;
        let metrics = Metrics::new();
        let place = registry::place(&config, folder.path())?;
        let _database_lock = match &place {
            Place::Sqlite(path) => Some(lock_database(path)?),
            Place::Postgres(_) => None,
        };
        let registry = place.open(clock.clone(), &config, &metrics).await?;
        let store = registry.store.clone();
        if !registry.keeps_time
            && let Some(last) = store.latest_at().await.map_err(|error| Failure::failed(error.to_string()))?
        {
            clock.not_before(last);
        }

        let installation = wanted.settle(store.as_ref()).await?;
        let holder = Holder { node: folder.node_id(config.node_id.as_deref())?, incarnation: incarnation()? };
        let address = listener.local_addr()?;
        let told = Told {
            holder: holder.clone(),
            roles: self.roles,
            address: address.to_string(),
            providers: config.providers.keys().filter_map(|name| name.parse().ok()).collect(),
            every: config.timing.renew.get(),
        };
        let started = beat::start(store.as_ref(), told, registry.keeps_time.then(|| clock.clone())).await;
        let started = started.map_err(|error| Failure::failed(error.to_string()))?;
        if let Err(failure) = alone::check(&config, store.as_ref(), &holder.node, folder.path()).await {
            started.leave(store.as_ref()).await;
            return Err(failure);
        }

        let made_at = store.made_at().await.map_err(|error| Failure::failed(error.to_string()))?;
        let mut mark = Mark::read(&folder, &installation.install)?;
        let standing = Standing::open();
        let looked = mark::look(&mut mark, &folder, store.as_ref(), clock.as_ref(), &standing).await;
        looked.map_err(|error| Failure::failed(error.to_string()))?;
        let identity = Identity {
            installation,
            janitor_looks_until: caution::looks_until(config.janitor.dry_run, made_at, clock.as_ref()),
            holder,
            standing,
        };
        tracing::info!(
            node = %identity.holder.node,
            install = %identity.installation.install,
            data_dir = %folder.path().display(),
            roles = %self.roles,
            "starting"
        );
        let wired = Wired::new(&config, self.roles, &folder, clock, registry, metrics, identity)?;

        let shutdown = CancellationToken::new();
        let duties = Duties {
            executes: self.roles.executor,
            reconciles: self.roles.reconcilers,
            renew_every: config.timing.renew.get(),
            sweep_every: config.timing.janitor_interval.get(),
        };
        let pulse = drivers::Pulse::new(duties);
        let parts = wiring::server_parts(&config, self.roles, &folder, &wired, pulse.probe(), shutdown.clone())?;
        let Wired { world, store, admitted, timers, .. } = wired;
        let heart = started.over(world.clone());
        let drivers = Drivers::start(&world, admitted, timers, duties, pulse, heart);
        let marking = tokio::spawn(mark::keep(mark, folder, world.clone(), shutdown.clone()));

        let serving = tokio::spawn(freehold_server::serve(
            TcpListener::from_std(listener)?,
            router(parts),
            Bounds::default(),
            shutdown.clone(),
        ));
        announce(context.output, address);

        let by = ending.asked().await;
        tracing::info!(by, "stopping");
        let drained = async {
            shutdown.cancel();
            let served = serving.await;
            drivers.shut_down().await;
            // The folder is this process's until the last mark is written.
            let _folder = marking.await;
            store.close().await;
            served
        };
        let served = tokio::select! {
            served = drained => served,
            by = ending.asked() => {
                return Err(Failure::failed(format!("ended by a second {by} before everything was finished"))
                    .hint("nothing is lost: the next start goes on with it"));
            }
        };
        served.map_err(|error| Failure::failed(format!("the server's accept loop broke off: {error}")))??;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Takes the data folder and the address: the two things that another server may have.
///
/// Whoever cannot have the address leaves no new folder behind; whoever can have neither is told of the folder, because
/// the server that has it has the address too.
fn claim(config: &Config) -> Result<(DataFolder, StdListener), Failure> {
    match bind(&config.listen) {
        Err(failure) if !config.data_dir.exists() => Err(failure),
        bound => Ok((DataFolder::open(&config.data_dir)?, bound?)),
    }
}

fn bind(listen: &str) -> Result<StdListener, Failure> {
    let address: SocketAddr =
        listen.parse().map_err(|_| Failure::usage(format!("listen: `{listen}` is not an address to listen on")))?;
    let bound = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let failure = Failure::failed(format!("cannot listen on {address}: {}", plain(&error)));
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                failure.hint("something else listens there; stop it, or choose another address with --listen")
            }
            io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 are for the superuser; choose another with --listen")
            }
            _ => failure.hint("choose an address of this machine with --listen"),
        }
    })
}

/// Which life of the node this is. SQLite's integers are signed.
fn incarnation() -> Result<u64, Failure> {
    Ok(u64::from_be_bytes(chance()?) >> 1)
}

/// Says that the server answers. Nobody has to be there to read it.
fn announce(output: Output, address: SocketAddr) {
    let told = match output.json {
        true => output.json_line(&serde_json::json!({ "listening": format!("http://{address}") })),
        false => output.text(&format!("listening on http://{address}")),
    };
    match told {
        Err(failure) if failure.exit != Exit::Unread => tracing::warn!(?failure, "stdout cannot be written"),
        Ok(()) | Err(_) => {}
    }
    tracing::info!(%address, "listening");
}
