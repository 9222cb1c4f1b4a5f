//! The `Prefer` header (RFC 7240): how long a caller wants to wait for an outcome.
//!
//! A preference is a wish. One that is unknown or makes no sense is ignored, and of one that is there twice the first
//! counts, as the RFC says.

use std::time::Duration;

/// The header's name.
pub const HEADER: &str = "prefer";

/// The longest that a server waits before it answers with the operation, whatever a caller wishes: below the minute
/// after which proxies on the way cut a silent request off.
pub const WAIT_MAX: Duration = Duration::from_secs(55);

/// What a caller prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `wait=N`: wait up to so long.
    pub wait: Option<Duration>,
    /// `respond-async`: answer with the operation rather than wait.
    pub respond_async: bool,
}

impl Prefer {
    /// Reads the header's values; there may be several.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut prefer = Self::default();
        for preference in headers.into_iter().flat_map(|header| split_unquoted(header, ',')) {
            let bare = split_unquoted(preference, ';').next().unwrap_or_default();
            let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("respond-async") {
                prefer.respond_async = true;
            } else if name.eq_ignore_ascii_case("wait") && prefer.wait.is_none() {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                prefer.wait = value.parse().ok().filter(|_: &u32| digits).map(|n: u32| Duration::from_secs(n.into()));
            }
        }
        prefer
    }

    /// How long to wait, given what a caller without a wish gets. Never longer than [`WAIT_MAX`].
    ///
    /// `respond-async` alone waits not at all; together with `wait=N` it waits that long first.
    #[must_use]
    pub fn wait_or(&self, default: Duration) -> Duration {
        let wish = match (self.wait, self.respond_async) {
            (Some(wait), _) => wait,
            (None, true) => Duration::ZERO,
            (None, false) => default,
        };
        wish.min(WAIT_MAX)
    }

    /// The header's value. `None` without a wish.
    #[must_use]
    pub fn to_header(&self) -> Option<String> {
        match (self.respond_async, self.wait) {
            (true, Some(wait)) => Some(format!("respond-async, wait={}", wait.as_secs())),
            (true, None) => Some("respond-async".to_owned()),
            (false, Some(wait)) => Some(format!("wait={}", wait.as_secs())),
            (false, None) => None,
        }
    }
}

/// The parts of a header between separators that are not inside a quoted string.
fn split_unquoted(header: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    header.split(move |character: char| {
        let separates = character == separator && !quoted;
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && character == '\\' && !escaped;
        separates
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn wishes_are_read_in_any_arrangement() {
        let both = Prefer { wait: Some(seconds(10)), respond_async: true };
        for headers in [
            &["respond-async, wait=10"][..],
            &["wait=10", "respond-async"],
            &["  Wait = \"10\" ;x=y , foo; bar=\"a,wait=3\", Respond-Async"],
            &["respond-async,wait=10,wait=99"],
            &["handling=\"a\\\",wait=3\", wait=10, respond-async; q"],
        ] {
            assert_eq!(Prefer::parse(headers.iter().copied()), both, "{headers:?}");
        }
        assert_eq!(Prefer::parse([]), Prefer::default());
        for nonsense in
            ["wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "wait=99999999999999", "waiting=3", "\"wait=3"]
        {
            assert_eq!(Prefer::parse([nonsense]).wait, None, "{nonsense}");
        }
    }

    #[test]
    fn the_wait_follows_the_wish_up_to_a_limit() {
        let wait = |header: &str| Prefer::parse([header]).wait_or(seconds(25)).as_secs();
        assert_eq!(wait(""), 25);
        assert_eq!(wait("wait=5"), 5);
        assert_eq!(wait("wait=600"), WAIT_MAX.as_secs());
        assert_eq!(wait("respond-async"), 0);
        assert_eq!(wait("respond-async, wait=7"), 7);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "\\PC{0,80}") {
            let _ = Prefer::parse([header.as_str()]);
        }

        #[test]
        fn a_wish_survives_being_written(wait in proptest::option::of(0_u32..100_000), respond_async: bool) {
            let prefer = Prefer { wait: wait.map(|n| seconds(n.into())), respond_async };
            prop_assert_eq!(Prefer::parse(prefer.to_header().as_deref()), prefer);
        }
    }
}
