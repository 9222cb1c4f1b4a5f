//! The Fly adapter against a Machines API of our own that fails on demand.

mod bad_days;
mod given;
mod grid;
mod lab;

use freehold_providers::provider_conformance;

provider_conformance!(fly_at_once => lab::subject(lab::instant()).await);
provider_conformance!(fly_that_takes_its_time => lab::subject(lab::slow()).await);
