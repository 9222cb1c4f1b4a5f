//! The commands, one file per noun.

pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod hello;
pub(crate) mod instance;
pub(crate) mod leak;
pub(crate) mod operation;
pub(crate) mod owner;
pub(crate) mod provider;
pub(crate) mod reservation;

mod confirm;
mod context;
mod spec;
mod watch;

pub(crate) use context::Context;
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
        Command::Instance(command) => command.run(&context).await,
        Command::Operation(command) => command.run(&context).await,
        Command::Owner(command) => command.run(&context).await,
        Command::Reservation(command) => command.run(&context).await,
        Command::Audit(command) => command.run(&context).await,
        Command::Leak(command) => command.run(&context).await,
        Command::Provider(command) => command.run(&context),
        Command::Config(command) => command.run(&context),
        Command::Doctor(command) => command.run(&context).await,
        Command::Completions(command) => command.run(),
        Command::HelloInstance => hello::run().await,
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
