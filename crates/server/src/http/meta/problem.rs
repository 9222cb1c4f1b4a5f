//! `GET /problems/{code}`: the page that explains an error code, the one its `type` leads to.

use axum::response::Response;
use freehold_api::Code;

use super::page;
use crate::http::extract::{At, Named};
use crate::http::state::App;
use crate::problems::Refusal;
use crate::users::User;

/// Explains an error code.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "server", operation_id = "explainProblem",
    params(("code" = Code, Path, description = "The code")),
    responses(
        (status = 200, description = "A page for people", body = String, content_type = "text/html"),
        (status = 404, description = "`not_found`"),
    ),
    security(()),
)]
pub(crate) async fn problem(At(code): At<Code>) -> Response {
    page::html(code.title(), &page::rendered(code.page()))
}

impl Named for Code {
    fn read(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| Refusal::new(Self::NotFound, "there is no such error code"))
    }

    async fn is_own(&self, _: &App, _: &User) -> Result<(), Refusal> {
        Ok(())
    }
}
