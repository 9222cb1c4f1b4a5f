//! `cargo xtask crash`: the real program with real processes, killed again and again.
//!
//! First at every place where an executor can die, one after the other, asserted to be reached; then at random moments
//! under a storm of requests. After every restart the world must come to rest by itself, and at the end registry,
//! process table, acknowledgements and audit trail must agree. The seed is printed first; it decides the storm's
//! requests, while the moments of the kills follow the machine.

mod api;
mod chance;
mod points;
mod processes;
mod storm;
mod verdict;

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::{self, Server};
use crate::workspace;
use api::Api;
use chance::Chance;

/// How long the world may take to come to rest after a restart: the deadline of a provision, clean-up, and a margin for
/// a slow machine.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// Fast timers, so that a crash costs moments; the order of everything is that of production.
const CONFIG: &str = r#"
[timing]
lease = "2s"
renew = "500ms"
retry_min = "50ms"
retry_max = "1s"
[provision]
deadline = "30s"
[limits]
requests_per_second_per_caller = 100000
"#;

#[derive(Args)]
pub(crate) struct Options {
    /// How often the server is killed, at the least
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// What decides the storm's requests; chosen by the clock if not said
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = options.seed.unwrap_or_else(clock);
    println!("seed {seed}: replay with `cargo xtask crash --kills {} --seed {seed}`", options.kills);
    let program = server::build("dev")?;
    let folder = tempfile::Builder::new().prefix("freehold-crash-").tempdir_in(workspace::target_dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let house = House::new(program, folder.path().to_owned(), seed)?;
    let began = Instant::now();
    let outcome = runtime.block_on(house.go_through(options.kills, Chance::of(seed)));
    processes::end(&house.install)?;
    match outcome {
        Ok(told) => {
            println!("{told} in {:.0} s", began.elapsed().as_secs_f64());
            Ok(())
        }
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!("seed {seed}; the server's folder and log are kept in {}", kept.display())))
        }
    }
}

/// Where the server lives, over all its lives.
struct House {
    program: PathBuf,
    data_dir: PathBuf,
    config: PathBuf,
    install: String,
}

impl House {
    fn new(program: PathBuf, folder: PathBuf, seed: u64) -> Result<Self> {
        let data_dir = folder.join("data");
        std::fs::create_dir_all(&data_dir)?;
        let config = folder.join("crash.toml");
        // A name of its own, so that the process table can be searched for what this run left behind.
        let install = format!("crash-{seed}-{}", std::process::id());
        std::fs::write(&config, format!("install_id = \"{install}\"\n{CONFIG}"))?;
        Ok(Self { program, data_dir, config, install })
    }

    /// Starts a server, which dies at `crash_at` if it is given.
    fn start(&self, crash_at: Option<&str>) -> Result<Server> {
        let config = self.config.to_str().context("a folder whose name is no text")?;
        let mut env = vec![("RUST_LOG", "info")];
        env.extend(crash_at.map(|point| ("FREEHOLD_CRASH_AT", point)));
        Server::start(&self.program, &self.data_dir, &["--config", config], &env)
    }

    async fn go_through(&self, kills: usize, chance: Chance) -> Result<String> {
        let mut verdicts = verdict::Tally::default();
        let mut server = self.start(None)?;
        let at_points = points::go_through(self, &mut server, &mut verdicts).await?;
        println!("killed at each of {at_points} points; the storm begins");
        let promises = storm::rage(self, &mut server, kills.saturating_sub(at_points).max(1), chance).await?;
        let api = Api::of(&server);
        verdict::come_to_rest(&api, REST_WITHIN).await?;
        verdict::settle_accounts(self, &api, &promises, &mut verdicts).await?;
        verdict::check_audit(self, &server, &mut verdicts)?;
        println!("{verdicts}");
        ensure!(verdicts.failed == 0, "{} promises were broken", verdicts.failed);
        let total = at_points + promises.kills;
        ensure!(total >= kills, "{total} kills are fewer than {kills}");
        Ok(format!("{total} kills"))
    }
}
