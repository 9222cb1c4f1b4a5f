//! What every adapter must do, as code: run by the tests of each of them, and against the real thing by an operator who
//! wants to know what his provider promises.
//!
//! Each check stands alone, makes what it needs under idents of its own, and removes all of it however it ends.

mod checks;
mod races;
mod subject;

use std::future::Future;
use std::pin::Pin;

pub use subject::{Leftover, MadeUp, Settled, Subject};

/// How a provider passed a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It does what it must.
    Passed,
    /// It does not promise what the check is about, for this reason.
    NotApplicable(String),
}

/// What a check came to; otherwise what the provider did wrong, in words.
pub type Verdict = Result<Pass, String>;

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One thing that every adapter must do.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it checks, in a sentence.
    pub about: &'static str,
    run: for<'a> fn(&'a Subject) -> Running<'a>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// Runs the check, and removes what it made.
    ///
    /// # Errors
    /// What the provider did wrong, in words, or what it would not let go of.
    pub async fn run(&self, subject: &Subject) -> Verdict {
        let verdict = (self.run)(subject).await;
        let left = subject.sweep_all().await;
        let verdict = verdict?;
        match left.first() {
            Some(Leftover { name, why }) => Err(format!("cleaning up {name}: {why}")),
            None => Ok(verdict),
        }
    }
}

macro_rules! checks {
    ($($name:ident: $about:literal,)*) => {
        /// Every check.
        pub const CHECKS: &[Check] = &[$(Check {
            name: stringify!($name),
            about: $about,
            run: |subject| Box::pin(checks::$name(subject)),
        }),*];
    };
}

checks! {
    create_twice_is_one_resource: "asking twice under one ident makes one resource of each kind",
    resources_come_in_order: "after each step a look finds exactly what was made so far",
    destroy_twice_is_success: "what is gone stays gone, and removing it again is success",
    sealed_means_refused: "under a sealed ident nothing can be made, ever",
    seal_beats_racing_creations: "however many create while the seal is set, nothing is left afterwards",
    create_with_the_answer_cut: "whoever stops waiting in the middle of a create and asks again has one of each kind",
    destroy_while_creating: "what is removed while it is made can be removed to the end, and does not come back",
    looks_follow_what_was_done: "how long looks lag behind making and removing",
    foreign_is_left_alone: "what has our name and not our mac is neither adopted nor removed",
    lists_are_paged: "the list names everything of ours once, over all its pages",
    power_does_what_it_says: "stop, start, restart and update, and each of them twice",
    endpoint_is_named: "a runtime has an endpoint, and nothing else has",
    restart_changes_nothing: "another server over the same world finds, stops and removes what is there",
}

/// Runs the check of that name, and panics with what is wrong.
///
/// # Panics
/// If the provider does not pass, or there is no such check.
pub async fn must_pass(name: &str, subject: Subject) {
    let check = CHECKS.iter().find(|check| check.name == name).expect("the check exists");
    if let Err(why) = check.run(&subject).await {
        panic!("{name}: {why}");
    }
}

/// A test for every check, over a fresh [`Subject`] each.
///
/// ```ignore
/// provider_conformance!(fake => fake_subject());
/// ```
///
/// What is written before the name is written before each of the tests as well: `#[ignore = "needs a …"]`.
#[macro_export]
macro_rules! provider_conformance {
    ($(#[$attribute:meta])* $provider:ident => $subject:expr) => {
        $crate::provider_conformance!(@tests [$(#[$attribute])*] $provider, $subject,
            create_twice_is_one_resource resources_come_in_order destroy_twice_is_success sealed_means_refused
            seal_beats_racing_creations create_with_the_answer_cut destroy_while_creating looks_follow_what_was_done foreign_is_left_alone lists_are_paged
            power_does_what_it_says endpoint_is_named restart_changes_nothing);
    };
    (@tests $attributes:tt $provider:ident, $subject:expr, $($name:ident)*) => {
        mod $provider {
            use super::*;

            $($crate::provider_conformance!(@test $attributes $name, $subject);)*

            #[test]
            fn no_check_is_left_out() {
                let known: Vec<_> = $crate::conformance::CHECKS.iter().map(|check| check.name).collect();
                assert_eq!(known, [$(stringify!($name)),*]);
            }
        }
    };
    (@test [$(#[$attribute:meta])*] $name:ident, $subject:expr) => {
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::conformance::must_pass(stringify!($name), $subject).await;
        }
    };
}
