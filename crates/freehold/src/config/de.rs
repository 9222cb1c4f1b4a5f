//! From the tree to types, keeping the place of whatever does not fit.
//!
//! The type that is wanted decides how a text from the environment is read: `"50"` is a number where a number is wanted
//! and a name where a name is.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::error::{ConfigError, Finding, nearest};
use super::tree::{Member, Node, Origin, Value};

/// Reads a tree into a type.
///
/// # Errors
/// The first thing that does not fit, with its place and path.
pub(super) fn read<'de, T: Deserialize<'de>>(tree: &'de Node) -> Result<T, ConfigError> {
    T::deserialize(tree).map_err(|fault| fault.within(tree).into_finding().into())
}

/// Something that does not fit, while it travels up to where its place is known.
#[derive(Debug)]
pub(super) struct Fault {
    origin: Option<Origin>,
    /// The keys that lead there, innermost first.
    path: Vec<String>,
    kind: FaultKind,
}

#[derive(Debug)]
enum FaultKind {
    UnknownKey { key: String, known: &'static [&'static str] },
    Other { message: String, hint: Option<String> },
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self { origin: None, path: Vec::new(), kind }
    }

    /// Gives a fault the place of the node it came out of, unless an inner one knew better.
    fn within(mut self, node: &Node) -> Self {
        if self.origin.is_some() {
            return self;
        }
        let mut origin = node.origin.clone();
        if let (FaultKind::UnknownKey { key, .. }, Value::Table(members)) = (&self.kind, &node.value)
            && let Some(member) = members.get(key)
        {
            origin = member.key.clone();
            self.path.push(key.clone());
        }
        self.origin = Some(origin);
        self
    }

    fn into_finding(self) -> Finding {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        let mut finding = match self.kind {
            FaultKind::UnknownKey { key, known } => {
                let hint = match nearest(&key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                Finding::new(dotted(&path), "there is no such setting").hint(hint)
            }
            FaultKind::Other { message, hint } => Finding { hint, ..Finding::new(dotted(&path), message) },
        };
        finding.origin = self.origin;
        finding
    }
}

/// A path as TOML writes it: keys with dots or other characters in them are quoted.
pub(super) fn dotted(path: &[&str]) -> String {
    let bare = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let keys: Vec<String> =
        path.iter().map(|key| if bare(key) { (*key).to_owned() } else { format!("\"{key}\"") }).collect();
    keys.join(".")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            FaultKind::Other { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FaultKind::Other { message: message.to_string(), hint: None })
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let is = match unexpected {
            Unexpected::Map => "a section".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Str(text) => format!("the text {text:?}"),
            Unexpected::Signed(number) => format!("the number {number}"),
            Unexpected::Float(number) => format!("the number {number}"),
            Unexpected::Bool(is) => format!("{is}"),
            other => other.to_string(),
        };
        Self::custom(format!("this is {is}, and should be {}", wanted(&expected.to_string())))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let hint = nearest(word, known.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
        let message = format!("`{word}` is none of {}", known.join(", "));
        Self::new(FaultKind::Other { message, hint })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(FaultKind::Other { message: format!("the key `{key}` is missing"), hint: None })
    }
}

/// The library's words for kinds of values, in the operator's.
fn wanted(expected: &str) -> String {
    match expected {
        "a string" => "a text in quotes".to_owned(),
        "a sequence" => "a list, such as [\"a\", \"b\"]".to_owned(),
        "a map" => "a section".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "f64" => "a number".to_owned(),
        other => match other.strip_prefix("struct ") {
            Some(_) => "a section".to_owned(),
            None => other.to_owned(),
        },
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match &self.value {
            Value::Text(text) | Value::Raw(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(is) => visitor.visit_bool(*is),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Table(members) => visitor.visit_map(Members { rest: members.iter(), at: None }),
        };
        read.map_err(|fault: Fault| fault.within(self))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Raw(text) => match text.trim().parse() {
                Ok(is) => visitor.visit_bool(is),
                Err(_) => Err(Fault::invalid_type(Unexpected::Str(text), &visitor).within(self)),
            },
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::List(_)
            | Value::Table(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Raw(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_i64(number).map_err(|fault: Fault| fault.within(self)),
                Err(_) => Err(Fault::invalid_type(Unexpected::Str(text), &visitor).within(self)),
            },
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::List(_)
            | Value::Table(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Raw(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(Fault::invalid_type(Unexpected::Str(text), &visitor).within(self)),
            },
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::List(_)
            | Value::Table(_) => self.deserialize_any(visitor),
        }
    }

    /// A list in a variable is TOML's (`["a", "b"]`), or words with commas between them.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Value::Raw(text) = &self.value else { return self.deserialize_any(visitor) };
        let words: Vec<String> = if text.trim_start().starts_with('[') {
            toml::from_str::<std::collections::BTreeMap<String, Vec<String>>>(&format!("list = {text}"))
                .ok()
                .and_then(|mut table| table.remove("list"))
                .ok_or_else(|| Fault::custom(format!("{text} is not a list of texts")).within(self))?
        } else {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        visitor
            .visit_seq(serde::de::value::SeqDeserializer::new(words.into_iter()))
            .map_err(|fault: Fault| fault.within(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self).map_err(|fault: Fault| fault.within(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault: Fault| fault.within(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) | Value::Raw(text) => {
                let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                word.deserialize_enum(name, known, visitor).map_err(|fault| fault.within(self))
            }
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
                Err(Fault::custom(format!("this should be one of {}", known.join(", "))).within(self))
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// The members of a table.
struct Members<'de> {
    rest: std::collections::btree_map::Iter<'de, String, Member>,
    at: Option<(&'de String, &'de Member)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.at = self.rest.next();
        let Some((key, _)) = self.at else { return Ok(None) };
        let name: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, member)) = self.at.take() else { return Err(Fault::custom("a value without a key")) };
        seed.deserialize(&member.node).map_err(|fault| {
            let mut fault = fault.within(&member.node);
            fault.path.push(key.clone());
            fault
        })
    }
}

/// The items of a list.
struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(node).map_err(|fault| fault.within(node))).transpose()
    }
}
