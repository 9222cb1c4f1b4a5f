//! The flow: from a request to a route, and back from every failure in between.
//!
//! The engine never spawns, sleeps, selects or reads a clock. It is called by loops that live in the binary, or in the
//! simulator, and asks the world through [`ports`]. Read in this order: [`ports`], [`control_plane`] (what callers ask
//! for), [`executor`] (what runs it), [`reconcilers`] (what finds work that nobody runs).

mod acts;
pub mod audit;
pub mod control_plane;
pub mod duty;
pub mod executor;
mod held;
pub mod ident;
pub mod local_billing;
pub mod ports;
pub mod reconcilers;
pub mod spec;
pub mod standing;
pub mod world;
