//! Refusals of the demo itself, in the form of FastAuth's.

use std::fmt::Display;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// A refusal
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    #[schema(example = "error")]
    status: &'static str,
    /// The HTTP status
    #[schema(example = 401)]
    code: u16,
    /// A short name that stays
    #[schema(example = "link_not_valid")]
    reason: &'static str,
    message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "error", code: status.as_u16(), reason, message: message.into() }
    }

    pub(crate) fn unavailable(error: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
