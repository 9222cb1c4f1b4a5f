//! The table from billing's statuses to what is known afterwards. It is the only place that reads a status.
//!
//! - A redirect is not followed: the message is signed for one address, and a redirect may come after the effect.
//! - 408 and 425 are of the way there, not of the service; 5xx may come after the effect. Both are unknown.

use freehold_domain::resource::RejectionClass;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It happened, if the body says so too.
    Done,
    /// Surely refused.
    Refused(RejectionClass),
    /// Surely not done, this time.
    NotNow,
    /// Nothing is proven.
    Unknown,
}

/// What a status means.
pub(crate) fn meaning(status: u16) -> Meaning {
    match status {
        200 | 201 | 204 => Meaning::Done,
        408 | 425 | 499 => Meaning::Unknown,
        429 => Meaning::NotNow,
        401 | 403 | 407 => Meaning::Refused(RejectionClass::Unauthorized),
        402 => Meaning::Refused(RejectionClass::Quota),
        409 => Meaning::Refused(RejectionClass::ConflictForeign),
        400..=498 => Meaning::Refused(RejectionClass::Invalid),
        // 202 and other successes: accepted, and not done. 3xx, 5xx, and what nobody has heard of.
        _ => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_means_what_it_says() {
        use RejectionClass::{ConflictForeign, Invalid, Quota, Unauthorized};
        for (statuses, means) in [
            (&[200, 201, 204][..], Meaning::Done),
            (&[202, 203, 206, 301, 302, 303, 307, 308], Meaning::Unknown),
            (&[408, 425, 499, 500, 502, 503, 504, 599, 100, 0, 999], Meaning::Unknown),
            (&[429], Meaning::NotNow),
            (&[401, 403, 407], Meaning::Refused(Unauthorized)),
            (&[402], Meaning::Refused(Quota)),
            (&[409], Meaning::Refused(ConflictForeign)),
            (&[400, 404, 405, 410, 413, 415, 422, 451], Meaning::Refused(Invalid)),
        ] {
            for &status in statuses {
                assert_eq!(meaning(status), means, "{status}");
            }
        }
    }
}
