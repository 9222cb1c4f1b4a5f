//! Reading a JSON body, with the place of what is wrong.
//!
//! "This is not JSON" and "this JSON is not what the route takes" are two codes; the second one has a pointer.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::{Path, Segment};

use crate::code::Code;
use crate::problem::{FieldError, Problem};

/// Reads a body.
///
/// # Errors
/// A `malformed_json` problem for text that is not one JSON value, an `invalid_request` problem with a pointer for an
/// unknown field, a repeated field, a missing one, or a value of the wrong kind. For repeated and missing fields it
/// points to the object, and the detail names the field. A body is an object: a list of its values is none.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Problem>> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = pointer(error.path());
        Box::new(refusal(&error.into_inner(), at))
    })?;
    reader.end().map_err(|error| Box::new(refusal(&error, root())))?;
    Ok(value)
}

/// Reads a field that is an object, null, or absent.
///
/// # Errors
/// What the reader says of anything else.
pub(crate) fn object<'de, T, D>(reader: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<Object<T>>::deserialize(reader)?.map(|Object(value)| value))
}

/// What is written as an object. Derived readers take a list of a struct's values in their order as well, and what
/// that means would change with the order of our fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct ByName<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ByName<T> {
            type Value = Object<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        reader.deserialize_map(ByName(PhantomData))
    }
}

fn refusal(error: &serde_json::Error, at: String) -> Problem {
    match error.classify() {
        serde_json::error::Category::Data => Problem::invalid(vec![FieldError::new(at, error.to_string())]),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            Problem::new(Code::MalformedJson, format!("the body is not one JSON value: {error}"))
        }
    }
}

fn root() -> String {
    "#".to_owned()
}

fn pointer(path: &Path) -> String {
    path.iter().fold(root(), |at, segment| match segment {
        Segment::Seq { index } => child(&at, &index.to_string()),
        Segment::Map { key } => child(&at, key),
        Segment::Enum { variant } => child(&at, variant),
        Segment::Unknown => at,
    })
}

/// The pointer to a member of what `parent` points to: escaped as RFC 6901 says, then as a URI fragment.
#[must_use]
pub fn child(parent: &str, name: &str) -> String {
    let mut pointer = String::with_capacity(parent.len() + name.len() + 1);
    pointer.push_str(parent);
    pointer.push('/');
    for byte in name.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => pointer.push(char::from(byte)),
            other => pointer.push_str(&format!("%{other:02X}")),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1::instances::CreateInstance;

    fn refused(body: &str) -> Problem {
        *read::<CreateInstance>(body.as_bytes()).expect_err("this body is refused")
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", "nonsense", "{\"owner\":\"user:a\"} {}", "{\"owner\":\"user:a\",}", "\u{feff}{}"] {
            assert_eq!(refused(body).code, Code::MalformedJson, "{body}");
        }
        assert_eq!(read::<CreateInstance>(b"{\"owner\":\"\xff\"}").unwrap_err().code, Code::MalformedJson);
    }

    #[test]
    fn what_is_json_and_not_ours_is_invalid_with_its_place() {
        for (body, at, says) in [
            (r#"{}"#, "#", "missing field `owner`"),
            (r#"[]"#, "#", "expected an object"),
            (r#"["user:a",null,null,null,null,null,null]"#, "#", "expected an object"),
            (r#"null"#, "#", "expected an object"),
            (r#"{"owner":"user:a","spec":["hello"]}"#, "#/spec", "expected an object"),
            (r#"{"owner":5}"#, "#/owner", "expected a string"),
            (r#"{"owner":"user:a","colour":"red"}"#, "#/colour", "unknown field `colour`"),
            (r#"{"owner":"user:a","owner":"user:b"}"#, "#", "duplicate field `owner`"),
            (r#"{"owner":"user:a","spec":{"templat":"x"}}"#, "#/spec/templat", "unknown field"),
            (r#"{"owner":"user:a","spec":{"command":["a",1]}}"#, "#/spec/command/1", "expected a string"),
            (r#"{"owner":"user:a","spec":{"env":{"A":"1","A":"2"}}}"#, "#/spec/env", "`A` is there twice"),
            (r#"{"owner":"user:a","spec":{"env":{"A":7}}}"#, "#/spec/env/A", "expected a string"),
            (r#"{"owner":"user:a","instance_id":"x"}"#, "#/instance_id", "UUID"),
        ] {
            let problem = refused(body);
            assert_eq!(problem.code, Code::InvalidRequest, "{body}");
            assert_eq!(problem.errors[0].pointer, at, "{body}: {}", problem.errors[0].detail);
            assert!(problem.errors[0].detail.contains(says), "{body}: {}", problem.errors[0].detail);
        }
    }

    #[test]
    fn a_secret_of_the_wrong_kind_is_not_repeated_in_the_answer() {
        let problem = refused(r#"{"owner":"user:a","spec":{"secrets":{"PIN":123456}}}"#);
        assert!(!problem.to_string().contains("123456"), "{problem}");
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(child("#/env", "a/b~c d"), "#/env/a~1b~0c%20d");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<CreateInstance>(&body);
        }
    }
}
