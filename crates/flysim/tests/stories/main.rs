//! Stories over HTTP: what the API answers when all is well, and what each fault makes of it.

mod client;
mod control;
mod faults;
mod machines;
mod program;
mod refusals;
