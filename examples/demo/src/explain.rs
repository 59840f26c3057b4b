//! Explains how the guard reads a path.

use axum::{
    Json,
    extract::{Query, State},
    http::{Method, StatusCode},
};
use fastauth::{
    FastAuthLayer,
    path::{Explanation, PathRefusal},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// The longest path, in bytes. It may have hundreds of readings of that length.
const LONGEST: usize = 512;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Line {
    #[param(value_type = String, example = "GET")]
    method: String,
    /// A path with its query, as it stands in the first line of a request
    #[param(example = "/x/../%61ccess")]
    target: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Explained {
    /// What is wrong with the path, to follow it in a sentence
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    explanation: Explanation,
}

/// Explain a path
///
/// The credentials that a request requires by its path, with every reading of the path and the rule that decided. Each reading names the
/// one that it was made from.
#[utoipa::path(get, path = "/demo/explain", tag = "demo", params(Line), responses(
    (status = 200, description = "The readings", body = Explained),
    (status = 400, description = "The path is too long, or there is no such method", body = Problem),
))]
pub(crate) async fn explain(
    State(auth): State<FastAuthLayer>,
    Query(line): Query<Line>,
) -> Result<Json<Explained>, Problem> {
    let Ok(method) = Method::from_bytes(line.method.as_bytes()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "method", "that is not a method"));
    };
    if line.target.len() > LONGEST {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "target",
            format!("a path here has at most {LONGEST} bytes"),
        ));
    }
    let explanation = auth.explain(&method, &line.target);
    Ok(Json(Explained { refusal: explanation.reason().map(PathRefusal::description), explanation }))
}
