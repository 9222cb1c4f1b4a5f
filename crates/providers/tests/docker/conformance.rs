//! The suite that every adapter passes, at both engines.

use freehold_providers::provider_conformance;

use super::world::{Kind, subject};

provider_conformance!(#[ignore = "needs a Docker engine: cargo xtask engines"] docker => subject(Kind::Docker));
provider_conformance!(#[ignore = "needs a Podman service: cargo xtask engines"] podman => subject(Kind::Podman));
