//! Engines of our own, started in a folder of their own, and gone with everything in them at the end.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::socket::Socket;
use crate::{packages, workspace};

/// How long an engine may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long one may take to end when asked.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What Podman needs in a place that is itself a container.
const CONTAINERS_CONF: &str = r#"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// What keeps the programs of a Docker Engine is a service of its own, as distributions have it: it lives on when the
/// engine is killed, and knows what runs.
const CONTAINERD: &str = r#"
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"#;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

/// An engine. Dropping it ends it and whatever runs in it.
pub(super) struct Engine {
    pub(super) kind: Kind,
    pub(super) socket: Socket,
    folder: PathBuf,
    process: Option<Child>,
    /// What lives on when the engine is killed.
    keeper: Option<Child>,
}

impl Engine {
    /// Starts an engine in `folder`, which is made.
    pub(super) fn start(kind: Kind, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("containers.conf"), CONTAINERS_CONF)?;
        let socket = Socket(folder.join("sock"));
        let mut engine = Self { kind, socket, folder: folder.to_owned(), process: None, keeper: None };
        if kind == Kind::Docker {
            engine.keeper = Some(engine.keep()?);
        }
        engine.launch()?;
        Ok(engine)
    }

    fn log(&self) -> Result<File> {
        Ok(File::options().create(true).append(true).open(self.folder.join("log"))?)
    }

    fn containerd(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// Starts what keeps the programs of a Docker Engine.
    fn keep(&self) -> Result<Child> {
        let config = self.folder.join("containerd.toml");
        fs::write(&config, CONTAINERD)?;
        let mut command = Command::new("containerd");
        command.args(["--config".as_ref(), config.as_os_str()]);
        command.args(["--root".as_ref(), self.folder.join("containerd").as_os_str()]);
        command.args(["--state".as_ref(), self.folder.join("containerd-run").as_os_str()]);
        command.args(["--address".as_ref(), self.containerd().as_os_str()]);
        let log = self.log()?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("starting {}", workspace::shown(command)))
    }

    fn launch(&mut self) -> Result<()> {
        let folder = &self.folder;
        let log = self.log()?;
        let mut command = match self.kind {
            Kind::Docker => {
                // A killed one leaves its own behind, and would take that for another engine's.
                drop(fs::remove_file(folder.join("pid")));
                let mut command = Command::new("dockerd");
                command.arg("--live-restore").args(["--containerd".as_ref(), self.containerd().as_os_str()]);
                command.args(["--data-root".as_ref(), folder.join("data").as_os_str()]);
                command.args(["--exec-root".as_ref(), folder.join("run").as_os_str()]);
                command.args(["--pidfile".as_ref(), folder.join("pid").as_os_str()]);
                command.args(["-H", &self.socket.host()]);
                command
            }
            Kind::Podman => {
                drop(fs::remove_file(&self.socket.0));
                let mut command = self.podman();
                command.args(["system", "service", "--time=0", &self.socket.host()]);
                command
            }
        };
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().with_context(|| format!("starting {}", workspace::shown(command)))?);
        self.socket.until_ready(READY_WITHIN).with_context(|| format!("its log is {}", folder.join("log").display()))
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.args(["--root".as_ref(), self.folder.join("data").as_os_str()]);
        command.args(["--runroot".as_ref(), self.folder.join("run").as_os_str()]);
        command.args(["--tmpdir".as_ref(), self.folder.join("tmp").as_os_str()]);
        command
    }

    /// Kills it, as nothing can be prepared for. What runs in it goes on.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again after it was killed, as the guide to a Docker Engine has it: without the programs that it lost.
    pub(super) fn come_back(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            let mut script = workspace::program(workspace::root().join("examples/docker/end-lost-programs"));
            script.env("CONTAINERD_ADDRESS", self.containerd()).env("DOCKER_ROOT", self.folder.join("data"));
            workspace::succeed(&mut script)?;
        }
        self.launch()
    }

    /// Ends it, and everything in it.
    fn end(&mut self) -> Result<()> {
        if self.process.is_none() {
            // Only an engine that lives can be told to let go of what runs in it.
            self.launch()?;
        }
        let things = self.socket.things(None)?;
        self.socket.remove(&things)?;
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            workspace::succeed(Command::new("kill").args(["-TERM", &pid]))?;
            let deadline = Instant::now() + END_WITHIN;
            while process.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    process.kill()?;
                    process.wait()?;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Some(mut keeper) = self.keeper.take() {
            keeper.kill()?;
            keeper.wait()?;
        }
        Ok(())
    }

    /// Ends what a killed engine forgot: its helpers, which have its folder among their arguments, and their children.
    fn end_helpers(&self) -> Result<()> {
        let ours = format!("{}/", self.folder.display());
        let mut ended: Vec<u32> = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.contains(&ours) && pid != std::process::id() {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                ended.extend(children.split(' ').filter_map(|child| child.parse::<u32>().ok()));
                ended.push(pid);
            }
        }
        if ended.is_empty() {
            return Ok(());
        }
        // Some end with others.
        let pids = ended.iter().map(u32::to_string);
        Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// Takes away what is still mounted below its folder, so that the folder can be removed.
    fn unmount(&self) -> Result<()> {
        let prefix = format!("{}/", self.folder.display());
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let places =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|place| place.starts_with(&prefix));
        for place in places.collect::<Vec<_>>().into_iter().rev() {
            workspace::succeed(Command::new("umount").args(["-l", place]))?;
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for outcome in [self.end(), self.kill(), self.end_helpers(), self.unmount()] {
            if let Err(error) = outcome {
                eprintln!("warning: something of {:?} may be left in {}: {error:#}", self.kind, self.folder.display());
            }
        }
    }
}

/// Programs that are needed, and the Debian packages that have them.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/sbin/dockerd", "docker.io"),
    ("/usr/bin/podman", "podman"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/bin/catatonit", "catatonit"),
    ("/usr/share/doc/busybox-static", "busybox-static"),
];

/// Installs what is missing.
pub(super) fn install() -> Result<()> {
    packages::install(NEEDED)
}

/// What an instance of the tests runs: it says who it is, and lives until it is stopped.
const SERVE: &str = "#!/bin/sh
mkdir -p /www && echo \"hello from $FREEHOLD_INSTANCE_ID\" > /www/index.html
exec httpd -f -p \"$PORT\" -h /www
";

/// Puts an image together: a static busybox, and what runs on it. Answers the archive.
pub(super) fn image(folder: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let root = folder.join("root");
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("tmp"))?;
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))?;
    for applet in ["sh", "httpd", "sleep", "cat", "echo", "mkdir", "date"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n")?;
    fs::write(root.join("bin/serve"), SERVE)?;
    fs::set_permissions(root.join("bin/serve"), fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("image.tar");
    let mut tar = Command::new("tar");
    workspace::succeed(tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
    ensure!(fs::metadata(&archive)?.len() > 0, "the image is empty");
    Ok(archive)
}
