//! The whole program, on real folders, sockets and processes: started, refused, killed, and started again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod billing;
mod commands;
mod demo;
mod life;
mod moving;
mod nodes;
mod provider_check;
mod recovery;
mod refusals;
mod release;
mod restore;
mod support;
mod two_nodes;
mod upgrade;
