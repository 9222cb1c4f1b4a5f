//! The commands, one file per noun.

pub(crate) mod adopt;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod hello;
pub(crate) mod instance;
pub(crate) mod key;
pub(crate) mod leak;
pub(crate) mod migrate;
mod move_store;
pub(crate) mod node;
pub(crate) mod openapi;
pub(crate) mod operation;
pub(crate) mod owner;
pub(crate) mod provider;
pub(crate) mod reservation;
pub(crate) mod restore;
pub(crate) mod simulate;

mod chain;
mod confirm;
mod context;
mod spec;
mod watch;

pub(crate) use context::{Context, OPERATOR_KEY_FILE};
use freehold_api::v1::Resource;

use crate::cli::{Cli, Command};
use crate::exit::Failure;
use crate::output::say;

/// Does what the command line says.
///
/// # Errors
/// Whatever kept it from succeeding, with its exit code.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(cli.globals);
    match cli.command {
        Command::Serve(command) => command.run(&context).await,
        Command::Demo(command) => command.run(&context).await,
        Command::Instance(command) => command.run(&context).await,
        Command::Operation(command) => command.run(&context).await,
        Command::Owner(command) => command.run(&context).await,
        Command::Reservation(command) => command.run(&context).await,
        Command::Audit(command) => command.run(&context).await,
        Command::Leak(command) => command.run(&context).await,
        Command::Node(command) => command.run(&context).await,
        Command::Adopt(command) => command.run(&context).await,
        Command::Provider(command) => command.run(&context).await,
        Command::Config(command) => command.run(&context),
        Command::Backup(command) => command.run(&context).await,
        Command::Restore(command) => command.run(&context).await,
        Command::Migrate(command) => command.run(&context).await,
        Command::Key(command) => command.run(&context).await,
        Command::Simulate(command) => command.run(&context),
        Command::Openapi => openapi::run(context.output),
        Command::Doctor(command) => command.run(&context).await,
        Command::Completions(command) => command.run(),
        Command::HelloInstance => hello::run().await,
        // Started by a server, and of no use without a runtime of its own: `main` does it before there is one.
        Command::Shim => Err(Failure::usage("`shim` is started by a server")),
    }
}

/// Tells a person that there is another page. A program reads `next_cursor`.
fn more(context: &Context, cursor: Option<&str>) {
    if let (Some(cursor), false) = (cursor, context.output.json) {
        say(&format!("there are more: --cursor {cursor}"));
    }
}

/// Resources in a line.
fn resources(resources: &[Resource]) -> String {
    let shown = resources.iter().map(|Resource { kind, id, region }| match region {
        Some(region) => format!("{kind} {id} ({region})"),
        None => format!("{kind} {id}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}
