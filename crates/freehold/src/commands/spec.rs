//! What to run, as flags. Secrets are named, never written on the command line, where everyone on the machine could
//! read them.

use std::path::PathBuf;

use clap::Args;
use freehold_api::v1::spec::Spec;

use crate::config::read_file;
use crate::exit::Failure;

/// What to run.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to run")]
pub(crate) struct SpecArgs {
    /// The template to start from
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// The image, at providers that run images
    #[arg(long)]
    image: Option<String>,
    /// An environment variable; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A secret variable, taken from one of this command's own; may be repeated
    #[arg(long, value_name = "NAME[=VARIABLE]")]
    secret_env: Vec<String>,
    /// A secret variable, taken from a file; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    secret_file: Vec<(String, String)>,
    /// The program and its arguments, behind --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE".to_owned()),
    }
}

impl SpecArgs {
    /// What the flags say; `None` if they say nothing.
    ///
    /// # Errors
    /// A secret that is not where it is said to be.
    pub(crate) fn read(self) -> Result<Option<Spec>, Failure> {
        let Self { template, image, env, secret_env, secret_file, command } = self;
        let mut secrets = Vec::new();
        for named in secret_env {
            let (name, variable) = named.split_once('=').unwrap_or((&named, &named));
            let value = std::env::var(variable).map_err(|_| {
                Failure::usage(format!("the environment variable `{variable}` is not set"))
                    .hint("--secret-env takes a secret from the environment of this command")
            })?;
            secrets.push((name.to_owned(), value));
        }
        for (name, file) in secret_file {
            let secret = read_file(&PathBuf::from(file)).map_err(|error| Failure::usage(error.to_string()))?;
            secrets.push((name, secret.expose().to_owned()));
        }
        let spec = Spec {
            template,
            image,
            command: (!command.is_empty()).then_some(command),
            env: (!env.is_empty()).then(|| env.into_iter().collect()),
            secrets: (!secrets.is_empty()).then(|| secrets.into_iter().collect()),
        };
        Ok((spec != Spec::default()).then_some(spec))
    }
}
