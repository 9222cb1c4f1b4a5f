//! The whole server over a socket: the real engine, the real SQLite store in a file, and a provider that fails on demand.
#![expect(clippy::unwrap_used, reason = "what is missing in a test fails the test")]

mod access;
mod billing;
mod billing_service;
mod client;
mod create;
mod drift;
mod edges;
mod events;
mod janitor;
mod lifecycle;
mod nodes;
mod operators;
mod pages;
mod platform;
mod proxying;
mod records;
mod server;
mod tokens;
mod trpc;
mod users;
