//! Routes: where to send traffic for an instance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A live route. Unknown, destroyed and not yet routable instances have a problem instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The instance.
    pub instance_id: Uuid,
    /// Where it answers.
    #[schema(example = "http://127.0.0.1:40001")]
    pub endpoint: String,
    /// The epoch under which it was published; a higher one replaces it.
    pub epoch: u64,
}
