//! What makes instances, behind one port: `freehold_engine::ports::Provider`.
//!
//! Every adapter is small and honest. It never retries, decides no policy, and never turns "I do not know" into "no".
//! What all of them must do is written down once, as code: [`conformance`].

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod docker;
pub mod fake;
pub mod fly;
pub mod process;
