//! The billing service behind HTTP: the engine's port `Billing` over signed messages.
//!
//! - A message is sent once. Nothing here tries again, and nothing here remembers: the executor does both.
//! - What is not proven is unknown. Only a connection that was never made, and an answer that says so, is a "no".
//! - Nothing that billing says is taken on trust: a price version or a tier that the configuration does not have is no
//!   answer, and an instance is not made on it.
//! - Neither a secret, nor a body, nor the address, which may hold a password, is in an error or a log.
//!
//! A message about an instance has the same id whenever it is sent again: it is made of what is asked and of the instance.
//! Billing's own name of a subscription need not be a UUID; where it is none, the subscription's id here is made of it.
//! Billing is always spoken to of the instance, so nothing has to find the way back.

mod http_billing;
mod outcome;
mod wire;

#[cfg(feature = "lab")]
pub mod lab;

pub use http_billing::{HttpBilling, HttpBillingOptions, Unusable};
