//! The lists and the few optional parts that rows keep as JSON. Private shapes: the domain derives no serde, and nobody
//! but these rows reads them. Times are microseconds since the Unix epoch.

use std::borrow::Cow;

use freehold_domain::evidence::Lookup;
use freehold_domain::operation::{Failure, FailureCode, Step, StepRecord, StepStatus};
use freehold_domain::resource::{Rejection, RejectionClass, Resource, ResourceKind};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;
use serde::{Deserialize, Serialize};

use super::corrupt;
use super::names::{self, Named};

/// The text of an empty list; most lists of young rows are.
pub(crate) const EMPTY: &str = "[]";

#[derive(Serialize, Deserialize)]
struct RejectionJson<'a> {
    class: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<Cow<'a, str>>,
    detail: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct StepJson<'a> {
    step: Cow<'a, str>,
    status: Cow<'a, str>,
    attempts: u32,
    started_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejection: Option<RejectionJson<'a>>,
}

#[derive(Serialize, Deserialize)]
struct ResourceJson<'a> {
    kind: Cow<'a, str>,
    id: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<Cow<'a, str>>,
    handle: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct LookupJson<'a> {
    at: i64,
    absent: bool,
    detail: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct FailureJson<'a> {
    code: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejection: Option<RejectionJson<'a>>,
    detail: Cow<'a, str>,
}

fn write<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(format!("a value that JSON does not have: {error}")))
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("JSON that does not parse: {error}")))
}

fn named<T: Named>(name: &str) -> Result<T, StoreError> {
    T::from_name(name).ok_or_else(|| corrupt(format!("{name:?} is no {}", T::WHAT)))
}

fn list<'t, T, J: Serialize>(items: &'t [T], one: impl Fn(&'t T) -> J) -> Result<Cow<'static, str>, StoreError> {
    if items.is_empty() {
        return Ok(Cow::Borrowed(EMPTY));
    }
    write(&items.iter().map(one).collect::<Vec<_>>()).map(Cow::Owned)
}

fn unlist<'t, T, J: Deserialize<'t>>(
    text: &'t str,
    one: impl Fn(J) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    if text == EMPTY {
        return Ok(Vec::new());
    }
    read::<Vec<J>>(text)?.into_iter().map(one).collect()
}

impl<'a> From<&'a Rejection> for RejectionJson<'a> {
    fn from(Rejection { class, detail }: &'a Rejection) -> Self {
        let region = match class {
            RejectionClass::Capacity { region } => region.as_deref().map(Cow::Borrowed),
            RejectionClass::Invalid
            | RejectionClass::Unauthorized
            | RejectionClass::Quota
            | RejectionClass::ConflictForeign => None,
        };
        Self { class: class.name().into(), region, detail: detail.into() }
    }
}

impl RejectionJson<'_> {
    fn parse(self) -> Result<Rejection, StoreError> {
        let Self { class, region, detail } = self;
        let class = names::rejection_class(&class, region.map(Cow::into_owned))
            .ok_or_else(|| corrupt(format!("{class:?} is no class of rejection")))?;
        Ok(Rejection { class, detail: detail.into_owned() })
    }
}

/// A journal, as its row keeps it.
pub(crate) fn steps(steps: &[StepRecord]) -> Result<Cow<'static, str>, StoreError> {
    list(steps, |record| {
        let StepRecord { step, status, attempts, started_at, finished_at, last_error, rejection } = record;
        StepJson {
            step: step.name().into(),
            status: status.name().into(),
            attempts: *attempts,
            started_at: started_at.as_micros(),
            finished_at: finished_at.map(Timestamp::as_micros),
            last_error: last_error.as_deref().map(Cow::Borrowed),
            rejection: rejection.as_ref().map(RejectionJson::from),
        }
    })
}

/// The journal of a row.
pub(crate) fn read_steps(text: &str) -> Result<Vec<StepRecord>, StoreError> {
    unlist(text, |json: StepJson<'_>| {
        let StepJson { step, status, attempts, started_at, finished_at, last_error, rejection } = json;
        Ok(StepRecord {
            step: named::<Step>(&step)?,
            status: named::<StepStatus>(&status)?,
            attempts,
            started_at: Timestamp::from_micros(started_at),
            finished_at: finished_at.map(Timestamp::from_micros),
            last_error: last_error.map(Cow::into_owned),
            rejection: rejection.map(RejectionJson::parse).transpose()?,
        })
    })
}

/// Resources, as their row keeps them.
pub(crate) fn resources(resources: &[Resource]) -> Result<Cow<'static, str>, StoreError> {
    list(resources, |Resource { kind, id, region, handle }| ResourceJson {
        kind: kind.name().into(),
        id: id.into(),
        region: region.as_deref().map(Cow::Borrowed),
        handle: handle.into(),
    })
}

/// The resources of a row.
pub(crate) fn read_resources(text: &str) -> Result<Vec<Resource>, StoreError> {
    unlist(text, |ResourceJson { kind, id, region, handle }: ResourceJson<'_>| {
        Ok(Resource {
            kind: named::<ResourceKind>(&kind)?,
            id: id.into_owned(),
            region: region.map(Cow::into_owned),
            handle: handle.into_owned(),
        })
    })
}

/// Look-ups, as their row keeps them.
pub(crate) fn lookups(lookups: &[Lookup]) -> Result<Cow<'static, str>, StoreError> {
    list(lookups, |Lookup { at, absent, detail }| LookupJson {
        at: at.as_micros(),
        absent: *absent,
        detail: detail.into(),
    })
}

/// The look-ups of a row.
pub(crate) fn read_lookups(text: &str) -> Result<Vec<Lookup>, StoreError> {
    unlist(text, |LookupJson { at, absent, detail }: LookupJson<'_>| {
        Ok(Lookup { at: Timestamp::from_micros(at), absent, detail: detail.into_owned() })
    })
}

/// Regions, as their row keeps them.
pub(crate) fn regions(regions: &[String]) -> Result<Cow<'static, str>, StoreError> {
    list(regions, String::as_str)
}

/// The regions of a row.
pub(crate) fn read_regions(text: &str) -> Result<Vec<String>, StoreError> {
    unlist(text, Ok)
}

/// A failure, as its row keeps it.
pub(crate) fn failure(failure: &Failure) -> Result<String, StoreError> {
    let Failure { code, rejection, detail } = failure;
    let rejection = rejection.as_ref().map(RejectionJson::from);
    write(&FailureJson { code: code.name().into(), rejection, detail: detail.into() })
}

/// The failure of a row.
pub(crate) fn read_failure(text: &str) -> Result<Failure, StoreError> {
    let FailureJson { code, rejection, detail } = read(text)?;
    Ok(Failure {
        code: named::<FailureCode>(&code)?,
        rejection: rejection.map(RejectionJson::parse).transpose()?,
        detail: detail.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(class: RejectionClass) -> Rejection {
        Rejection { class, detail: "no \"room\"\n at all".to_owned() }
    }

    #[test]
    fn a_journal_reads_back_as_itself() {
        let journal: Vec<_> = Step::ALL
            .into_iter()
            .zip(StepStatus::ALL.into_iter().cycle())
            .map(|(step, status)| StepRecord {
                step,
                status,
                attempts: 3,
                started_at: Timestamp::from_micros(-1),
                finished_at: Some(Timestamp::NEVER),
                last_error: Some("ü".to_owned()),
                rejection: Some(rejection(RejectionClass::Capacity { region: Some("ams".to_owned()) })),
            })
            .collect();
        assert_eq!(read_steps(&steps(&journal).expect("writes")), Ok(journal));
        assert_eq!(read_steps(&steps(&[]).expect("writes")), Ok(Vec::new()));
    }

    #[test]
    fn the_other_parts_read_back_as_themselves() {
        let things = vec![Resource {
            kind: ResourceKind::Runtime,
            id: "1".to_owned(),
            region: None,
            handle: "{\"pid\":1}".to_owned(),
        }];
        assert_eq!(read_resources(&resources(&things).expect("writes")), Ok(things));
        let looks = vec![Lookup { at: Timestamp::from_micros(7), absent: true, detail: "nothing".to_owned() }];
        assert_eq!(read_lookups(&lookups(&looks).expect("writes")), Ok(looks));
        let places = vec!["ams".to_owned(), "f\"ra".to_owned()];
        assert_eq!(read_regions(&regions(&places).expect("writes")), Ok(places));
        for code in FailureCode::ALL {
            let failed = Failure { code, rejection: Some(rejection(RejectionClass::Quota)), detail: "why".to_owned() };
            assert_eq!(read_failure(&failure(&failed).expect("writes")), Ok(failed));
        }
    }

    #[test]
    fn what_does_not_parse_is_named() {
        let error = read_resources(r#"[{"kind":"moon","id":"1","handle":""}]"#).expect_err("no such kind");
        assert_eq!(error, corrupt("\"moon\" is no kind of resource"));
        assert!(matches!(read_steps("[{"), Err(StoreError::Corrupt(_))));
    }
}
