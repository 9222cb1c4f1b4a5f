//! Limits, where the machine lets us set them: one cgroup (v2) per instance, below our own.
//!
//! The kernel hands memory and CPU down only to a cgroup whose parent holds no processes itself (cgroups(7), "no
//! internal processes"). Under systemd that is `Delegate=yes` with `DelegateSubgroup=freehold-server`: the server then
//! sits in a cgroup of that name, and instances get theirs beside it. Where it is not so, there are no limits, and
//! [`limits`] says why.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::durable;
use super::folder::Folder;

/// The cgroup that a server started with `DelegateSubgroup=` is in.
const SERVER_GROUP: &str = "freehold-server";

/// The period that a CPU limit is a share of, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// The file in an instance's folder that names its cgroup.
const RECORD: &str = "cgroup";

/// Whether an instance's limits are enforced here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsSupport {
    /// Where instances get their cgroups; `None` where they get none.
    base: Option<PathBuf>,
    why: String,
}

impl LimitsSupport {
    /// Whether memory and CPU limits are enforced.
    #[must_use]
    pub fn enforced(&self) -> bool {
        self.base.is_some()
    }

    pub(super) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    fn none(why: impl Into<String>) -> Self {
        Self { base: None, why: why.into() }
    }
}

impl fmt::Display for LimitsSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Some(base) => write!(f, "memory and cpu limits are enforced below {}", base.display()),
            None => write!(f, "memory and cpu limits are not enforced: {}", self.why),
        }
    }
}

/// Finds out whether this machine lets us limit instances.
#[must_use]
pub fn limits() -> LimitsSupport {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let Some(mount) = mount_point(&read("/proc/self/mountinfo")) else {
        return LimitsSupport::none("no cgroup v2 hierarchy is mounted");
    };
    let Some(own) = own_group(&read("/proc/self/cgroup")) else {
        return LimitsSupport::none("this process is in no cgroup v2");
    };
    limits_below(&mount.join(own.trim_start_matches('/')))
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

fn own_group(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn limits_below(own: &Path) -> LimitsSupport {
    let base = match own.parent() {
        Some(parent) if own.file_name().is_some_and(|name| name == SERVER_GROUP) => parent,
        Some(_) | None => own,
    };
    let has_both = |file: &str| {
        let text = fs::read_to_string(base.join(file)).unwrap_or_default();
        ["memory", "cpu"].iter().all(|wanted| text.split_ascii_whitespace().any(|word| word == *wanted))
    };
    if !has_both("cgroup.controllers") {
        return LimitsSupport::none(format!("{} has no memory and cpu controllers", base.display()));
    }
    if !has_both("cgroup.subtree_control")
        && let Err(error) = fs::write(base.join("cgroup.subtree_control"), "+memory +cpu")
    {
        return LimitsSupport::none(format!("{} does not hand memory and cpu down: {error}", base.display()));
    }
    let trial = base.join(durable::unique("fh-trial-"));
    match fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
        Ok(()) => LimitsSupport { base: Some(base.to_owned()), why: String::new() },
        Err(error) => LimitsSupport::none(format!("{} takes no cgroups: {error}", base.display())),
    }
}

/// Makes the cgroup of an instance with its limits, writes it down, and moves this process into it: what it starts is
/// born there.
pub(super) fn enter(folder: &Folder, base: &Path, name: &str, memory_mb: u32, cpu_millis: u32) -> io::Result<()> {
    let group = base.join(name);
    durable::replace_record(&folder.path().join(RECORD), &group)?;
    durable::make_folder(&group)?;
    // 0 stands for no limit, as it does for the volume.
    let or_max = |limit: u64| if limit == 0 { "max".to_owned() } else { limit.to_string() };
    fs::write(group.join("memory.max"), or_max(u64::from(memory_mb) << 20))?;
    fs::write(
        group.join("cpu.max"),
        format!("{} {CPU_PERIOD_US}", or_max(u64::from(cpu_millis) * CPU_PERIOD_US / 1000)),
    )?;
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}

/// Kills whatever is in the instance's cgroup, if it has one.
pub(super) fn kill(folder: &Folder) -> io::Result<()> {
    let Some(group) = durable::read_record::<PathBuf>(&folder.path().join(RECORD))? else { return Ok(()) };
    durable::there(fs::write(group.join("cgroup.kill"), "1")).map(drop)
}

/// Removes the instance's cgroup, which is empty.
pub(super) fn remove(folder: &Folder) -> io::Result<()> {
    let record = folder.path().join(RECORD);
    if let Some(group) = durable::read_record::<PathBuf>(&record)? {
        durable::there(fs::remove_dir(group))?;
    }
    durable::remove_if_there(&record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         31 30 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mountinfo), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
        assert_eq!(own_group("4:memory:/a\n0::/b/c\n"), Some("/b/c".to_owned()));
        assert_eq!(own_group("4:memory:/a\n"), None);
    }

    #[test]
    fn limits_are_there_only_where_memory_and_cpu_are_handed_down() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(SERVER_GROUP);
        fs::create_dir(&own).unwrap();
        assert!(!limits_below(&own).enforced(), "no controllers");
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let support = limits_below(&own);
        assert_eq!(support.base(), Some(dir.path()), "{support}");
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap(), "+memory +cpu");
        let elsewhere = dir.path().join("a");
        fs::create_dir(&elsewhere).unwrap();
        assert!(limits_below(&elsewhere).to_string().starts_with("memory and cpu limits are not enforced: "));
    }

    #[test]
    fn this_machine_gives_an_answer() {
        let support = limits();
        assert_eq!(support.enforced(), support.to_string().contains("are enforced"));
    }
}
