//! The chores of the repository, run as `cargo xtask …`.
//!
//! A chore is one module with a `run`; this file only says which there are and how a failure is told. Whatever
//! `cargo xtask test` runs can be run alone by the command it names.

mod bench;
mod chaos;
mod crash;
mod engines;
mod failover;
mod fly;
mod http;
mod packages;
mod proof;
mod records;
mod server;
mod test;
mod tidy;
mod tree;
mod upgrade;
mod webapp;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of the repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must pass before a change lands: formatting, lints, tidy, deny, all tests, the crash test
    Test(test::Options),
    /// Rules of the tree that the compiler cannot see: directions, documents, words, sizes
    Tidy,
    /// The real program with real processes, killed, frozen and with a disk that fails
    Crash(crash::Options),
    /// What needs a real Docker Engine and a real Podman service: installed, started, killed, and removed again
    Engines(engines::Options),
    /// The real server on a Machines API that fails, thousands of times
    Fly(fly::Options),
    /// The server with its records in PostgreSQL and a billing service, while both fail
    Records(records::Options),
    /// Three servers on one PostgreSQL that fails over, while everything else fails too
    Chaos(chaos::Options),
    /// The database's primary dies under load, and another one takes its place
    Failover(failover::Options),
    /// Two nodes change programs while they work, over a step of the schema and back
    Upgrade(upgrade::Options),
    /// The example web application in a real browser
    Webapp(webapp::Options),
    /// The grid, the seeds, the twins and the models: everything that is proved by running it
    Proof(proof::Options),
    /// Seeds, for hours
    Soak(proof::Soak),
    /// What the release program does per second, and bare SQLite beside it
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Tidy => tidy::run(),
        Chore::Crash(options) => crash::run(&options),
        Chore::Engines(options) => engines::run(&options),
        Chore::Fly(options) => fly::run(&options),
        Chore::Records(options) => records::run(&options),
        Chore::Chaos(options) => chaos::run(&options),
        Chore::Failover(options) => failover::run(&options),
        Chore::Upgrade(options) => upgrade::run(&options),
        Chore::Webapp(options) => webapp::run(&options),
        Chore::Proof(options) => proof::run(&options),
        Chore::Soak(options) => proof::soak(&options),
        Chore::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
