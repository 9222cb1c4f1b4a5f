//! A registry that comes from a backup: where it stands, and the way out.

pub(crate) mod confirm;
pub(crate) mod show;

use freehold_api::v1::restore::{Comparison, MissingInstance, ProviderLook, ShownResource};
use freehold_engine::control_plane::restore;

use crate::convert::uuid;

/// A comparison on the wire.
fn shown(comparison: restore::Comparison) -> Comparison {
    let restore::Comparison { providers, unknown, unreferenced, missing, foreign } = comparison;
    let resources = |shown: Vec<restore::Shown>| {
        let one = |shown: restore::Shown| ShownResource {
            provider: shown.provider.to_string(),
            kind: shown.kind.to_string(),
            id: shown.id,
            instance_id: uuid(shown.instance.as_bytes()),
        };
        shown.into_iter().map(one).collect()
    };
    let look = |looked: restore::Looked| ProviderLook {
        provider: looked.provider.to_string(),
        complete: looked.unanswered.is_none(),
        detail: looked.unanswered,
        resources: looked.resources,
    };
    let absent = |missing: restore::NotShown| MissingInstance {
        instance_id: uuid(missing.instance.as_bytes()),
        owner: missing.context.owner().to_string(),
        assigned_user: missing.context.assigned_user().as_str().to_owned(),
        provider: missing.provider.to_string(),
        status: missing.status.to_owned(),
    };
    Comparison {
        providers: providers.into_iter().map(look).collect(),
        unknown_count: unknown.count,
        unknown: resources(unknown.named),
        unreferenced_count: unreferenced.count,
        unreferenced: resources(unreferenced.named),
        missing_count: missing.count,
        missing: missing.named.into_iter().map(absent).collect(),
        foreign_count: foreign,
    }
}
