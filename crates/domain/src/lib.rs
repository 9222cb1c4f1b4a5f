//! What Freehold decides, as pure functions over plain values.
//!
//! Nothing here reads a clock, rolls dice, awaits, or knows how anything is stored or sent: time and chance are
//! arguments. Read in this order: the words ([`ids`], [`time`], [`owner`], [`lease`], [`resource`], [`records`],
//! [`operation`], [`reservation`], [`route`], [`event`]), what proves a release ([`evidence`]), who may create
//! ([`ledger`]), what can happen ([`run`]), what to do next ([`plan`]), what nothing refers to ([`sweep`]), what
//! readers are told ([`status`]), what always holds ([`invariants`]), and what keeps it so ([`protection`]).

pub mod event;
pub mod evidence;
pub mod ids;
pub mod invariants;
pub mod lease;
pub mod ledger;
pub mod operation;
pub mod owner;
pub mod plan;
pub mod protection;
pub mod records;
pub mod reservation;
pub mod resource;
pub mod route;
pub mod run;
pub mod status;
pub mod sweep;
pub mod time;
