//! `freehold`: the server and its command line in one program.
//!
//! Parse, do, and say how it went: stdout is data, stderr is talk, and the exit code is the contract's.

mod api_key;
mod cli;
mod commands;
mod config;
mod exit;
mod output;
mod serve;
mod telemetry;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

/// How long calls that cannot be cut short may hold up the end.
const BLOCKED_GRACE: Duration = Duration::from_secs(1);

/// The least number of threads that a server runs on.
const WORKERS_MIN: usize = 2;

fn main() -> ExitCode {
    // TLS needs a provider before the first client is built.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Failure::failed("TLS could not be set up").tell(false);
    }
    complain_plainly();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; clap knows where each goes.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Unread };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    if matches!(cli.command, Command::Shim) {
        // It lives as long as an instance: no runtime, no log, nothing but the wait.
        return freehold_providers::process::shim_main();
    }
    let json = cli.globals.json;
    let serves = matches!(cli.command, Command::Serve(_));
    let usual = match cli.command {
        Command::Serve(_) => "info",
        // Its worlds are full of what is worth a warning in the real one.
        Command::Simulate(_) => "off",
        _ => "warn",
    };
    telemetry::start(cli.globals.log_format, usual);
    let runtime = match runtime(serves) {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).tell(json),
    };
    let done = runtime.block_on(commands::run(cli));
    // What still blocks is a call to a provider that nobody waits for any more.
    runtime.shutdown_timeout(BLOCKED_GRACE);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

/// A server has a thread per processor, and two at least: one that is busy must not keep leases from being renewed.
fn runtime(serves: bool) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if serves {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(
            std::thread::available_parallelism().map_or(WORKERS_MIN, |count| count.get().max(WORKERS_MIN)),
        );
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()
}

/// A defect is told in a line, with its place; a backtrace only where `RUST_BACKTRACE` asks for one.
fn complain_plainly() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |defect| {
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|asked| asked != "0") {
            return usual(defect);
        }
        let place = defect.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let message = defect.payload_as_str().unwrap_or("no message");
        output::say(&format!("error: a defect in freehold{place}: {message}"));
        output::say("hint: please report it with this line; RUST_BACKTRACE=1 says more");
    }));
}
