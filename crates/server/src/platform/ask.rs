//! What these routes take from a request: for whom, and which instance. Fields that they do not know are passed over, so
//! that an application may send what its older worker took as well.

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use freehold_api::{Code, FieldError, Problem};
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, ExternalId, Owner};
use serde::Deserialize;

use crate::http::extract::{JsonBody, Params};
use crate::problems::{self, Refusal};

/// Names a person, the organisation that pays, and an instance, as a caller wrote them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Names {
    pub(super) user_id: Option<String>,
    pub(super) org_id: Option<String>,
    pub(super) instance_id: Option<String>,
}

/// For whom something is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct For {
    /// The context: the organisation's with this person, or the person's own.
    pub(super) context: Context,
    /// Whether the organisation was named. Where it was not, an instance that is named may be any of the person's.
    pub(super) org_named: bool,
}

/// An instance that a caller named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// None: the context's own.
    Unsaid,
    /// This one.
    This(InstanceId),
    /// An id, only none of ours.
    NoneOfOurs,
}

impl Which {
    /// The one that was named, or none.
    ///
    /// # Errors
    /// `missing` for an id that is none of ours.
    pub(super) fn named(self, missing: Code) -> Result<Option<InstanceId>, Refusal> {
        match self {
            Self::Unsaid => Ok(None),
            Self::This(id) => Ok(Some(id)),
            Self::NoneOfOurs => Err(problems::not_found(missing).into()),
        }
    }
}

impl Names {
    /// Reads them; what is wrong is added to `errors`.
    pub(super) fn read(&self, errors: &mut Vec<FieldError>) -> Option<(For, Which)> {
        let Self { user_id, org_id, instance_id } = self;
        let user = external("#/userId", user_id.as_deref(), errors);
        let org = external("#/orgId", org_id.as_deref(), errors);
        if user_id.is_none() {
            errors.push(FieldError::new("#/userId", "is needed"));
        }
        let which = match instance_id.as_deref().map(|text| (text.parse(), text.parse::<uuid::Uuid>())) {
            None => Which::Unsaid,
            Some((Ok(id), _)) => Which::This(id),
            Some((Err(_), Ok(_))) => Which::NoneOfOurs,
            Some((Err(_), Err(_))) => {
                errors.push(FieldError::new("#/instanceId", "is no UUID"));
                return None;
            }
        };
        let (user, org_named) = (user?, org_id.is_some());
        let owner = if org_named { Owner::Org(org?) } else { Owner::User(user.clone()) };
        let context = Context::new(owner, Some(user)).ok()?;
        Some((For { context, org_named }, which))
    }

    /// Reads them where nothing else can be wrong.
    ///
    /// # Errors
    /// `invalid_request`.
    pub(super) fn checked(&self) -> Result<(For, Which), Refusal> {
        let mut errors = Vec::new();
        match self.read(&mut errors) {
            Some(read) if errors.is_empty() => Ok(read),
            Some(_) | None => Err(Problem::invalid(errors).into()),
        }
    }

    /// Reads them where an instance has to be named.
    ///
    /// # Errors
    /// `invalid_request`, and `missing` for an id that is none of ours.
    pub(super) fn checked_with_instance(&self, missing: Code) -> Result<(For, InstanceId), Refusal> {
        let mut errors = Vec::new();
        let read = self.read(&mut errors);
        if self.instance_id.is_none() {
            errors.push(FieldError::new("#/instanceId", "is needed"));
        }
        let (Some((whose, which)), true) = (read, errors.is_empty()) else {
            return Err(Problem::invalid(errors).into());
        };
        let id = which.named(missing)?.ok_or_else(|| problems::not_found(missing))?;
        Ok((whose, id))
    }
}

fn external(at: &str, text: Option<&str>, errors: &mut Vec<FieldError>) -> Option<ExternalId> {
    match text?.parse() {
        Ok(id) => Some(id),
        Err(_) => {
            errors.push(FieldError::new(at, "takes 1 to 200 printable ASCII characters without spaces"));
            None
        }
    }
}

/// Names from the query, from a JSON body, or some from each.
pub(super) struct Either(pub(super) Names);

impl<S: Send + Sync> FromRequest<S> for Either {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Params::<Names>(query) = Params::from_request_parts(&mut parts, state).await?;
        let body = match body.is_end_stream() {
            true => Names::default(),
            false => JsonBody::from_request(Request::from_parts(parts, body), state).await?.0,
        };
        let mut errors = Vec::new();
        let mut one = |name: &str, query: Option<String>, body: Option<String>| {
            if query.is_some() && body.is_some() && query != body {
                errors.push(FieldError::new(format!("#/{name}"), "is one thing in the query and another in the body"));
            }
            body.or(query)
        };
        let names = Names {
            user_id: one("userId", query.user_id, body.user_id),
            org_id: one("orgId", query.org_id, body.org_id),
            instance_id: one("instanceId", query.instance_id, body.instance_id),
        };
        if errors.is_empty() { Ok(Self(names)) } else { Err(Problem::invalid(errors).into()) }
    }
}
