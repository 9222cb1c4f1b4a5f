//! The simulated Fly as a program: standard output says where it listens, and nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use freehold_flysim::{FlySim, Options, Rule};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  A Fly in which machines take two seconds to boot:
    freehold-flysim --boot 2s

  Point a Freehold at it:
    [providers.fly]
    api_url = \"http://127.0.0.1:7979/v1\"

  The next machine is made, and nobody is told:
    curl http://127.0.0.1:7979/_sim/rules -H 'content-type: application/json' \\
      -d '{\"endpoint\":\"create_machine\",\"fault\":{\"kind\":\"timeout\",\"effect\":true},\"count\":1}'

  What is there, and what was ever made:
    curl http://127.0.0.1:7979/_sim/world

Routes below /_sim/ are no part of the Machines API. They have no lock of their
own, so only loopback addresses are listened on.";

/// A Fly Machines API that fails on demand, for tests and rehearsals
#[derive(Debug, Parser)]
#[command(name = "freehold-flysim", version, after_help = EXAMPLES)]
struct Arguments {
    /// Where to listen: a loopback address
    #[arg(long, default_value = "127.0.0.1:7979", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A bearer token and the organisation that it belongs to; may be repeated
    #[arg(long, default_value = "flysim=personal", value_name = "TOKEN[=ORG]", value_parser = token)]
    token: Vec<(String, String)>,
    /// From created to started, such as 50ms or 2s
    #[arg(long, default_value = "50ms", value_name = "TIME", value_parser = time)]
    boot: Duration,
    /// From stopping to stopped, and from destroying to destroyed
    #[arg(long, default_value = "20ms", value_name = "TIME", value_parser = time)]
    halt: Duration,
    /// How long a deleted app lingers
    #[arg(long, default_value = "50ms", value_name = "TIME", value_parser = time)]
    app_gone: Duration,
    /// How long a deleted volume lingers
    #[arg(long, default_value = "50ms", value_name = "TIME", value_parser = time)]
    volume_gone: Duration,
    /// A region without room; may be repeated
    #[arg(long, value_name = "REGION")]
    full_region: Vec<String>,
    /// The private address of every machine, instead of an fdaa: address of its own
    #[arg(long, value_name = "ADDRESS")]
    private_ip: Option<String>,
    /// Enforce the published rate limits
    #[arg(long)]
    rate_limits: bool,
    /// A JSON file with a list of rules that are there from the start
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Where ids come from
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let listen = arguments.listen;
    let options = options(arguments)?;
    let sim = FlySim::start(options).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    // Whoever started this reads it from a pipe, and may have gone.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {}", sim.url()).and_then(|()| out.flush());
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    sim.stop().await;
    Ok(())
}

fn options(arguments: Arguments) -> Result<Options, String> {
    let rules: Vec<Rule> = match &arguments.rules {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
    };
    Ok(Options {
        listen: arguments.listen,
        tokens: arguments.token.into_iter().collect::<BTreeMap<_, _>>(),
        boot: arguments.boot,
        halt: arguments.halt,
        app_gone: arguments.app_gone,
        volume_gone: arguments.volume_gone,
        full_regions: arguments.full_region.into_iter().collect(),
        private_ip: arguments.private_ip,
        rate_limits: arguments.rate_limits,
        rules,
        seed: arguments.seed,
        ..Options::default()
    })
}

fn token(text: &str) -> Result<(String, String), String> {
    let (token, org) = text.split_once('=').unwrap_or((text, "personal"));
    if token.is_empty() || org.is_empty() {
        return Err("a token is TOKEN or TOKEN=ORG".to_owned());
    }
    Ok((token.to_owned(), org.to_owned()))
}

/// `250ms`, `2s`, `1m`, or `0`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u32 = digits.parse().map_err(|_| format!("{text} is not a time such as 50ms, 2s or 1m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(60) * number),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(format!("{text} is not a time such as 50ms, 2s or 1m")),
    }
}
