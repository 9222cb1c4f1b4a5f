//! A real PostgreSQL, and a real PgBouncer before it, for tests.
//!
//! [`Lab::start`] makes a cluster in a folder of its own and [`Lab::database`] an empty database in it. Nothing outlives
//! the test, however it ends: a watchdog waits for the test's end of a pipe to close, then kills what runs and removes
//! the folder. What is missing on the machine is installed (Debian, as root).
//!
//! [`Pair::start`] makes two of them, of which one follows the other synchronously and takes its place when it dies.
//! [`Patroni::start`] leaves that to Patroni and etcd.
//!
//! - Durability is against the death of processes, not of the machine: nothing is synced, everything that is committed
//!   is written. Only a pair syncs: there, what a crash leaves of the old primary is rewound and used again. Whoever
//!   measures starts with settings of its own ([`Lab::start_with`]).
//! - Each test process may have a cluster to itself: it is a copy of one that was made once, by whoever came first.

mod bouncer;
mod cluster;
mod family;
mod install;
mod pair;
mod patroni;
mod template;
mod wait;
mod watchdog;

pub use bouncer::Bouncer;
pub use cluster::{DATABASE_ROLE, Held, Lab, PASSWORD, PASSWORD_ROLE};
pub use install::need;
pub use pair::{Pair, Rejoined};
pub use patroni::Patroni;
