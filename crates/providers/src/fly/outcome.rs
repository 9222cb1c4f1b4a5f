//! The table from the API's answers to outcomes. It is the only place that reads a status.
//!
//! - A refusal is one only if the API itself says so, in its own format: whatever a proxy in between makes up proves nothing.
//! - 5xx, 408 and everything that the table does not have is [`Meaning::Unknown`].
//! - "Not now" is a sure refusal of this one call; the next one may be let through.

use freehold_domain::resource::RejectionClass;
use serde::Deserialize;

/// The calls that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    CreateApp,
    SetSecrets,
    CreateVolume,
    CreateMachine,
    UpdateMachine,
    TagMachine,
    StartMachine,
    StopMachine,
    RestartMachine,
    AwaitMachine,
    DeleteMachine,
    DeleteVolume,
    DeleteApp,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Meaning {
    /// It happened.
    Done,
    /// What was to be removed is not there.
    Gone,
    /// The name is taken: by what this very call made before, or by somebody else.
    Taken,
    /// Something holds what was to be removed.
    Held,
    /// Surely refused: no room here.
    Full,
    /// Surely refused: it can never work as it is.
    Invalid,
    /// Surely refused: we may not.
    Unauthorized,
    /// Surely refused, this time.
    NotNow,
    /// Nothing is proven.
    Unknown,
}

/// `{"error": …, "status": …}`, in every refusal of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Complaint {
    pub(super) error: String,
    #[serde(default)]
    pub(super) status: Option<String>,
}

/// What a complaint says when a host, a region or an organisation has no room. There are more words for it than there
/// are statuses: each was seen with 400, 403, 409, 412 and 422.
const NO_ROOM: [&str; 7] = [
    "insufficient_capacity",
    "volume_placement_capacity",
    "no capacity",
    "insufficient resources",
    "insufficient memory",
    "insufficient capacity",
    "over the allowed quota",
];

impl Complaint {
    fn says(&self, words: &[&str]) -> bool {
        let status = self.status.as_deref().unwrap_or_default();
        words.iter().any(|word| status == *word || self.error.contains(word))
    }
}

/// What an answer means. `complaint` is the body, where it is one of the API's own.
pub(super) fn meaning(call: Call, status: u16, complaint: Option<&Complaint>) -> Meaning {
    use Call::{AwaitMachine, CreateApp, CreateMachine, DeleteApp, DeleteMachine, DeleteVolume};
    if (200..300).contains(&status) {
        return Meaning::Done;
    }
    let Some(complaint) = complaint else { return Meaning::Unknown };
    let deletes = matches!(call, DeleteApp | DeleteMachine | DeleteVolume);
    match status {
        400 | 403 | 409 | 412 | 422 if !deletes && call != AwaitMachine && complaint.says(&NO_ROOM) => Meaning::Full,
        401 | 403 => Meaning::Unauthorized,
        404 if deletes => Meaning::Gone,
        409 if call == CreateMachine && complaint.says(&["already_exists"]) => Meaning::Taken,
        422 if call == CreateApp && complaint.says(&["name_taken", "already been taken"]) => Meaning::Taken,
        409 | 412 if call == DeleteVolume => Meaning::Held,
        404 | 409 | 412 | 429 => Meaning::NotNow,
        400 | 413 | 415 | 422 => Meaning::Invalid,
        _ => Meaning::Unknown,
    }
}

/// The id in `machine ID 148e… already exists with name "fh-…"`.
pub(super) fn machine_in_the_way(complaint: &str) -> Option<&str> {
    let rest = complaint.split("machine ID ").nth(1)?;
    let id = rest.split_whitespace().next()?;
    is_id(id).then_some(id)
}

/// Whether a text is what the API's ids look like, and so may stand in a path.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl Meaning {
    /// Why the API surely refuses for good, if it does.
    pub(super) fn rejection(self, region: Option<&str>) -> Option<RejectionClass> {
        match self {
            Self::Full => Some(RejectionClass::Capacity { region: region.map(str::to_owned) }),
            Self::Invalid => Some(RejectionClass::Invalid),
            Self::Unauthorized => Some(RejectionClass::Unauthorized),
            Self::Done | Self::Gone | Self::Taken | Self::Held | Self::NotNow | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row: the call, the status, the body's `error` and `status`, and what it means. Sources: the OpenAPI document,
    /// and the errors that the API's own client library tells apart.
    const ROWS: &[(Call, u16, &str, &str, Meaning)] = &[
        (Call::CreateApp, 201, "", "", Meaning::Done),
        (Call::CreateApp, 400, "bad app name", "", Meaning::Invalid),
        (Call::CreateApp, 401, "unauthorized", "", Meaning::Unauthorized),
        (Call::CreateApp, 403, "you may not", "", Meaning::Unauthorized),
        (Call::CreateApp, 422, "Name has already been taken", "name_taken", Meaning::Taken),
        (Call::CreateApp, 422, "Name is too long", "unknown", Meaning::Invalid),
        (Call::CreateApp, 429, "rate limited", "", Meaning::NotNow),
        (Call::CreateApp, 408, "request timed out", "", Meaning::Unknown),
        (Call::CreateApp, 500, "oops", "", Meaning::Unknown),
        (Call::CreateApp, 503, "unavailable", "", Meaning::Unknown),
        (Call::CreateApp, 301, "moved", "", Meaning::Unknown),
        (Call::SetSecrets, 200, "", "", Meaning::Done),
        (Call::SetSecrets, 404, "app not found", "", Meaning::NotNow),
        (Call::CreateVolume, 200, "", "", Meaning::Done),
        (Call::CreateVolume, 404, "app not found", "", Meaning::NotNow),
        (Call::CreateVolume, 412, "no host has room", "volume_placement_capacity", Meaning::Full),
        (Call::CreateVolume, 422, "unknown region", "", Meaning::Invalid),
        (Call::CreateVolume, 504, "", "", Meaning::Unknown),
        (Call::CreateMachine, 200, "", "", Meaning::Done),
        (Call::CreateMachine, 400, "no capacity available in ams", "", Meaning::Full),
        (Call::CreateMachine, 400, "invalid config.image", "", Meaning::Invalid),
        (Call::CreateMachine, 403, "your organization is over the allowed quota", "", Meaning::Full),
        (Call::CreateMachine, 404, "app not found", "", Meaning::NotNow),
        (
            Call::CreateMachine,
            409,
            "already_exists: unique machine name violation, machine ID 148e1 already exists with name \"fh\"",
            "",
            Meaning::Taken,
        ),
        (Call::CreateMachine, 409, "insufficient resources to create new machine", "", Meaning::Full),
        (Call::CreateMachine, 409, "volume is attached elsewhere", "", Meaning::NotNow),
        (Call::CreateMachine, 412, "insufficient memory available", "insufficient_capacity", Meaning::Full),
        (Call::CreateMachine, 412, "volume is in a bad state", "", Meaning::NotNow),
        (Call::CreateMachine, 422, "no hosts", "insufficient_capacity", Meaning::Full),
        (Call::CreateMachine, 422, "manifest unknown", "", Meaning::Invalid),
        (Call::CreateMachine, 502, "bad gateway", "", Meaning::Unknown),
        (Call::UpdateMachine, 409, "aborted: machine update failed due to concurrent update", "", Meaning::NotNow),
        (Call::UpdateMachine, 412, "insufficient resources", "", Meaning::Full),
        (Call::UpdateMachine, 404, "machine not found", "", Meaning::NotNow),
        (Call::TagMachine, 204, "", "", Meaning::Done),
        (Call::TagMachine, 404, "machine not found", "", Meaning::NotNow),
        (Call::TagMachine, 412, "machine version mismatch", "", Meaning::NotNow),
        (Call::StartMachine, 200, "", "", Meaning::Done),
        (Call::StartMachine, 412, "unable to start machine from current state: 'replacing'", "", Meaning::NotNow),
        (Call::StartMachine, 412, "insufficient resources available to fulfill request", "", Meaning::Full),
        (Call::StopMachine, 409, "machine is leased by another", "", Meaning::NotNow),
        (Call::RestartMachine, 412, "not running", "", Meaning::NotNow),
        (Call::AwaitMachine, 200, "", "", Meaning::Done),
        (Call::AwaitMachine, 408, "timeout reached waiting for machine", "", Meaning::Unknown),
        (Call::DeleteMachine, 200, "", "", Meaning::Done),
        (Call::DeleteMachine, 404, "machine not found", "", Meaning::Gone),
        (Call::DeleteMachine, 409, "machine is leased by another", "", Meaning::NotNow),
        (Call::DeleteMachine, 403, "no capacity for you", "", Meaning::Unauthorized),
        (Call::DeleteVolume, 404, "volume not found", "", Meaning::Gone),
        (Call::DeleteVolume, 412, "volume is currently bound to machine", "", Meaning::Held),
        (Call::DeleteApp, 202, "", "", Meaning::Done),
        (Call::DeleteApp, 404, "app not found", "", Meaning::Gone),
        (Call::DeleteApp, 401, "unauthorized", "", Meaning::Unauthorized),
        (Call::DeleteApp, 500, "oops", "", Meaning::Unknown),
        (Call::DeleteApp, 418, "a teapot", "", Meaning::Unknown),
    ];

    #[test]
    fn every_row_means_what_it_says() {
        for (call, status, error, word, means) in ROWS {
            let complaint = Complaint { error: (*error).to_owned(), status: Some((*word).to_owned()) };
            assert_eq!(meaning(*call, *status, Some(&complaint)), *means, "{call:?} {status} {error:?} {word:?}");
        }
    }

    #[test]
    fn a_refusal_that_is_not_the_apis_own_proves_nothing() {
        for (call, status, ..) in ROWS.iter().filter(|(_, status, ..)| *status >= 300) {
            assert_eq!(meaning(*call, *status, None), Meaning::Unknown, "{call:?} {status}");
        }
    }

    #[test]
    fn the_machine_that_has_the_name_is_read_from_the_complaint_and_from_nothing_else() {
        let complaint =
            "already_exists: unique machine name violation, machine ID 148e1b89 already exists with name \"fh\"";
        assert_eq!(machine_in_the_way(complaint), Some("148e1b89"));
        assert_eq!(machine_in_the_way("machine ID ../../other already exists"), None);
        assert_eq!(machine_in_the_way("already_exists"), None);
    }
}
