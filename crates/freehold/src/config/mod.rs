//! The configuration: read once, checked whole, and then only passed around.
//!
//! Defaults, then the file, then the environment (`FREEHOLD__A__B`), then flags: the later one wins. Whatever is wrong is
//! reported with the place where it was said. Secrets are never in it, only where to find them.

mod de;
mod docker;
mod duration;
mod error;
mod model;
mod provider;
mod roles;
mod secret;
mod show;
mod tree;
mod validate;

use std::path::{Path, PathBuf};

pub(crate) use duration::Period;
pub(crate) use error::{ConfigError, Finding};
pub(crate) use model::{BillingKind, Config, DryRun, Jwt, Template, Tier, UsersRun};
pub(crate) use provider::{FakeConfig, FlyConfig, ProviderConfig, ProviderKind};
pub(crate) use roles::Roles;
pub(crate) use secret::{Secret, SecretSource, plain, read_file};
pub(crate) use show::Shown;

use self::tree::{Node, Origin};

/// What holds where nothing else is said.
const DEFAULTS: &str = include_str!("defaults.toml");

/// The longest configuration file, in bytes: a thousand times the example.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The file, if one is named.
    pub(crate) file: Option<PathBuf>,
    /// The environment. Variables that do not begin with `FREEHOLD__` are not looked at here.
    pub(crate) environment: Vec<(String, String)>,
    /// Flags: their name, the setting's keys, the value.
    pub(crate) flags: Vec<(&'static str, Vec<&'static str>, String)>,
}

impl Sources {
    /// A file, if any, and the environment of this process.
    pub(crate) fn of_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Adds a flag that sets one key, if it is given.
    pub(crate) fn flag(mut self, name: &'static str, path: &[&'static str], value: Option<String>) -> Self {
        self.flags.extend(value.map(|value| (name, path.to_vec(), value)));
        self
    }
}

impl Config {
    /// Reads a configuration and checks it, for a server of this build.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place; or the settings that this build cannot honour.
    pub(crate) fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (tree, config) = Self::read(sources)?;
        let found = validate::relations(&config);
        let located = found.into_iter().map(|(path, finding)| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            finding.at(tree.origin_of(&path).clone())
        });
        match ConfigError::of(located.collect()) {
            None => Ok(config),
            Some(error) => Err(error),
        }
    }

    /// Reads a configuration without asking whether this build can serve it: enough to find the data folder, or to
    /// show what was understood.
    ///
    /// # Errors
    /// A file that cannot be read, text that is not TOML, a key that is not known, a value of the wrong kind.
    pub(crate) fn load_unchecked(sources: &Sources) -> Result<Self, ConfigError> {
        Self::read(sources).map(|(_, config)| config)
    }

    fn read(sources: &Sources) -> Result<(Node, Self), ConfigError> {
        let mut tree = Node::parse(DEFAULTS, &|_| Origin::BuiltIn)?;
        if let Some(path) = &sources.file {
            let text = read_text(path)?;
            let file = Node::parse(&text, &tree::places(path, &text))?;
            tree.forget_named_sections_of(&file);
            tree.lay_over(file);
        }
        tree.set_environment(&sources.environment)?;
        for (name, path, value) in &sources.flags {
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            tree.set(&path, &Origin::Flag(name), value)?;
        }
        let mut config: Self = de::read(&tree)?;
        config.follow_named_sections(&tree);
        Ok((tree, config))
    }

    /// Lets built-in names follow what the operator lists: with one provider, that one is the default; with tiers of
    /// their own, the built-in price version allows the lowest.
    fn follow_named_sections(&mut self, tree: &Node) {
        let built_in = |path: &[&str]| *tree.origin_of(path) == Origin::BuiltIn;
        if let Some(only) = only(self.providers.keys())
            && built_in(&["provision", "default_provider"])
        {
            self.provision.default_provider = only.clone();
        }
        if let Some(lowest) = self.tiers.iter().min_by_key(|(_, tier)| tier.rank).map(|(name, _)| name.clone()) {
            for (name, version) in &mut self.price_versions {
                if built_in(&["price_versions", name, "tier"]) && !self.tiers.contains_key(&version.tier) {
                    version.tier.clone_from(&lowest);
                }
            }
        }
        if let Some(only) = only(self.price_versions.keys())
            && built_in(&["billing", "price_version"])
        {
            self.billing.price_version = only.clone();
        }
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |why: String| {
        Finding::new("", format!("cannot read the configuration file `{}`: {why}", path.display()))
            .hint("name an existing file with --config, or leave it out to use the defaults")
    };
    let about = std::fs::metadata(path).map_err(|error| unreadable(plain(&error)))?;
    if about.is_dir() {
        return Err(unreadable("it is a folder".to_owned()).into());
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {FILE_BYTES_MAX} bytes")).into());
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(plain(&error)))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()).into())
}

#[cfg(test)]
mod tests;
