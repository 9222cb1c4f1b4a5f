//! What the engine asks of the world. Adapters implement these; the engine never learns which.

mod billing;
mod clock;
mod driver;
mod meter;
mod nodes;
mod provider;
mod quarantine;
mod records;
mod store;

pub use billing::{Billing, Entitlement, EntitlementRefused, SubscriptionTerms};
pub use clock::{Clock, Entropy};
pub use driver::{Driver, Gap, Gaps, NoGaps, Render};
pub use meter::{Meter, NoMeter};
pub use nodes::{Elsewhere, LISTED_FOR, LIVE_FOR, NodeBeat, NodeOrders, NodeRecord, Nodes, Peer, Share, providers_of};
pub use provider::{
    Blueprint, Claim, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, OwnedResource, Provider,
    Survey, Tags, Unanswered, Unfit,
};
pub use quarantine::{Quarantine, Quarantined};
pub use records::{Because, RecordChange, Records, RecordsError};
pub use store::{
    Admission, AdmitRefused, Admitted, Adopted, Adoption, Answer, Asked, AuditPage, AuditQuery, AuditRecord, Claimed,
    ContextPeek, DestroyAccepted, IdempotencyKey, Installation, InstancePage, InstanceQuery, KeyRecord, KeyRole,
    LeakPage, LeakRecord, Listed, OperationView, Registered, RouteEntry, StillThere, Store, StoreError, Stuck,
    UnresolvedSummary, WorkAccepted,
};
