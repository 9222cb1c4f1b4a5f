//! A Docker Engine of the test's own that is killed while it makes containers.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use freehold_domain::resource::{Custody, Outcome, ResourceKind};
use freehold_engine::ports::Provider;
use freehold_providers::docker::{DockerHost, DockerOptions};

use super::world::{World, blueprint, done, eventually, options, raw};

/// How long a killed engine's helpers take to notice.
const AFTER_A_KILL: Duration = Duration::from_secs(3);

/// An engine without a network, so that it is in no other engine's way.
struct Own {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Own {
    fn host(&self) -> DockerHost {
        DockerHost::Unix(self.folder.path().join("sock"))
    }

    async fn launch(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        std::fs::remove_file(at("pid")).ok();
        // In a network of its own: an engine without a bridge removes everybody's.
        let process = Command::new("unshare")
            .args(["--net", "dockerd", "--live-restore", "--bridge=none", "--iptables=false"])
            .args(["-H", &self.host().to_string()])
            .args(["--data-root".as_ref(), at("data").as_os_str()])
            .args(["--exec-root".as_ref(), at("run").as_os_str()])
            .args(["--pidfile".as_ref(), at("pid").as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        let socket = at("sock");
        eventually("the engine to answer", async || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
                && raw(&self.host(), "GET", "/_ping", "text/plain", b"").0 == 200
        })
        .await;
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
        end_helpers(self.folder.path());
        unmount(self.folder.path());
    }
}

/// Ends what a killed engine forgot: its helpers, which have its folder among their arguments, and their children.
fn end_helpers(folder: &Path) {
    let ours = format!("{}/", folder.display());
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.contains(&ours) && pid != std::process::id() {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let children = children.split_whitespace().map(str::to_owned);
            Command::new("kill").arg("-KILL").args(children).arg(pid.to_string()).stderr(Stdio::null()).status().ok();
        }
    }
}

fn unmount(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = format!("{}/", folder.display());
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|place| place.starts_with(&below)) {
        Command::new("umount").args(["-l", place]).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Docker engine: cargo xtask engines"]
async fn an_engine_that_is_killed_while_it_creates_ends_with_one_of_each() {
    let image = std::env::var_os("FREEHOLD_TEST_IMAGE").expect("run this test with `cargo xtask engines`");
    let mut engine = Own { folder: tempfile::tempdir().unwrap(), process: None };
    engine.launch().await;
    let import = "/images/create?fromSrc=-&repo=localhost/freehold-test&changes=CMD%20%5B%22%2Fbin%2Fserve%22%5D";
    assert_eq!(raw(&engine.host(), "POST", import, "application/x-tar", &std::fs::read(image).unwrap()).0, 200);
    let mut unknown = 0;
    for killed_after in [5, 40, 120].map(Duration::from_millis) {
        let worlds: Vec<_> = (0..6)
            .map(|_| {
                let host = engine.host();
                Arc::new(World::with(DockerOptions { network: Some("none".to_owned()), ..options(host) }))
            })
            .collect();
        for world in &worlds {
            done(world.ensure(ResourceKind::Base, &blueprint()).await);
        }
        let calls: Vec<_> = worlds
            .iter()
            .cloned()
            .map(|world| tokio::spawn(async move { world.ensure(ResourceKind::Runtime, &blueprint()).await }))
            .collect();
        // When the kill meets them is chance; what may come of it is not.
        tokio::time::sleep(killed_after).await;
        engine.kill();
        for call in calls {
            match call.await.unwrap() {
                Outcome::Rejected(rejection) => panic!("a killed engine has refused nothing: {rejection:?}"),
                Outcome::Unknown(_) => unknown += 1,
                Outcome::NotSent(_) | Outcome::Done(_) => {}
            }
        }
        tokio::time::sleep(AFTER_A_KILL).await;
        engine.launch().await;
        for world in &worlds {
            done(world.ensure(ResourceKind::Runtime, &blueprint()).await);
            let seen = world.provider.observe(&world.ident).await.unwrap();
            let ours = seen.found.iter().filter(|found| found.custody == Custody::Ours);
            let kinds: Vec<_> = ours.map(|found| found.resource.kind).collect();
            assert_eq!(kinds, ResourceKind::ALL, "{seen:?}");
            world.remove().await;
        }
    }
    println!("{unknown} calls of 18 were cut off");
}
