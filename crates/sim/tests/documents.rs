//! The checks that the guarantees name exist, and hold.

use freehold_sim::{Profile, grid};

const GUARANTEES: &str = include_str!("../../../docs/guarantees.md");

/// What follows a flag in the text, wherever a line breaks.
fn named(flag: &str) -> Vec<String> {
    let text = GUARANTEES.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = |rest: &str| rest.split(['`', ' ', ',', ';']).next().unwrap_or_default().to_owned();
    text.split(&format!("{flag} ")).skip(1).map(name).filter(|name| name != "NAME").collect()
}

#[test]
fn every_cell_that_the_guarantees_name_is_one_and_ends_well() {
    let cells = named("--cell");
    assert!(cells.len() >= 15, "only {} cells are named", cells.len());
    for name in cells {
        let cell = name.parse().unwrap_or_else(|_| panic!("`{name}` is no cell"));
        assert_eq!(grid::run(&cell).broken, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_profile_that_the_guarantees_name_is_one() {
    for name in named("--profile") {
        assert!(Profile::named(&name).is_some(), "`{name}` is no profile");
    }
}

#[test]
fn every_protection_is_named_in_the_guarantees() {
    let known: Vec<_> = freehold_domain::protection::Protection::ALL.iter().map(|one| one.name()).collect();
    let missing: Vec<_> = known.iter().filter(|name| !GUARANTEES.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in the guarantees: {missing:?}");
}
