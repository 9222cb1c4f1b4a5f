//! Dependencies point inward: binary → adapters → engine → domain, and nothing points back.
//!
//! [`ARROWS`] is the picture in `ARCHITECTURE.md` ("may name"), read from the outside in. A crate may name what its
//! arrows reach over any number of steps. `xtask` is a tool beside the product and is free. Dev-dependencies do not
//! count: they ship nowhere.

use super::Finding;
use crate::workspace;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Who may name whom, one step. The wire (`api`) never learns the domain.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "freehold",
        &[
            "freehold-server",
            "freehold-store",
            "freehold-providers",
            "freehold-billing",
            "freehold-api",
            "freehold-sim",
        ],
    ),
    ("freehold-sim", &["freehold-engine", "freehold-store", "freehold-providers"]),
    ("freehold-server", &["freehold-engine", "freehold-api"]),
    ("freehold-billing", &["freehold-engine", "freehold-api"]),
    ("freehold-store", &["freehold-engine"]),
    ("freehold-providers", &["freehold-engine"]),
    ("freehold-engine", &["freehold-domain"]),
    ("freehold-domain", &[]),
    ("freehold-api", &[]),
    ("freehold-flysim", &[]),
    ("freehold-postgres-lab", &[]),
];

/// The crate that points nowhere and is checked nowhere.
const FREE: &str = "xtask";

/// All that the domain may use from outside: it derives no serde, reads no clock, rolls no dice and awaits nothing.
const DOMAIN_USES: &[&str] = &["thiserror"];

/// What would teach the engine that a particular runtime, database or protocol exists.
const ENGINE_SHUNS: &[&str] = &["axum", "hyper", "reqwest", "rusqlite", "tokio", "tokio-postgres", "uuid"];

/// One crate of the workspace, as `cargo metadata` tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` is an ordinary one; otherwise `dev` or `build`.
    kind: Option<String>,
}

/// Asks cargo for the crates of the workspace.
///
/// # Errors
/// Where a manifest cannot be read.
pub(super) fn packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let mut command = workspace::cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let json = workspace::output(&mut command)?;
    let metadata: Metadata = serde_json::from_slice(&json).context("cargo metadata is not what it used to be")?;
    Ok(metadata.packages)
}

/// Every dependency that points the wrong way.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().filter(|package| package.name != FREE).flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<Finding> {
    let name = package.name.as_str();
    if !ARROWS.iter().any(|(from, _)| *from == name) {
        return vec![Finding::in_file(name, "unknown crate; give it its arrows in xtask/src/tidy/direction.rs")];
    }
    let reached = reach(name);
    let used = package.dependencies.iter().filter(|used| used.kind.as_deref() != Some("dev"));
    used.filter_map(|used| {
        let used = used.name.as_str();
        let ours = used == FREE || ARROWS.iter().any(|(from, _)| *from == used);
        if ours && !reached.contains(used) {
            Some(Finding::in_file(name, format!("must not depend on {used}: dependencies point inward")))
        } else if name == "freehold-domain" && !DOMAIN_USES.contains(&used) {
            Some(Finding::in_file(name, format!("must not depend on {used}: the domain is pure")))
        } else if name == "freehold-engine" && ENGINE_SHUNS.contains(&used) {
            Some(Finding::in_file(name, format!("must not depend on {used}: put it behind a port")))
        } else {
            None
        }
    })
    .collect()
}

/// Every crate of ours that `name` may name, over any number of arrows.
fn reach(name: &str) -> BTreeSet<&'static str> {
    let mut reached = BTreeSet::new();
    let mut from = vec![name];
    while let Some(name) = from.pop() {
        for end in ARROWS.iter().filter(|(start, _)| *start == name).flat_map(|(_, ends)| *ends) {
            if reached.insert(*end) {
                from.push(end);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::{Dependency, Package, check, packages, reach};

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    fn found(name: &str, dependency: &str) -> usize {
        check(&[package(name, &[(dependency, None)])]).len()
    }

    #[test]
    fn a_dependency_that_points_outward_is_found() {
        for (name, dependency) in [
            ("freehold-domain", "freehold-engine"),
            ("freehold-engine", "freehold-store"),
            ("freehold-store", "freehold-server"),
            ("freehold-server", "freehold-store"),
            ("freehold-providers", "freehold-store"),
            ("freehold-api", "freehold-domain"),
            ("freehold-sim", "freehold-server"),
            ("freehold-server", "freehold-sim"),
            ("freehold-server", "freehold-billing"),
            ("freehold-billing", "freehold-store"),
            ("freehold", "xtask"),
        ] {
            assert_eq!(found(name, dependency), 1, "{name} → {dependency}");
        }
    }

    #[test]
    fn a_dependency_that_points_inward_is_fine() {
        assert_eq!(found("freehold", "freehold-domain"), 0);
        assert_eq!(found("freehold-server", "freehold-api"), 0);
        assert_eq!(found("freehold-sim", "freehold-store"), 0);
        assert_eq!(reach("freehold-engine").into_iter().collect::<Vec<_>>(), ["freehold-domain"]);
    }

    #[test]
    fn the_domain_uses_thiserror_and_nothing_else() {
        assert_eq!(found("freehold-domain", "thiserror"), 0);
        assert_eq!(found("freehold-domain", "serde"), 1);
        assert!(check(&[package("freehold-domain", &[("proptest", Some("dev"))])]).is_empty());
        assert_eq!(check(&[package("freehold-domain", &[("cc", Some("build"))])]).len(), 1);
    }

    #[test]
    fn the_engine_learns_no_runtime_and_no_database() {
        assert_eq!(found("freehold-engine", "tokio"), 1);
        assert_eq!(found("freehold-engine", "rusqlite"), 1);
        assert_eq!(found("freehold-engine", "async-trait"), 0);
    }

    #[test]
    fn a_crate_without_arrows_is_found_and_xtask_is_free() {
        assert_eq!(found("freehold-extra", "serde"), 1);
        assert_eq!(found("xtask", "freehold-store"), 0);
    }

    #[test]
    fn cargo_tells_every_crate_of_the_workspace() {
        let names: Vec<_> = packages().expect("the manifests are readable").into_iter().map(|one| one.name).collect();
        assert!(names.iter().any(|name| name == "freehold-domain") && names.iter().any(|name| name == "xtask"));
    }
}
