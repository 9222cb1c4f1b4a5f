//! Named values for a program's environment: `env` and `secrets` of a spec.
//!
//! A name that is there twice is refused while reading, because JSON readers disagree about which one counts. Everything
//! else (spelling, reserved names, limits) is said by `check`, with a pointer to each place. Error texts never hold a
//! value, and [`Secrets`] does not show its values when debugged.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::child;
use crate::problem::FieldError;

/// The most names one map may have; a program that needs more reads a file.
pub const ENTRIES_MAX: usize = 128;

/// The most bytes the names and values of one map may have together: half of the largest request body (64 KiB), and well
/// below what an operating system takes as an environment.
pub const BYTES_MAX: usize = 32 * 1024;

/// Names that begin like this are Freehold's own.
pub const RESERVED_PREFIX: &str = "FREEHOLD_";

/// Environment variables by name. Shown to everybody who may read the instance.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(Names);

/// Secret environment variables by name. Travels from the caller to the server and never back.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(Names);

macro_rules! map_of_names {
    ($name:ident) => {
        impl $name {
            /// The names and values, sorted by name.
            pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
                self.0.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
            }

            /// The value of a name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<&str> {
                self.0.0.get(name).map(String::as_str)
            }

            /// Whether there is none.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.0.is_empty()
            }

            /// Says what is wrong with it; `at` is the pointer to the map.
            #[must_use]
            pub fn check(&self, at: &str) -> Vec<FieldError> {
                self.0.check(at)
            }

            /// The map itself.
            #[must_use]
            pub fn into_inner(self) -> BTreeMap<String, String> {
                self.0.0
            }
        }

        impl FromIterator<(String, String)> for $name {
            fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
                Self(Names(pairs.into_iter().collect()))
            }
        }
    };
}

map_of_names!(Env);
map_of_names!(Secrets);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, _)| (name, "[redacted]"))).finish()
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn check(&self, at: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.0.len() > ENTRIES_MAX {
            errors.push(FieldError::new(at, format!("has {} names; at most {ENTRIES_MAX} are taken", self.0.len())));
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > BYTES_MAX {
            errors.push(FieldError::new(at, format!("has {bytes} bytes; at most {BYTES_MAX} are taken")));
        }
        if !errors.is_empty() {
            return errors;
        }
        for (name, value) in &self.0 {
            if !is_name(name) {
                errors.push(FieldError::new(
                    child(at, name),
                    "a name is letters, digits and _, and starts with no digit",
                ));
            } else if name.starts_with(RESERVED_PREFIX) {
                errors.push(FieldError::new(
                    child(at, name),
                    format!("names that start with {RESERVED_PREFIX} are reserved; choose another one"),
                ));
            }
            if value.contains('\0') {
                errors.push(FieldError::new(child(at, name), "an environment cannot hold a NUL character"));
            }
        }
        errors
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.0)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if names.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("the name `{name}` is there twice")));
                    }
                    let Text(value) = map.next_value()?;
                    names.insert(name, value);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

/// A string whose reader does not repeat what it found instead.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quiet;

        impl Visitor<'_> for Quiet {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
                Err(E::invalid_type(Unexpected::Other("a boolean"), &self))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }
        }

        // Asked for a string, serde_json would name what it found itself.
        deserializer.deserialize_any(Quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn ordinary_names_pass() {
        assert_eq!(env(&[("A", "1"), ("_b9", ""), ("FREEHOLDER", "x"), ("PORT", "80")]).check("#/spec/env"), []);
    }

    #[test]
    fn each_bad_name_is_pointed_at() {
        let errors = env(&[("9A", "1"), ("FREEHOLD_ID", "x"), ("a-b", "y"), ("", "z"), ("ü", "u"), ("N", "\0")]);
        let places: Vec<String> = errors.check("#/spec/env").into_iter().map(|error| error.pointer).collect();
        assert_eq!(
            places,
            [
                "#/spec/env/",
                "#/spec/env/9A",
                "#/spec/env/FREEHOLD_ID",
                "#/spec/env/N",
                "#/spec/env/a-b",
                "#/spec/env/%C3%BC"
            ]
        );
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let many = |count: usize| (0..count).map(|n| (format!("N{n}"), String::new())).collect::<Env>();
        assert_eq!(many(ENTRIES_MAX).check("#"), []);
        assert_eq!(many(ENTRIES_MAX + 1).check("#").len(), 1);
        let long = |bytes: usize| env(&[("A", &"x".repeat(bytes - 1))]);
        assert_eq!(long(BYTES_MAX).check("#"), []);
        assert_eq!(long(BYTES_MAX + 1).check("#").len(), 1);
    }

    #[test]
    fn secrets_do_not_show_when_debugged() {
        let secrets: Secrets = [("TOKEN".to_owned(), "hunter2".to_owned())].into_iter().collect();
        assert_eq!(format!("{secrets:?}"), r#"{"TOKEN": "[redacted]"}"#);
        assert_eq!(serde_json::to_string(&secrets).unwrap(), r#"{"TOKEN":"hunter2"}"#, "callers send them");
    }

    #[test]
    fn a_repeated_name_is_refused_even_with_the_same_value() {
        let error = serde_json::from_str::<Env>(r#"{"A":"1","\u0041":"1"}"#).unwrap_err();
        assert!(error.to_string().starts_with("the name `A` is there twice"), "{error}");
    }
}
