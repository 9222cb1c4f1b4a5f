//! `openapi`: what the API is, without a server.

use crate::exit::Failure;
use crate::output::Output;

/// Prints the document that a server of this build serves at `/openapi.json`. It is JSON with and without `--json`.
///
/// # Errors
/// An output that cannot be written.
pub(crate) fn run(output: Output) -> Result<(), Failure> {
    output.json(&freehold_server::openapi())
}
