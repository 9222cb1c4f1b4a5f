//! A Fly Machines API of our own that fails on demand.
//!
//! [`FlySim::start`] listens on a loopback address and keeps apps, machines, volumes, leases, metadata and secrets with
//! the status codes that Fly documents. A [`Rule`] makes calls fail: late, lost, twice seen, half written. Everything
//! that was ever made is counted, so that a test can say "exactly one, now and ever" by a look at [`FlySim::world`].
//!
//! ```
//! # async fn story() -> std::io::Result<()> {
//! use freehold_flysim::{Endpoint, Fault, FlySim, Options, Rule};
//!
//! let fly = FlySim::start(Options::instant()).await?;
//! fly.rule(Rule::once(Endpoint::CreateMachine, Fault::timeout(true)));
//! // … a client that talks to `fly.api_url()` with the token `flysim` …
//! assert!(fly.world().tally("my-app").machines_live_max <= 1);
//! # Ok(())
//! # }
//! ```
//!
//! Read in this order: `options` (what it is like), `call` (what can be asked), `world` (what exists), `fault` (what
//! goes wrong), `sim` (how the four come together for one call), `server` (sockets) and `control` (the routes below
//! `/_sim/`, which are no part of the Machines API).

mod answer;
mod call;
mod chance;
mod control;
mod fault;
mod limits;
mod options;
mod server;
mod sim;
mod world;

pub use call::Endpoint;
pub use fault::{Fault, Rule};
pub use options::Options;
pub use server::FlySim;
pub use world::{AppView, Kind, Late, MachineView, Made, Tally, VolumeView, WorldView};
