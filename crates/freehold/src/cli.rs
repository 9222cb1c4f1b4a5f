//! The command line: every command and flag, and the help that explains them.
//!
//! One noun, one file in `commands/`, with its arguments beside what it does. Flags that every command takes are here.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Style, Styles};
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    adopt, audit, backup, completions, config, demo, doctor, instance, key, leak, migrate, node, operation, owner,
    provider, reservation, restore, simulate,
};
use crate::serve::Serve;
use crate::telemetry::LogFormat;

/// Where a server is looked for unless something else is said.
pub(crate) const SERVER: &str = "http://127.0.0.1:7788";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  called wrongly, or the configuration is wrong
  3  something else is in the way
  4  it does not exist
  5  unavailable: try again

A command that talks to a server needs a key: FREEHOLD_TOKEN, --token-file, or the operator.key
that a server on this machine keeps in its data folder.

Examples:
  freehold demo
  freehold serve
  freehold instance create user:alice
  freehold instance list --json
  freehold operation watch 01990000-0000-7000-8000-000000000001
  freehold config check --config /etc/freehold.toml";

/// Exactly one running instance per customer context, or an honest answer.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, about, after_help = EXIT_CODES, max_term_width = 100, styles = styles())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// Print JSON on stdout, as the API says it
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server to talk to
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FREEHOLD_SERVER",
        default_value = SERVER,
        hide_env_values = true
    )]
    pub(crate) server: String,
    /// A file with the key to show to the server
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The data folder; its operator.key is used when no other key is given [default: ./freehold-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A configuration file; FREEHOLD__SECTION__KEY variables and flags override it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the log on stderr looks; RUST_LOG says how much of it there is
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Serve),
    /// Take the tour: a stampede, a crash in the middle, a destroy that wins, on real processes
    Demo(demo::Demo),
    /// Create, see and change instances
    #[command(subcommand)]
    Instance(instance::Instance),
    /// See how far an operation is
    #[command(subcommand)]
    Operation(operation::Operation),
    /// See the registry of one owner
    #[command(subcommand)]
    Owner(owner::Owner),
    /// See, repair and release reservations
    #[command(subcommand)]
    Reservation(reservation::Reservation),
    /// Follow and verify the audit trail
    #[command(subcommand)]
    Audit(audit::Audit),
    /// See and resolve resources that were given up on
    #[command(subcommand)]
    Leak(leak::Leak),
    /// See the servers that share a registry, and drain one before it goes away
    #[command(subcommand)]
    Node(node::Node),
    /// Make instances of what an older system made: tagged and recorded, running on as it is
    Adopt(adopt::Adopt),
    /// See the providers of the configuration, and check what they promise
    #[command(subcommand)]
    Provider(provider::Provider),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Copy the registry while a server runs on it, on the machine of the registry
    Backup(backup::BackupCommand),
    /// See and confirm a registry that comes from a backup
    #[command(subcommand)]
    Restore(restore::Restore),
    /// See and bring up the schema of the registry's database
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Make, list and revoke API keys, on the machine of the registry
    #[command(subcommand)]
    Key(key::Key),
    /// Run the engine in simulated worlds that fail on purpose, or replay one of them
    Simulate(Box<simulate::Simulate>),
    /// Print the OpenAPI 3.1 document of the API
    Openapi,
    /// Look for what would keep a server from working on this machine
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Be the program of the `hello` template
    #[command(hide = true)]
    HelloInstance,
    /// Launch a program for a server, and stay until it ends
    #[command(hide = true)]
    Shim,
}

fn styles() -> Styles {
    Styles::styled()
        .header(Style::new().bold())
        .usage(Style::new().bold())
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(Style::new().dimmed())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// The help of every command, as a reader of `--help` sees it.
    #[test]
    fn the_help_of_every_command_is_as_reviewed() {
        fn collect(command: &mut clap::Command, path: &str, all: &mut String) {
            if command.is_hide_set() {
                return;
            }
            let help = command.render_long_help().to_string();
            all.push_str(&format!("$ {path} --help\n{}\n\n", help.trim_end()));
            let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
            for name in names.into_iter().filter(|name| name != "help") {
                if let Some(sub) = command.find_subcommand_mut(&name) {
                    collect(sub, &format!("{path} {name}"), all);
                }
            }
        }
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut all = String::new();
        collect(&mut command, "freehold", &mut all);
        insta::assert_snapshot!("help", all);
    }
}
