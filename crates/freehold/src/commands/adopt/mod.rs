//! `adopt`: what an older system made becomes instances, all of a file at once.
//!
//! The file is read and understood before anything is asked of the server, and everything in it is looked at before
//! anything is done. Doing it twice does nothing the second time, so a run that was cut short is simply run again.

mod csv;
mod file;

use std::path::PathBuf;

use clap::Args;
use freehold_api::client::{Client, ClientError};
use freehold_api::v1::adoptions::{Adopt as Body, Adoption};
use freehold_api::{Code, Problem};
use serde::Serialize;

use self::file::Line;
use super::Context;
use super::confirm::Confirm;
use crate::exit::{Exit, Failure};
use crate::output::{say, table, word};

const EXAMPLE: &str = "\
The file has a heading with the names of its columns, in any order:
  owner          whose it is to be: user:ID or org:ID
  assigned_user  for whom; may be empty for user:
  app            what it is called at the provider
  tier           which tier it counts as; may be left out, and then the plan says it

  owner,assigned_user,app,tier
  user:alice,,acme-prod,small
  org:initech,bob,initech-7,large

Examples:
  freehold adopt --provider fly --from fleet.csv --dry-run
  freehold adopt --provider fly --from fleet.csv --yes";

/// The arguments of `adopt`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Adopt {
    /// The provider that it is all at, by its name in the server's configuration
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// A file of comma-separated values, one line for each
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// One line of the file, and what came of it.
#[derive(Debug, Serialize)]
struct Item {
    /// Where it is in the file, from 1.
    line: usize,
    owner: String,
    base: String,
    /// What was found, and the instance once it is one.
    adoption: Option<Adoption>,
    /// Why it is none.
    problem: Option<Box<Problem>>,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    items: Vec<Item>,
}

impl Adopt {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { provider, from, dry_run, confirm } = self;
        let must_ask = !dry_run && confirm.is_needed("an adoption")?;
        let lines = file::read(&from)?;
        let client = context.client()?;
        let mut items = Vec::new();
        for line in &lines {
            items.push(ask(&client, &provider, line, true).await?);
        }
        if dry_run {
            let failure = verdict(&items, "cannot be adopted");
            context.output.show(&Report { dry_run, items }, |report| people(&report.items))?;
            return failure.map_or(Ok(()), Err);
        }
        let fit = items.iter().filter(|item| item.adoption.as_ref().is_some_and(|adoption| !adoption.already)).count();
        say(&people(&items));
        if fit > 0 && must_ask {
            let what = format!("\n{fit} of {} are tagged and recorded. They go on running as they are.", items.len());
            Confirm::ask(&what)?;
        }
        let mut done = 0;
        for (item, line) in items.iter_mut().zip(&lines) {
            if item.adoption.as_ref().is_none_or(|adoption| adoption.already) {
                continue;
            }
            *item = ask(&client, &provider, line, false).await?;
            done += 1;
            say(&format!("[{done}/{fit}] {}", came_to(item)));
        }
        let failure = verdict(&items, "were not adopted");
        context.output.show(&Report { dry_run, items }, |report| summary(&report.items))?;
        failure.map_or(Ok(()), Err)
    }
}

/// Asks the server about one line, or to do it.
///
/// # Errors
/// What would be the same for every other line.
async fn ask(client: &Client, provider: &str, line: &Line, dry_run: bool) -> Result<Item, Failure> {
    let Line { line, owner, assigned_user, app, tier } = line.clone();
    let body =
        Body { owner: owner.clone(), assigned_user, provider: provider.to_owned(), base: app.clone(), tier, dry_run };
    let item = |adoption, problem| Item { line, owner, base: app, adoption, problem };
    match client.adopt(&body).await {
        Ok(adoption) => Ok(item(Some(adoption), None)),
        Err(ClientError::Problem(problem)) if is_of_this_line(problem.code) => Ok(item(None, Some(problem))),
        Err(error) => Err(error.into()),
    }
}

fn is_of_this_line(code: Code) -> bool {
    !matches!(code, Code::Unauthorized | Code::Forbidden | Code::ProviderUnknown | Code::NotSupported | Code::NotFound)
}

/// What all of it came to, where not everything is well: the exit code of the only sort of failure there is, or 1.
fn verdict(items: &[Item], what: &str) -> Option<Failure> {
    let problems: Vec<&Problem> = items.iter().filter_map(|item| item.problem.as_deref()).collect();
    let mut exits: Vec<Exit> = problems.iter().map(|problem| Failure::of_problem((*problem).clone()).exit).collect();
    exits.dedup();
    let exit = match exits.as_slice() {
        [] => return None,
        [only] => *only,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("{} of {} {what}", problems.len(), items.len()));
    Some(failure.hint("the lines above say why; run it again once that is settled, it does nothing twice"))
}

/// The plan, and below it why something is not part of it.
fn people(items: &[Item]) -> String {
    let rows = items.iter().map(|item| {
        let adoption = item.adoption.as_ref();
        let found = adoption.and_then(|adoption| adoption.found.as_ref());
        let size = found.map(|found| {
            let cpus = f64::from(found.cpu_millis) / 1_000.0;
            let parts = [
                (found.memory_mb > 0).then(|| format!("{} MiB", found.memory_mb)),
                (found.cpu_millis > 0).then(|| format!("{cpus} CPU")),
                (found.volume_gb > 0).then(|| format!("{} GB", found.volume_gb)),
            ];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
        [
            item.line.to_string(),
            item.base.clone(),
            item.owner.clone(),
            adoption.map(|adoption| adoption.assigned_user.clone()).unwrap_or_default(),
            adoption.map(|adoption| adoption.tier.clone()).unwrap_or_default(),
            found.and_then(|found| found.region.clone()).unwrap_or_default(),
            found.map(|found| found.state.clone()).unwrap_or_default(),
            size.unwrap_or_default(),
            found.and_then(|found| found.image.clone()).unwrap_or_default(),
            match adoption {
                Some(adoption) if adoption.already => "is adopted already",
                Some(adoption) if adoption.instance.is_some() => "go on",
                Some(_) => "adopt",
                None => "cannot be",
            }
            .to_owned(),
        ]
    });
    let heading = ["line", "app", "owner", "for", "tier", "region", "state", "size", "image", "plan"];
    let refused = refusals(items);
    let table = table(heading, rows);
    if refused.is_empty() { table } else { format!("{table}\n\n{refused}") }
}

fn refusals(items: &[Item]) -> String {
    let refused = items.iter().filter(|item| item.problem.is_some());
    refused.map(|item| format!("line {}: {}", item.line, came_to(item))).collect::<Vec<_>>().join("\n")
}

fn came_to(item: &Item) -> String {
    let base = &item.base;
    match (&item.adoption, &item.problem) {
        (_, Some(problem)) => problem.to_string(),
        (Some(Adoption { instance: Some(instance), .. }), None) => {
            format!("{base}: instance {}, {}", instance.id, word(instance.status))
        }
        (_, None) => base.clone(),
    }
}

fn summary(items: &[Item]) -> String {
    let adopted = items.iter().filter(|item| item.adoption.is_some()).count();
    let total = items.len();
    let refused = refusals(items);
    let head = format!("{adopted} of {total} are instances now");
    if refused.is_empty() { head } else { format!("{head}\n\n{refused}") }
}
