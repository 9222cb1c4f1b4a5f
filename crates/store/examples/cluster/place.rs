//! Where it is measured: a cluster that keeps its promises, and databases in it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freehold_postgres_lab::Lab;

/// What differs from the settings that PostgreSQL has by itself: what an operator of such a machine would set, and room for
/// everybody's connections. `shared_buffers` come to them, a quarter of the memory. Both sides of every comparison have
/// them.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("autovacuum", "on"),
    ("max_connections", "200"),
    ("max_wal_size", "16GB"),
    // Files of the log are used again, and none is made while somebody waits for a commit.
    ("min_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "lz4"),
    ("maintenance_work_mem", "1GB"),
    ("random_page_cost", "1.1"),
];

/// The tables that an admission writes.
pub(super) const TABLES: [&str; 4] = ["contexts", "reservations", "operations", "audit"];

/// A cluster.
pub(super) struct Place {
    lab: Arc<Lab>,
}

/// A database with the registry's schema.
#[derive(Clone)]
pub(super) struct Database {
    lab: Arc<Lab>,
    name: String,
    pub(super) url: String,
}

impl Place {
    pub(super) fn start(more: &[(&str, &str)]) -> Result<Self> {
        let buffers = format!("{}MB", memory_mb()? / 4);
        let mut settings = SETTINGS.to_vec();
        settings.push(("shared_buffers", &buffers));
        settings.extend(more);
        Ok(Self { lab: Arc::new(Lab::start_with(&settings)?) })
    }

    /// An empty database.
    pub(super) fn database(&self) -> Result<Database> {
        let url = self.lab.database()?;
        let name =
            url.rsplit('/').next().and_then(|rest| rest.split('?').next()).context("a URL without a database")?;
        Ok(Database { lab: Arc::clone(&self.lab), name: name.to_owned(), url })
    }
}

impl Database {
    /// As superuser. Answers rows, columns separated by `|`.
    pub(super) fn sql(&self, statements: &str) -> Result<String> {
        self.lab.sql(&self.name, statements)
    }

    /// The first column of the first row, as a number.
    pub(super) fn number(&self, select: &str) -> Result<f64> {
        let said = self.sql(select)?;
        said.trim().parse().with_context(|| format!("{said:?} is no number: {select}"))
    }

    /// Processor time so far: of the database's processes, and of this one.
    pub(super) fn cpu_time(&self) -> Result<Cpu> {
        let pid = self.lab.data().join("postmaster.pid");
        let pid = std::fs::read_to_string(&pid).with_context(|| format!("reading {}", pid.display()))?;
        let pid = pid.lines().next().context("a postmaster without an id")?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        // The postmaster's own has in it those of its children that have ended.
        let living = children.split_whitespace().map(|child| ticks(child, 2)).sum::<u64>();
        Ok(Cpu { database: of_ticks(ticks(pid, 4) + living), callers: of_ticks(ticks("self", 2)) })
    }

    /// Writes what is dirty, so that what is measured next begins where everything else began.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.sql("CHECKPOINT").map(drop)
    }

    /// What an admission takes in each table, in bytes: the average of its rows.
    pub(super) fn row_bytes(&self) -> Result<Vec<(&'static str, f64)>> {
        let bytes = |table: &'static str| {
            let rows = format!("SELECT * FROM freehold_registry.{table} LIMIT 10000");
            let average = self.number(&format!("SELECT avg(pg_column_size(t.*)) FROM ({rows}) t"))?;
            Ok((table, average))
        };
        TABLES.into_iter().map(bytes).collect()
    }

    /// pgbench on this database, as the role that owns it.
    pub(super) fn pgbench(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("/usr/lib/postgresql/15/bin/pgbench");
        command.args(["-h", "127.0.0.1", "-p", &self.lab.port().to_string()]);
        command.args(["-U", freehold_postgres_lab::DATABASE_ROLE]).args(arguments).arg(&self.name);
        let output = command.output().context("starting pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "pgbench failed: {}\n{said}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

/// The machine's memory.
fn memory_mb() -> Result<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").context("asking for the machine's memory")?;
    let total =
        told.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(|rest| rest.split_whitespace().next());
    let kb: u64 = total.context("a machine that does not tell its memory")?.parse()?;
    Ok(kb / 1024)
}

/// Processor time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub(super) database: Duration,
    pub(super) callers: Duration,
}

impl Cpu {
    /// What went by since `before`, for each of so many calls, in words.
    pub(super) fn each(self, before: Self, calls: u64) -> String {
        let each =
            |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() * 1e6 / calls.max(1) as f64;
        let (database, callers) = (each(self.database, before.database), each(self.callers, before.callers));
        format!("{database:.0} µs in the database and {callers:.0} µs in callers and store")
    }
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

/// The first of `of` a process's own user and system time and those of its ended children, in hundredths of a second.
fn ticks(pid: &str, of: usize) -> u64 {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    behind_name.split_whitespace().skip(11).take(of).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
