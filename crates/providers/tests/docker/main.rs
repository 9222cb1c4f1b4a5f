//! The Docker provider at real engines: a Docker Engine and a Podman service, which `cargo xtask engines` starts.

#![expect(clippy::unwrap_used, reason = "tests fail where they find something wrong")]

mod bad_days;
mod conformance;
mod grid;
mod killed;
mod world;
