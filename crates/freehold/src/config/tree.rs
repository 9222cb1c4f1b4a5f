//! The settings as a tree whose every leaf knows where it was said.
//!
//! Layers are laid over one another here, before anything has a type: built-in defaults, the file, the environment,
//! flags. A later layer replaces leaves and adds keys; lists are replaced whole.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Finding};

/// The prefix of every environment variable that is a setting.
pub(crate) const ENV_PREFIX: &str = "FREEHOLD__";

/// The sections whose keys are names of the operator's own choice. A file that has an entry of one replaces the
/// built-in entries: what a file lists is complete.
const NAMED_SECTIONS: [&str; 4] = ["providers", "templates", "tiers", "price_versions"];

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the program.
    BuiltIn,
    /// In a file; line and column count from 1, columns in characters.
    File {
        /// The file, as it was named.
        path: Rc<PathBuf>,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In an environment variable of this name.
    Env(String),
    /// In a flag, `--listen`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in defaults"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it was said.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A text of a TOML file.
    Text(String),
    /// A text from the environment or a flag: what is wanted decides how it is read.
    Raw(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Member>),
}

/// A member of a table.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Where the key stands.
    pub(super) key: Origin,
    pub(super) node: Node,
}

impl Node {
    /// Reads a TOML text.
    ///
    /// # Errors
    /// Text that is not TOML, with line and column. A key that is there twice is one of them.
    pub(super) fn parse(text: &str, place: &dyn Fn(usize) -> Origin) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let origin = place(error.span().map_or(0, |span| span.start));
            ConfigError::from(Finding::new("", error.message().trim().replace('\n', ": ")).at(origin))
        })?;
        let origin = place(table.span().start);
        Ok(Self { origin, value: Value::Table(members(table.into_inner(), place)?) })
    }

    /// Lays another tree over this one.
    pub(super) fn lay_over(&mut self, top: Self) {
        match (&mut self.value, top.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (key, member) in above {
                    match below.get_mut(&key) {
                        Some(there) => {
                            there.key = member.key;
                            there.node.lay_over(member.node);
                        }
                        None => {
                            below.insert(key, member);
                        }
                    }
                }
                self.origin = top.origin;
            }
            (_, value) => *self = Self { origin: top.origin, value },
        }
    }

    /// Drops the built-in entries of the named sections that the file fills itself.
    pub(super) fn forget_named_sections_of(&mut self, file: &Self) {
        for section in NAMED_SECTIONS {
            if let Some(Value::Table(theirs)) = file.get(&[section]).map(|node| &node.value)
                && !theirs.is_empty()
                && let Value::Table(top) = &mut self.value
            {
                top.remove(section);
            }
        }
    }

    /// The node at a path.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| match &node.value {
            Value::Table(members) => members.get(*key).map(|member| &member.node),
            Value::Text(_) | Value::Raw(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
                None
            }
        })
    }

    /// Where the setting at a path was said, or the nearest one around it that was.
    pub(super) fn origin_of(&self, path: &[&str]) -> &Origin {
        let found = (1..=path.len()).rev().find_map(|length| {
            let (key, parent) = path[..length].split_last()?;
            match &self.get(parent)?.value {
                Value::Table(members) => members.get(*key).map(|member| &member.key),
                Value::Text(_)
                | Value::Raw(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Bool(_)
                | Value::List(_) => None,
            }
        });
        found.unwrap_or(&self.origin)
    }

    /// Sets one value by the path that a variable or a flag names.
    ///
    /// # Errors
    /// A path that goes through something that is no section.
    pub(super) fn set(&mut self, path: &[String], origin: &Origin, text: &str) -> Result<(), ConfigError> {
        let Some((name, rest)) = path.split_first() else {
            *self = Self { origin: origin.clone(), value: Value::Raw(text.to_owned()) };
            return Ok(());
        };
        let Value::Table(members) = &mut self.value else {
            let finding = Finding::new("", format!("`{name}` cannot be set: what is before it is no section"));
            return Err(finding.at(origin.clone()).into());
        };
        // Names that the operator chose may hold characters that a variable's name cannot: `2026-01-01`, `eu-large`.
        let key = members.keys().find(|key| **key == *name || plain(key) == plain(name)).unwrap_or(name).clone();
        let member = members.entry(key).or_insert_with(|| Member {
            key: origin.clone(),
            node: Self { origin: origin.clone(), value: Value::Table(BTreeMap::new()) },
        });
        member.key = origin.clone();
        member.node.set(rest, origin, text)
    }

    /// Sets every `FREEHOLD__A__B` of an environment.
    ///
    /// # Errors
    /// A name that ends in nothing, or that goes through something that is no section.
    pub(super) fn set_environment(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        let mut ours: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        ours.sort();
        for (name, text) in ours {
            let origin = Origin::Env(name.clone());
            let path: Vec<String> = name[ENV_PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            if path.iter().any(String::is_empty) {
                let finding = Finding::new("", "the name is not a setting's path")
                    .at(origin)
                    .hint("join the keys with `__`: FREEHOLD__TIMING__LEASE sets timing.lease");
                return Err(finding.into());
            }
            self.set(&path, &origin, text)?;
        }
        Ok(())
    }
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '.'], "_")
}

fn members(table: DeTable<'_>, place: &dyn Fn(usize) -> Origin) -> Result<BTreeMap<String, Member>, ConfigError> {
    table
        .into_iter()
        .map(|(key, value)| {
            let at = place(key.span().start);
            let from = place(value.span().start);
            let node = Node { origin: from, value: read(value.into_inner(), &at, place)? };
            Ok((key.into_inner().into_owned(), Member { key: at, node }))
        })
        .collect()
}

fn read(value: DeValue<'_>, at: &Origin, place: &dyn Fn(usize) -> Origin) -> Result<Value, ConfigError> {
    Ok(match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            match i64::from_str_radix(&digits, number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    return Err(Finding::new("", format!("the number {number} is too large")).at(at.clone()).into());
                }
            }
        }
        DeValue::Float(number) => match number.as_str().replace('_', "").parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return Err(Finding::new("", format!("{number} is not a number")).at(at.clone()).into()),
        },
        DeValue::Boolean(is) => Value::Bool(is),
        // A date without quotes is what people write for a price version.
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| {
                    let origin = place(item.span().start);
                    Ok(Node { value: read(item.into_inner(), &origin, place)?, origin })
                })
                .collect::<Result<_, ConfigError>>()?,
        ),
        DeValue::Table(table) => Value::Table(members(table, place)?),
    })
}

/// Turns byte offsets of a file's text into places.
pub(super) fn places<'a>(path: &Path, text: &'a str) -> impl Fn(usize) -> Origin + use<'a> {
    let path = Rc::new(path.to_owned());
    move |offset| {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Origin::File {
            path: Rc::clone(&path),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
