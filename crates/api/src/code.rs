//! Every error code, in one table: its status, its title, whether asking again may help, and the page that explains it.
//!
//! A code is for machines and never changes its meaning; the page, `docs/errors/{code}.md`, is for people and is served
//! at `/problems/{code}`.
//!
//! Eight codes are not in the contract's table. They answer what happens outside its routes: `not_found` and
//! `method_not_allowed` (no such path or method), `request_timeout` (the body did not arrive), `internal_error` (a
//! defect), `instance_unreachable` (the proxy's 502), `not_supported` (the provider cannot do it), `issuer_unavailable` (no key to check a token with) and
//! `node_not_found`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text that is no error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an error code of this version")]
pub struct UnknownCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $slug:literal, $status:literal, $title:literal, $retryable:literal;)*) => {
        /// An error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[$doc])* $variant),* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $slug),* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// The same few words for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// Whether the same request may succeed later, unless an occurrence knows better.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable),* }
            }

            /// The page that explains it, in Markdown.
            #[must_use]
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$variant => {
                        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", $slug, ".md"))
                    })*
                }
            }
        }
    };
}

codes! {
    /// The body, a parameter or a header is not what this route takes.
    InvalidRequest = "invalid_request", 400, "Invalid request", false;
    /// The body is not JSON.
    MalformedJson = "malformed_json", 400, "Malformed JSON body", false;
    /// The installation has no such tier.
    TierNotOffered = "tier_not_offered", 400, "Tier not offered", false;
    /// The plan does not reach up to the tier.
    TierExceedsEntitlement = "tier_exceeds_entitlement", 400, "Tier exceeds the plan", false;
    /// The installation has no such provider.
    ProviderUnknown = "provider_unknown", 400, "Provider unknown", false;
    /// The key is no usable idempotency key.
    IdempotencyKeyInvalid = "idempotency_key_invalid", 400, "Idempotency key invalid", false;
    /// No key, or none that is known.
    Unauthorized = "unauthorized", 401, "Not authenticated", false;
    /// A known key, with the wrong role.
    Forbidden = "forbidden", 403, "Not allowed for this caller", false;
    /// Billing says that this context may not have an instance.
    EntitlementDenied = "entitlement_denied", 403, "Entitlement denied", false;
    /// No such instance for this caller.
    InstanceNotFound = "instance_not_found", 404, "Instance not found", false;
    /// No such operation for this caller.
    OperationNotFound = "operation_not_found", 404, "Operation not found", false;
    /// No such reservation.
    ReservationNotFound = "reservation_not_found", 404, "Reservation not found", false;
    /// Nothing is known of this owner.
    OwnerNotFound = "owner_not_found", 404, "Owner not found", false;
    /// No such node.
    NodeNotFound = "node_not_found", 404, "Node not found", false;
    /// No such path.
    NotFound = "not_found", 404, "No such path", false;
    /// The path has no such method.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed", false;
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout", 408, "Request did not arrive in time", true;
    /// An unresolved reservation holds the context.
    ProvisionInProgress = "provision_in_progress", 409, "A provision is in progress", true;
    /// The context has its instance.
    InstanceAlreadyActive = "instance_already_active", 409, "Instance already active", false;
    /// Destroy won.
    InstanceDestroyed = "instance_destroyed", 409, "Instance destroyed", false;
    /// The instance exists and is not to be reached yet.
    NotRoutableYet = "not_routable_yet", 409, "Instance not routable yet", true;
    /// There is nothing to repair, or not enough to repair it with.
    ProvisionRepairUnavailable = "provision_repair_unavailable", 409, "Repair unavailable", false;
    /// An executor works on the reservation.
    ReservationActive = "reservation_active", 409, "Reservation active", true;
    /// The reservation is not in a state that can be released.
    ReservationNotReleasable = "reservation_not_releasable", 409, "Reservation not releasable", false;
    /// The reservation is in another state than the caller expected.
    ReservationStatusChanged = "reservation_status_changed", 409, "Reservation status changed", false;
    /// The provider still has something.
    ProviderResourcesPresent = "provider_resources_present", 409, "Provider resources present", true;
    /// The instance existed and never will again.
    Gone = "gone", 410, "Instance gone", false;
    /// The body is longer than the limit.
    PayloadTooLarge = "payload_too_large", 413, "Payload too large", false;
    /// The body is not said to be JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type", false;
    /// The key was used with another body.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "Idempotency key reused", false;
    /// Too many requests from this caller.
    RateLimited = "rate_limited", 429, "Rate limited", true;
    /// Something in Freehold is broken.
    InternalError = "internal_error", 500, "Internal error", false;
    /// The provider of the instance cannot do this.
    NotSupported = "not_supported", 501, "Not supported by the provider", false;
    /// The provider surely refused.
    ProviderRejected = "provider_rejected", 502, "Provider rejected the request", false;
    /// The provision gave up.
    ProvisionFailed = "provision_failed", 502, "Provision failed", false;
    /// The instance did not answer the proxy.
    InstanceUnreachable = "instance_unreachable", 502, "Instance does not answer", true;
    /// The provider could not be asked.
    ProviderUnavailable = "provider_unavailable", 503, "Provider unavailable", true;
    /// The instance exists and is still being finished.
    ProvisionCompletionPending = "provision_completion_pending", 503, "Provision completion pending", true;
    /// The provider could not be asked what exists.
    ProviderCheckUnavailable = "provider_check_unavailable", 503, "Provider check unavailable", true;
    /// The registry or the records cannot be read or written.
    StoreUnavailable = "store_unavailable", 503, "Store unavailable", true;
    /// The keys that end users' tokens are signed with cannot be fetched.
    IssuerUnavailable = "issuer_unavailable", 503, "Issuer of tokens unavailable", true;
    /// The billing service did not answer.
    BillingUnavailable = "billing_unavailable", 503, "Billing unavailable", true;
}

impl Code {
    /// The sentence that the user of a web application reads where that application passes it on, for the few codes that
    /// users meet. It is the same for every occurrence and says nothing of instances or operations.
    #[must_use]
    pub const fn user_message(self) -> Option<&'static str> {
        match self {
            Self::ProvisionInProgress => {
                Some("An instance is already being created. Wait for setup to finish, then try again.")
            }
            Self::InstanceAlreadyActive => Some("User already has an active instance"),
            Self::ProvisionCompletionPending => Some("Provisioning completed but finalization is pending"),
            Self::InstanceNotFound => Some("Active instance not found"),
            Self::InstanceDestroyed => Some("Instance was destroyed during update"),
            _ => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_slug_and_a_page_that_begins_with_it() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} is there twice");
            let lines: Vec<&str> = code.page().lines().collect();
            assert_eq!(lines[0], format!("# {code}"), "the page of {code} begins with its name");
            assert!((8..=20).contains(&lines.len()), "the page of {code} has {} lines", lines.len());
            for heading in ["**What happened.**", "**Did anything change?**", "**What to do.**"] {
                assert!(code.page().contains(heading), "the page of {code} lacks {heading}");
            }
        }
    }

    #[test]
    fn a_code_is_written_the_same_way_everywhere() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("no_such_code".parse::<Code>(), Err(UnknownCode));
    }

    #[test]
    fn users_meet_five_codes_and_each_has_its_sentence() {
        let met: Vec<Code> = Code::ALL.iter().copied().filter(|code| code.user_message().is_some()).collect();
        assert_eq!(
            met,
            [
                Code::InstanceNotFound,
                Code::ProvisionInProgress,
                Code::InstanceAlreadyActive,
                Code::InstanceDestroyed,
                Code::ProvisionCompletionPending,
            ]
        );
        let sentences: HashSet<_> = met.iter().map(|code| code.user_message()).collect();
        assert_eq!(sentences.len(), met.len(), "no two codes say the same");
    }

    #[test]
    fn there_is_no_page_without_a_code() {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        for page in std::fs::read_dir(pages).unwrap() {
            let name = page.unwrap().file_name().into_string().unwrap();
            let slug = name.strip_suffix(".md").expect("only pages live in docs/errors");
            assert!(slug.parse::<Code>().is_ok(), "docs/errors/{name} explains no code");
        }
    }

    #[test]
    fn statuses_are_those_of_errors() {
        for code in Code::ALL {
            assert!((400..=599).contains(&code.status()), "{code}");
        }
    }
}
