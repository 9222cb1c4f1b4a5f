//! HTTP: routes, authentication, problems, streams, and the proxy to the instances.
//!
//! Everything here calls one [`ControlPlane`](freehold_engine::control_plane::ControlPlane) and speaks one wire,
//! [`freehold_api`]; the domain's words are turned into the wire's in `convert`, and its errors into problems in
//! `problems`, both without a default arm. Nothing here decides who may create what.
//!
//! # Wiring
//!
//! 1. [`Hub::new`] and [`Metrics::new`] come first: the world's `Driver` calls [`Hub::changed`] from its own `changed`,
//!    its `meter` is the [`Metrics`], and its `render` is [`AnswerRenderer`].
//! 2. With the control plane made, [`Keys::new`] takes the store, and [`Keys::with`] each key that the configuration or
//!    the data folder holds.
//! 3. [`router`] takes it all as [`ServerParts`]; [`serve`] runs it on a listener until the shutdown token, the same
//!    one that the parts hold, is cancelled.
//!
//! The document of `GET /openapi.json` is [`openapi`], without a server.

mod answer;
mod auth;
mod convert;
mod detach;
mod http;
mod hub;
pub mod limits;
mod listen;
mod metrics;
mod platform;
mod problems;
mod proxy;
mod sse;
mod trpc;
mod users;

pub use self::answer::AnswerRenderer;
pub use self::auth::Keys;
pub use self::http::{Probe, ServerParts, Settings, openapi, router};
pub use self::hub::Hub;
pub use self::listen::{Bounds, serve};
pub use self::metrics::{Metrics, resident_bytes};
pub use self::users::{JwksTiming, SECRET_BYTES_MIN, UnusableKeys, UserKeys, UserTokens};
