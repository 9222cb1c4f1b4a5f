//! The server itself: its metrics, its OpenAPI document, the pages that explain problems, and a way in for people.

pub(crate) mod landing;
pub(crate) mod metrics;
pub(crate) mod openapi;
mod page;
pub(crate) mod problem;
