//! `cargo xtask webapp`: the example web application in a real browser, over the real server with real processes.
//!
//! Node.js, Chromium and its driver are installed where they are missing, which needs root. Everything runs in a folder of
//! its own and is gone at the end, however that comes.

mod browser;
mod story;
mod tier;

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crash::processes;
use crate::{packages, server};
use browser::Browser;
use tier::Tier;

/// Programs that are needed, and the Debian packages that have them.
const NEEDED: &[(&str, &str)] =
    &[("/usr/bin/node", "nodejs"), ("/usr/bin/chromium", "chromium"), ("/usr/bin/chromedriver", "chromium-driver")];

/// Names the processes of this run.
const INSTALL: &str = "webapp";

/// How long the program of an instance takes before it does anything: long enough for a user to see it come up.
const SLOW_START: Duration = Duration::from_millis(700);

#[derive(Args)]
pub(crate) struct Options {
    /// Where to put a picture of each scene
    #[arg(long)]
    pictures: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    packages::install(NEEDED)?;
    let program = server::build("dev")?;
    let folder = tempfile::Builder::new().prefix("freehold-webapp-").tempdir()?;
    let install = format!("{INSTALL}-{}", std::process::id());
    let played = play(options, &program, folder.path(), &install);
    let left = processes::by_instance(&install)?;
    processes::end(&install)?;
    let log = std::fs::read_to_string(folder.path().join("data.log")).unwrap_or_default();
    played.with_context(|| format!("the server says:\n{}", tail(&log)))?;
    ensure!(left.is_empty(), "programs of destroyed instances go on: {left:?}");
    ensure!(!log.contains("panicked at"), "the server panicked:\n{}", tail(&log));
    Ok(())
}

fn play(options: &Options, program: &Path, folder: &Path, install: &str) -> Result<()> {
    if let Some(pictures) = &options.pictures {
        std::fs::create_dir_all(pictures)?;
    }
    std::fs::create_dir_all(folder.join("data"))?;
    let key = tier::key(folder)?;
    let config = folder.join("freehold.toml");
    std::fs::write(&config, configuration(program, folder, install))?;
    let config = config.to_str().context("a folder whose name is no text")?;
    let server = server::Server::start(program, &folder.join("data"), &["--config", config], &[])?;
    let tier = Tier::start(&server.address, &key, folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("         {}", tier.refuses_strangers().await?);
        let mut browser = Browser::start(folder).await?;
        let told = story::tell(&browser, &tier.url, &key, options.pictures.as_deref()).await;
        if told.is_err()
            && let Some(pictures) = &options.pictures
        {
            // What was on the page says more than what was missing.
            browser.picture(&pictures.join("failed.png")).await.ok();
        }
        browser.end().await;
        told.with_context(|| format!("the web tier says:\n{}", tail(&tier.log())))
    })
}

fn configuration(program: &Path, folder: &Path, install: &str) -> String {
    let (program, folder, pause) = (program.display(), folder.display(), SLOW_START.as_secs_f64());
    format!(
        r#"
install_id = "{install}"
[auth]
platform_key_file = "{folder}/platform.key"
[templates.hello]
command = ["sh", "-c", "sleep {pause}; exec {program} hello-instance"]
"#
    )
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
