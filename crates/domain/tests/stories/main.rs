//! What the domain promises, told as stories and enumerated where the space is small.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod commands;
mod evidence;
mod faults;
mod silence;
mod status;
mod sweep;
mod told;
mod world;
