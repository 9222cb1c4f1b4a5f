//! `migrate`: the schema of the registry's database. `serve` does this by itself; here it is done apart.

use clap::Subcommand;
use freehold_engine::ports::Clock as _;
use freehold_store::migrate;
use serde::Serialize;

use super::Context;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::table;
use crate::serve::{DataFolder, SystemClock, lock_database, registry};

/// See and bring up the schema of the registry's database.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Show which steps the schema has taken, and which it has not; nothing is changed
    Status,
    /// Take the steps that are missing; refused while a server has the data folder
    #[command(after_help = "Examples:\n  freehold migrate up --config /etc/freehold.toml")]
    Up,
}

#[derive(Serialize)]
struct Report {
    database: String,
    schema: u32,
    latest: u32,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    version: u32,
    name: String,
    applied_at: Option<jiff::Timestamp>,
}

impl Migrate {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let config = Config::load(&context.sources())?;
        let path = registry::path(&config, &config.data_dir)?;
        let _locks = match self {
            Self::Status => None,
            Self::Up => {
                let locks = (DataFolder::open(&config.data_dir)?, lock_database(&path)?);
                let now = SystemClock::new().now();
                migrate::up(&path, now).map_err(|error| registry::unmigratable(&path, error))?;
                Some(locks)
            }
        };
        let status = migrate::status(&path).map_err(|error| registry::unmigratable(&path, error))?;
        let applied = status.applied.into_iter().map(|step| Step {
            version: step.version,
            name: step.name,
            applied_at: jiff::Timestamp::from_microsecond(step.applied_at.as_micros()).ok(),
        });
        let pending = status.pending.into_iter().map(|step| Step {
            version: step.version,
            name: step.name.to_owned(),
            applied_at: None,
        });
        let report = Report {
            database: path.display().to_string(),
            schema: status.database,
            latest: status.program,
            steps: applied.chain(pending).collect(),
        };
        context.output.show(&report, people)
    }
}

fn people(report: &Report) -> String {
    let rows = report.steps.iter().map(|step| {
        let applied = step.applied_at.map_or_else(|| "not yet".to_owned(), |at| at.to_string());
        [step.version.to_string(), step.name.clone(), applied]
    });
    let table = table(["step", "name", "applied"], rows);
    format!("{}: schema {} of {}\n\n{table}", report.database, report.schema, report.latest)
}
