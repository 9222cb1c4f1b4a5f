//! What one `serve` does: all of it on one machine, parts of it on the nodes of a cluster.

use std::fmt;
use std::str::FromStr;

/// The parts that a node runs. There is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Answers the API.
    pub(crate) http: bool,
    /// Runs operations.
    pub(crate) executor: bool,
    /// Settles what is left behind, and sweeps.
    pub(crate) reconcilers: bool,
    /// Passes traffic to the instances.
    pub(crate) proxy: bool,
}

/// The names of the roles.
const NAMES: [&str; 4] = ["http", "executor", "reconcilers", "proxy"];

impl Roles {
    /// Every role.
    pub(crate) const ALL: Self = Self { http: true, executor: true, reconcilers: true, proxy: true };
}

/// A text that names no roles.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRoles {
    /// A word that is no role.
    #[error("`{0}` is not a role; use some of http,executor,reconcilers,proxy")]
    Unknown(String),
    /// Nothing at all.
    #[error("name at least one of http,executor,reconcilers,proxy")]
    None,
}

impl FromStr for Roles {
    type Err = NotRoles;

    fn from_str(text: &str) -> Result<Self, NotRoles> {
        let mut roles = Self { http: false, executor: false, reconcilers: false, proxy: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "http" => roles.http = true,
                "executor" => roles.executor = true,
                "reconcilers" => roles.reconcilers = true,
                "proxy" => roles.proxy = true,
                other => return Err(NotRoles::Unknown(other.to_owned())),
            }
        }
        let Self { http, executor, reconcilers, proxy } = roles;
        if http || executor || reconcilers || proxy { Ok(roles) } else { Err(NotRoles::None) }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, executor, reconcilers, proxy } = *self;
        let on = NAMES.iter().zip([http, executor, reconcilers, proxy]).filter_map(|(name, on)| on.then_some(*name));
        f.write_str(&on.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_as_they_are_written() {
        assert_eq!(Roles::ALL.to_string().parse(), Ok(Roles::ALL));
        let some: Roles = "proxy, http".parse().unwrap();
        assert_eq!(some.to_string(), "http,proxy");
        assert_eq!("http,prxy".parse::<Roles>(), Err(NotRoles::Unknown("prxy".to_owned())));
        assert_eq!(" , ".parse::<Roles>(), Err(NotRoles::None));
    }
}
