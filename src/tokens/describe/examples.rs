//! Examples of values for the OpenAPI document.

use http::StatusCode;
use serde_json::{Value, json};

use super::error_schema;
use crate::check::problem::{ErrorForm, OAuthError};

pub(crate) const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmF0dXJl";
pub(crate) const CLIENT_ID: &str = "alice";

/// A reason for each status of an error: the one that most clients meet.
const REASONS: [(&str, &str); 12] = [
    ("400", "malformed_body"),
    ("401", "expired_token"),
    ("403", "cross_origin"),
    ("408", "body_timed_out"),
    ("413", "body_too_long"),
    ("415", "unsupported_media_type"),
    ("422", "missing_parameter"),
    ("429", "rate_limited"),
    ("500", "not_signed"),
    ("501", "unsupported_by_store"),
    ("503", "store_unavailable"),
    ("default", "refused"),
];

/// Returns the schema of a text with an example.
pub(crate) fn text(example: &str) -> Value {
    json!({ "type": "string", "examples": [example] })
}

/// Returns an error of a schema, with the usual reason of its status unless another one is named; `None` for other schemas.
pub(crate) fn error(schema: &str, status: &str, reason: Option<&str>, message: &str) -> Option<Value> {
    let usual = REASONS.iter().find(|(of, _)| *of == status).map(|(_, reason)| *reason);
    let reason = reason.or(usual)?;
    let code = status.parse().unwrap_or(StatusCode::FORBIDDEN);
    if schema == error_schema(ErrorForm::OAuth).name {
        return Some(json!({ "error": OAuthError::of_status(code), "error_description": message, "reason": reason }));
    }
    if schema == error_schema(ErrorForm::Problem).name {
        let title = code.canonical_reason();
        let code = code.as_u16();
        return Some(
            json!({ "type": "about:blank", "title": title, "status": code, "detail": message, "reason": reason }),
        );
    }
    let detail = if schema == super::INVALID.name {
        json!([{ "type": "missing", "loc": ["body", "refresh_token"], "msg": "Field required", "input": null }])
    } else if schema == error_schema(ErrorForm::Envelope).name {
        json!(message)
    } else {
        return None;
    };
    Some(json!({ "status": "error", "code": code.as_u16(), "reason": reason, "message": message, "detail": detail }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_that_is_answered() {
        let documentation = include_str!("../../../docs/observability.md");
        for (status, reason) in REASONS {
            assert!(documentation.contains(&format!("`{reason}`")), "{status}: {reason}");
        }
    }
}
