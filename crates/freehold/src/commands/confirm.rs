//! Asking before something is done that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::exit::Failure;

/// The flag of every destructive command.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Confirm {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl Confirm {
    /// Whether somebody has to be asked.
    ///
    /// # Errors
    /// Nobody is there to be asked. Nothing has been done then.
    pub(crate) fn is_needed(self, deed: &str) -> Result<bool, Failure> {
        let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
        if !self.yes && !can_ask {
            let failure = Failure::usage(format!("{deed} cannot be undone, and there is no terminal to ask on"));
            return Err(failure.hint("add --yes to do it without being asked"));
        }
        Ok(!self.yes)
    }

    /// Says what will happen, and asks whether it may.
    ///
    /// # Errors
    /// A no.
    pub(crate) fn ask(what: &str) -> Result<(), Failure> {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{what}\nGo on? [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::failed("nothing was done"))
        }
    }
}
