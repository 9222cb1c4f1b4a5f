//! A primary and a standby that follows it synchronously: what is acknowledged is on both.
//!
//! - One of them takes writes, or none: a killed primary comes back as the standby of the other, never by itself.
//! - While the standby is away commits do not wait for it: it is told so when the standby has taken over, and told otherwise
//!   when the other one has caught up. Between the two a second loss is not survived, so [`Pair::until_in_sync`] comes before
//!   the next one.
//! - Both sync what they commit, other than a [`Lab`] alone, so that the moment between what is written here and what is
//!   known there is as long as in production. The tools that copy a folder do not: nothing here outlives the machine.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bouncer::Bouncer;
use super::cluster::Lab;
use super::install::{BIN, give, install, run, unprivileged};
use super::template;
use super::wait::until;

/// How long a step may take: a promotion, catching up, a base backup.
const WITHIN: Duration = Duration::from_secs(60);

/// What the standby calls itself, and what its slot is called.
const STANDBY: &str = "standby";

/// Behind the template's settings, so that these hold.
const CONF: &str = "
fsync = on
full_page_writes = on
wal_log_hints = on
wal_keep_size = 256MB
hot_standby = on
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
max_connections = 100
";

const HBA: &str = "local replication all trust\nhost replication all 127.0.0.1/32 trust\n";

/// How a killed primary became the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// What it had beyond the other was taken back by `pg_rewind`.
    Rewound,
    /// It was made anew by a base backup, because `pg_rewind` could not, and said why.
    Copied(String),
}

/// Two clusters, one of which follows the other.
#[derive(Debug)]
pub struct Pair {
    labs: [Lab; 2],
    primary: AtomicUsize,
}

impl Pair {
    /// Starts both, and returns when a commit waits for both.
    ///
    /// # Errors
    /// Where PostgreSQL cannot be installed or started.
    pub fn start() -> Result<Self> {
        install()?;
        let template = template::ready()?;
        let primary = Lab::over(&[], |data| {
            run(Command::new("cp").arg("-a").arg(&template).arg(data))?;
            append(&data.join("postgresql.conf"), CONF)?;
            append(&data.join("pg_hba.conf"), HBA)?;
            // `pg_rewind` writes every file anew.
            give(data)
        })?;
        make_slot(&primary)?;
        let standby = Lab::over(&[], |data| backup(&primary, data))?;
        let pair = Self { labs: [primary, standby], primary: AtomicUsize::new(0) };
        pair.wait_for_standby()?;
        Ok(pair)
    }

    /// The one that takes writes, or took them last.
    #[must_use]
    pub fn primary(&self) -> &Lab {
        &self.labs[self.primary.load(Ordering::SeqCst)]
    }

    /// The other one.
    #[must_use]
    pub fn standby(&self) -> &Lab {
        &self.labs[1 - self.primary.load(Ordering::SeqCst)]
    }

    /// Starts a PgBouncer before the primary, with so many connections to it for each database and role.
    ///
    /// # Errors
    /// If it does not start.
    pub fn bouncer(&self, pooled: u32) -> Result<Bouncer> {
        // In the folder of one of them, so that it ends with it.
        Bouncer::start(&self.labs[0].folder().join("bouncer"), self.primary().port(), pooled)
    }

    /// Makes the standby the primary, and returns when it takes writes. The other one has been killed before.
    ///
    /// # Errors
    /// If the standby does not run, or the other one does.
    pub fn promote(&self) -> Result<()> {
        ensure!(!self.primary().runs(), "the primary runs: two would take writes");
        let next = self.standby();
        next.sql("postgres", "SELECT pg_promote(false)")?;
        until(WITHIN, "the standby is promoted", || Ok(next.sql("postgres", "SELECT pg_is_in_recovery()")? == "f"))?;
        self.primary.store(1 - self.primary.load(Ordering::SeqCst), Ordering::SeqCst);
        // Nobody follows it, and it would wait for that for ever.
        expect_standby(next, false)?;
        // What it writes from here on is kept until the other one has it.
        make_slot(next)?;
        until(WITHIN, "the promoted standby takes writes", || {
            Ok(next.sql("postgres", "CREATE TEMP TABLE taken ()").is_ok())
        })
    }

    /// Makes the killed primary the standby of the one that took its place, and returns when commits wait for it.
    ///
    /// # Errors
    /// If it runs, or cannot be made one.
    pub fn rejoin(&self) -> Result<Rejoined> {
        let (source, old) = (self.primary(), self.standby());
        ensure!(!old.runs(), "it runs already");
        // The new timeline is where `pg_rewind` looks for it only after a checkpoint.
        source.sql("postgres", "CHECKPOINT")?;
        let mut rewind = unprivileged(Path::new(BIN).join("pg_rewind"));
        rewind.arg("--target-pgdata").arg(old.data()).args(["--source-server", &conninfo(source), "-R", "--no-sync"]);
        let rejoined = match run(&mut rewind) {
            Ok(_) => {
                follow(&old.data(), source)?;
                Rejoined::Rewound
            }
            Err(why) => {
                fs::remove_dir_all(old.data())?;
                backup(source, &old.data())?;
                Rejoined::Copied(format!("{why:#}"))
            }
        };
        old.restart()?;
        // From its time as primary: it would keep its log for nobody.
        old.sql("postgres", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")?;
        self.wait_for_standby()?;
        Ok(rejoined)
    }

    /// Lets commits wait for nobody, as one does in the hour of need: what is acknowledged from here on is on the primary only.
    ///
    /// # Errors
    /// If the primary does not answer.
    pub fn go_alone(&self) -> Result<()> {
        expect_standby(self.primary(), false)
    }

    /// Waits until everything that the primary has written is on the standby too, and stays so: until the loss of the primary
    /// loses nothing that anybody has seen.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn until_in_sync(&self) -> Result<()> {
        let primary = self.primary();
        let written = primary.sql("postgres", "SELECT pg_current_wal_lsn()")?;
        until(WITHIN, "the standby has everything", || {
            let asked = format!(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND flush_lsn >= '{written}'"
            );
            Ok(primary.sql("postgres", &asked)? == "1")
        })
    }

    /// Lets commits wait for the standby from here on, and returns when it has everything.
    fn wait_for_standby(&self) -> Result<()> {
        let primary = self.primary();
        until(WITHIN, "the standby follows", || {
            let following =
                primary.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'");
            Ok(following? == "1")
        })?;
        expect_standby(primary, true)?;
        self.until_in_sync()
    }
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options().append(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

fn conninfo(of: &Lab) -> String {
    format!("host=127.0.0.1 port={} user=postgres dbname=postgres application_name={STANDBY}", of.port())
}

/// Lets commits wait until the standby has them, or not.
fn expect_standby(primary: &Lab, expected: bool) -> Result<()> {
    let names = if expected { format!("FIRST 1 ({STANDBY})") } else { String::new() };
    // One statement for each, because ALTER SYSTEM wants no transaction around it.
    primary.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
    primary.sql("postgres", "SELECT pg_reload_conf()").map(drop)
}

fn make_slot(primary: &Lab) -> Result<()> {
    primary.sql("postgres", &format!("SELECT pg_create_physical_replication_slot('{STANDBY}', true)")).map(drop)
}

/// Copies a running primary into a folder, as its standby.
fn backup(primary: &Lab, data: &Path) -> Result<()> {
    let mut backup = unprivileged(Path::new(BIN).join("pg_basebackup"));
    backup.arg("-D").arg(data).args([
        "-d",
        &conninfo(primary),
        "-X",
        "stream",
        "-S",
        STANDBY,
        "-c",
        "fast",
        "--no-sync",
    ]);
    run(&mut backup)?;
    follow(data, primary)
}

/// What makes a data folder the standby of a primary.
fn follow(data: &Path, primary: &Lab) -> Result<()> {
    let settings = format!(
        "primary_conninfo = '{}'\nprimary_slot_name = '{STANDBY}'\nrecovery_target_timeline = 'latest'\n\
         synchronous_standby_names = ''\n",
        conninfo(primary)
    );
    append(&data.join("postgresql.auto.conf"), &settings)?;
    fs::write(data.join("standby.signal"), "")?;
    // What this wrote as root belongs to whoever runs it.
    for name in ["standby.signal", "postgresql.auto.conf"] {
        give(&data.join(name))?;
    }
    Ok(())
}
