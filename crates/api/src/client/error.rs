//! Why a call has no result.

use reqwest::StatusCode;

use crate::problem::Problem;

/// How much of an unexpected body is kept, in bytes: enough to recognise whose error page it is.
const BODY_KEPT_MAX: usize = 2048;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client cannot be used as it was set up; nothing was sent.
    #[error("{0}")]
    Setup(String),
    /// No answer, or only a part of one. Whether the request was carried out is not known.
    #[error("no answer from {url}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The server refused, and says why.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// An answer that no server of this version gives: something else listens there, or another version does.
    #[error("an answer that is not Freehold's: status {status}")]
    Unexpected {
        /// Its HTTP status.
        status: u16,
        /// How its body begins.
        body: String,
    },
}

impl ClientError {
    pub(super) fn setup(message: impl Into<String>) -> Self {
        Self::Setup(message.into())
    }

    pub(super) fn unexpected(status: StatusCode, body: &[u8]) -> Self {
        let kept = &body[..body.len().min(BODY_KEPT_MAX)];
        Self::Unexpected { status: status.as_u16(), body: String::from_utf8_lossy(kept).into_owned() }
    }

    /// The problem, if the server named one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Setup(_) | Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }

    /// The HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Unexpected { status, .. } => Some(*status),
            Self::Setup(_) | Self::Unreachable { .. } => None,
        }
    }
}
