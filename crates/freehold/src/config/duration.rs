//! Durations as people write them: `500ms`, `10s`, `5m`, `1h30m`.
//!
//! A number without a unit is refused: nobody remembers whether it was seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest duration a setting takes: a year. Longer ones are slips of the keyboard, and their sums could overflow.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// A length of time in the configuration, in whole milliseconds, at most a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Period(Duration);

impl Period {
    /// A number of milliseconds.
    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the standard library has it.
    pub(crate) const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub(crate) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// A text that is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration; write a number and a unit, such as \"500ms\", \"10s\", \"5m\" or \"1h30m\"")]
pub(crate) struct NotADuration {
    text: String,
}

impl FromStr for Period {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        parse(text.trim()).map(Self::from_millis).ok_or_else(|| NotADuration { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut larger_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        // Units go down, each at most once: `1h30m` is a duration, `30m1h` a mistake.
        if *millis >= larger_than {
            return None;
        }
        larger_than = *millis;
        total = total.checked_add(number.checked_mul(*millis)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty() && total <= LONGEST_MS).then_some(total)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(LONGEST_MS);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, such as \"10s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("0s", 0, "0s"),
            ("2d", 172_800_000, "2d"),
            (" 3s ", 3_000, "3s"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period, Period::from_millis(millis), "{text}");
            assert_eq!(period.to_string(), shown);
            assert_eq!(shown.parse::<Period>().unwrap(), period);
        }
    }

    #[test]
    fn what_is_no_duration_says_how_one_looks() {
        for text in
            ["", "10", "s", "10 s", "-1s", "1.5s", "10x", "30m1h", "1s1s", "99999999999999999999s", "400d", "1sm"]
        {
            let error = text.parse::<Period>().unwrap_err();
            assert!(error.to_string().contains("such as"), "{text}: {error}");
        }
    }
}
