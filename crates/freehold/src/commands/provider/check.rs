//! `provider check`: the suite that every adapter must pass, against the real thing.
//!
//! - What it makes carries the name of an installation of its own, so that no server's janitor sees it and it sees nothing
//!   of a server's. It needs no server, and minds none.
//! - However it ends, it removes what it made, and says what it could not remove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Provider};
use freehold_engine::world::Template;
use freehold_providers::conformance::{self, CHECKS, Leftover, Pass, Subject};
use serde::Serialize;

use crate::api_key::{chance, chance_name};
use crate::commands::Context;
use crate::config::{Config, Period, ProviderConfig, ProviderKind};
use crate::exit::Failure;
use crate::output::{say, table};
use crate::serve::Ending;
use crate::serve::wiring::{Opener, opener, templates, tier};

/// How long any state may take to come about: longer than the slowest provider takes to make a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many times the longest lag that was measured the horizon should be: a busy day is slower than a check.
const HORIZON_PER_LAG: u32 = 4;

/// The shortest horizon worth setting.
const HORIZON_MIN: Duration = Duration::from_secs(1);

/// The template that is checked with unless something else is said.
const TEMPLATE: &str = "hello";

/// Check a provider against the real thing, and measure how long it lags behind.
#[derive(Debug, Args)]
#[command(after_help = "\
It makes real resources at the provider, some dozens one after the other, and removes them. They
carry an installation name of their own: a server may run beside it. Ctrl-C removes what is there.

Exit code 0 if every check passed or does not apply, 1 otherwise.

Examples:
  freehold provider check local
  freehold provider check docker --image alpine:3 --template sleeper --config /etc/freehold.toml
  freehold provider check fly --only create_twice_is_one_resource --json")]
pub(crate) struct Check {
    /// The provider's name in the configuration
    name: String,
    /// The image to run, for providers that run images
    #[arg(long)]
    image: Option<String>,
    /// The template to run: something that stays up until it is stopped [default: hello; with --image: the image's own]
    #[arg(long)]
    template: Option<String>,
    /// Run this check alone; can be given more than once
    #[arg(long, value_name = "CHECK", value_parser = check_named)]
    only: Vec<&'static str>,
}

fn check_named(text: &str) -> Result<&'static str, String> {
    let known: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    known.iter().copied().find(|name| *name == text).ok_or_else(|| format!("use one of {}", known.join(", ")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Grade {
    Passed,
    Failed,
    NotApplicable,
}

impl Grade {
    const fn shown(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed => "FAIL",
            Self::NotApplicable => "n/a",
        }
    }
}

/// One check, graded.
#[derive(Debug, Serialize)]
struct Graded {
    check: &'static str,
    about: &'static str,
    grade: Grade,
    seconds: f64,
    says: String,
}

/// How long the provider lags behind what was done.
#[derive(Debug, Serialize)]
struct Horizon {
    /// How often it was measured.
    samples: usize,
    /// The longest lag, in seconds.
    longest_seconds: f64,
    /// What the configuration says.
    configured: String,
    /// Whether that is longer than the longest lag, where a proof rests on it: under a seal none does.
    is_long_enough: bool,
    /// What it should say, where there is anything to set.
    recommended: Option<String>,
}

#[derive(Debug, Serialize)]
struct Left {
    name: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Report {
    provider: String,
    kind: ProviderKind,
    install: String,
    interrupted: bool,
    checks: Vec<Graded>,
    horizon: Option<Horizon>,
    /// What could not be removed.
    left: Vec<Left>,
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = Config::load_unchecked(&context.sources())?;
        let settings = config.providers.get(&self.name).ok_or_else(|| {
            let known: Vec<_> = config.providers.keys().map(String::as_str).collect();
            Failure::usage(format!("there is no provider `{}`", self.name)).hint(format!("use {}", known.join(", ")))
        })?;
        let mut ending = Ending::watch()?;
        let install = format!("check-{}", chance_name()?.to_lowercase());
        let mut folder = Folder::within(&config.data_dir, &install);
        let subject = self.subject(&config, settings, &folder.path, &install)?;
        subject.provider.accepts(&subject.blueprint).map_err(|why| {
            Failure::usage(format!("{} does not run this: {why}", self.name))
                .hint("name something that it runs with --image or --template")
        })?;
        say(&format!("checking {} as installation {install}", self.name));
        let (checks, interrupted) = self.grade(&subject, &mut ending).await;
        say("cleaning up");
        let left = tokio::select! {
            left = subject.sweep_last() => left,
            by = ending.asked() => {
                let why = format!("{by} ended the clean-up before it was over");
                vec![Leftover { name: format!("what carries freehold_install={install}"), why }]
            }
        };
        folder.is_kept = !left.is_empty();
        drop(folder);
        let report = Report {
            horizon: Horizon::of(&subject, settings),
            provider: self.name,
            kind: settings.kind(),
            install,
            interrupted,
            checks,
            left: left.into_iter().map(|Leftover { name, why }| Left { name, why }).collect(),
        };
        context.output.show(&report, people)?;
        report.verdict()
    }

    /// Runs the checks, until all are done or somebody asks for the end.
    async fn grade(&self, subject: &Subject, ending: &mut Ending) -> (Vec<Graded>, bool) {
        let wanted = |check: &&conformance::Check| self.only.is_empty() || self.only.contains(&check.name);
        let mut graded = Vec::new();
        for check in CHECKS.iter().filter(wanted) {
            say(&format!("  {}", check.name));
            let began = Instant::now();
            let verdict = tokio::select! {
                verdict = check.run(subject) => verdict,
                by = ending.asked() => {
                    say(&format!("{by}: removing what was made"));
                    return (graded, true);
                }
            };
            let (grade, says) = match verdict {
                Ok(Pass::Passed) => (Grade::Passed, check.about.to_owned()),
                Ok(Pass::NotApplicable(why)) => (Grade::NotApplicable, why),
                Err(why) => (Grade::Failed, why.replace('\n', " ")),
            };
            let seconds = began.elapsed().as_secs_f64();
            graded.push(Graded { check: check.name, about: check.about, grade, seconds, says });
        }
        (graded, false)
    }

    fn subject(
        &self,
        config: &Config,
        settings: &ProviderConfig,
        folder: &Path,
        install: &str,
    ) -> Result<Subject, Failure> {
        let open: Opener = opener(&self.name, settings, folder)?;
        let with_a_key = || {
            let install = install.parse().map_err(|error| Failure::failed(format!("{install:?}: {error}")))?;
            Ok::<_, Failure>(Idents::new(install, &chance()?))
        };
        let (idents, stranger_idents) = (with_a_key()?, with_a_key()?);
        let (provider, stranger, another) = (open(&idents)?, open(&stranger_idents)?, open(&idents)?);
        let reopen: Box<dyn Fn() -> Arc<dyn Provider> + Send + Sync> = {
            let idents = idents.clone();
            // One that was opened before does as well: a provider value keeps nothing.
            Box::new(move || open(&idents).unwrap_or_else(|_| another.clone()))
        };
        Ok(Subject {
            provider,
            idents,
            reopen,
            stranger,
            stranger_idents,
            blueprint: self.blueprint(config, settings)?,
            more_than_a_page: 0,
            untagged_base: settings.kind() == ProviderKind::Fly,
            patience: PATIENCE,
            keep: Box::new(()),
            made_up: Mutex::default(),
        })
    }

    /// What is run: the smallest tier of a template, with the image that was named.
    fn blueprint(&self, config: &Config, settings: &ProviderConfig) -> Result<Blueprint, Failure> {
        let all = templates(config)?;
        let wanted = self.template.as_deref().or(self.image.is_none().then_some(TEMPLATE));
        let Template { image, command, env: _ } = match wanted {
            None => Template::default(),
            Some(name) => all.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = all.keys().map(String::as_str).collect();
                Failure::usage(format!("there is no template `{name}`"))
                    .hint(format!("use --template with one of {}", known.join(", ")))
            })?,
        };
        let smallest = config.tiers.values().min_by_key(|tier| tier.rank);
        let size = smallest.map(tier).ok_or_else(|| Failure::usage("there is no tier in the configuration"))?;
        let region = match settings {
            ProviderConfig::Fly(settings) => settings.regions.first().cloned(),
            ProviderConfig::Process | ProviderConfig::Fake(_) | ProviderConfig::Docker(_) => None,
        };
        Ok(Blueprint {
            command,
            image: self.image.clone().or(image),
            env: BTreeMap::new(),
            secrets: BTreeSet::new(),
            memory_mb: size.memory_mb,
            cpu_millis: size.cpu_millis,
            volume_gb: size.volume_gb,
            region,
        })
    }
}

/// Where a provider of this machine keeps what it makes: within the data folder, so that the disk is the same. It goes
/// with this value.
struct Folder {
    path: PathBuf,
    /// The data folder, if it was not there.
    data_dir: Option<PathBuf>,
    /// Whether something in it is still needed.
    is_kept: bool,
}

impl Folder {
    fn within(data_dir: &Path, install: &str) -> Self {
        let path = data_dir.join(install);
        Self { path, data_dir: (!data_dir.exists()).then(|| data_dir.to_owned()), is_kept: false }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if self.path.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            say(&format!("{} could not be removed: {error}", self.path.display()));
        }
        if let Some(data_dir) = &self.data_dir {
            // Somebody else may have put something into it, and then it stays.
            drop(std::fs::remove_dir(data_dir));
        }
    }
}

impl Horizon {
    fn of(subject: &Subject, settings: &ProviderConfig) -> Option<Self> {
        let lags = subject.lags();
        let longest = lags.iter().max().copied()?;
        let promised = subject.provider.capabilities();
        let recommended = match settings {
            // There is nothing to set: a look at this machine is always conclusive.
            ProviderConfig::Process => None,
            ProviderConfig::Fake(_) | ProviderConfig::Docker(_) | ProviderConfig::Fly(_) => Some(recommended(longest)),
        };
        Some(Self {
            samples: lags.len(),
            longest_seconds: longest.as_secs_f64(),
            configured: settings.settle_horizon().to_string(),
            is_long_enough: promised.seals || longest <= promised.settle_horizon,
            recommended: recommended.map(|period| period.to_string()),
        })
    }
}

fn recommended(longest: Duration) -> Period {
    let horizon = (longest * HORIZON_PER_LAG).max(HORIZON_MIN);
    Period::from_millis(u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX).div_ceil(1_000).saturating_mul(1_000))
}

impl Report {
    fn verdict(&self) -> Result<(), Failure> {
        let failed = self.checks.iter().filter(|graded| graded.grade == Grade::Failed).count();
        if let Some(Left { name, why }) = self.left.first() {
            let left = self.left.len();
            return Err(Failure::failed(format!("{left} could not be removed; the first: {name}: {why}"))
                .hint(format!("remove what carries freehold_install={} at the provider by hand", self.install)));
        }
        if self.interrupted {
            return Err(Failure::failed("it was ended before every check was run; what was made is removed"));
        }
        if failed > 0 {
            return Err(Failure::failed(format!("{failed} of {} checks failed", self.checks.len())));
        }
        match &self.horizon {
            Some(horizon) if !horizon.is_long_enough => {
                Err(Failure::failed("the provider lags behind for longer than its settle_horizon says")
                    .hint("set settle_horizon to what is recommended"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn people(report: &Report) -> String {
    let rows = report.checks.iter().map(|Graded { check, about: _, grade, seconds, says }| {
        [(*check).to_owned(), grade.shown().to_owned(), format!("{seconds:.1}"), says.clone()]
    });
    let mut text = table(["check", "grade", "seconds", "what it says"], rows);
    if let Some(Horizon { samples, longest_seconds, configured, is_long_enough: _, recommended }) = &report.horizon {
        text.push_str(&format!(
            "\n\nThe provider lagged at most {longest_seconds:.3} s behind (p max of {samples}); configured is {configured}."
        ));
        if let Some(recommended) = recommended {
            text.push_str(&format!("\n\n[providers.{}]\nsettle_horizon = \"{recommended}\"", report.provider));
        }
    }
    for Left { name, why } in &report.left {
        text.push_str(&format!("\nleft: {name}: {why}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_whole_seconds_and_has_room() {
        let of = |millis| recommended(Duration::from_millis(millis)).to_string();
        assert_eq!([of(0), of(250), of(251), of(9_000)], ["1s", "1s", "2s", "36s"]);
    }

    #[test]
    fn a_check_is_known_by_its_name() {
        assert_eq!(check_named("destroy_twice_is_success"), Ok("destroy_twice_is_success"));
        assert!(check_named("destroy").is_err_and(|hint| hint.contains("destroy_twice_is_success")));
    }
}
