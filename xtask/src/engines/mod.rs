//! `cargo xtask engines`: what needs a real Docker Engine and a real Podman service.
//!
//! Both are installed where they are missing and started in a folder of their own, which is removed at the end with
//! whatever runs in it, however that comes. The tests are told where the engines are; then the real server runs instances
//! at both while the engines are killed. It needs root.

mod campaign;
mod engine;
mod socket;

use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;
use std::time::Instant;

use crate::server;
use crate::test::nextest;
use crate::workspace;
use engine::{Engine, Kind};

#[derive(Args)]
pub(crate) struct Options {
    /// How many lives the server runs at the Docker Engine, from create to destroy
    #[arg(long, default_value_t = 60)]
    lives: usize,
    /// How often the Docker Engine is killed meanwhile
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Leaves the tests out
    #[arg(long)]
    lives_only: bool,
    /// Starts the engines, says where they are, and waits for the end of the standard input
    #[arg(long)]
    hold: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    engine::install()?;
    // A socket's path is short, and the folder of the tree may not be.
    let folder = tempfile::Builder::new().prefix("freehold-engines-").tempdir()?;
    let archive = engine::image(folder.path())?;
    let mut docker = Engine::start(Kind::Docker, &folder.path().join("docker"))?;
    let mut podman = Engine::start(Kind::Podman, &folder.path().join("podman"))?;
    for engine in [&docker, &podman] {
        engine.socket.import(&archive).with_context(|| format!("making the image at {:?}", engine.kind))?;
    }
    if options.hold {
        let (docker, podman) = (docker.socket.host(), podman.socket.host());
        println!(
            "FREEHOLD_TEST_DOCKER={docker} FREEHOLD_TEST_PODMAN={podman} FREEHOLD_TEST_IMAGE={}",
            archive.display()
        );
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        return Ok(());
    }
    if !options.lives_only {
        let began = Instant::now();
        test(&docker, &podman, &archive)?;
        println!("tests at both engines, in {:.0} s", began.elapsed().as_secs_f64());
    }
    let program = server::build("dev")?;
    // A Podman service keeps nothing in memory, so that it is killed more often.
    let lives = [(&mut docker, options.lives, options.kills), (&mut podman, options.lives / 10, options.kills)];
    for (engine, lives, kills) in lives {
        let folder = folder.path().join(format!("{:?}", engine.kind));
        println!("{}", campaign::run(engine, &program, &folder, lives, kills)?);
    }
    Ok(())
}

/// Runs the tests that need engines.
fn test(docker: &Engine, podman: &Engine, archive: &Path) -> Result<()> {
    let mut tests = workspace::program(nextest()?);
    tests.args(["nextest", "run", "--locked", "--package", "freehold-providers", "--run-ignored", "only"]);
    tests.env("FREEHOLD_TEST_DOCKER", docker.socket.host()).env("FREEHOLD_TEST_PODMAN", podman.socket.host());
    workspace::succeed(tests.env("FREEHOLD_TEST_IMAGE", archive))
}
