//! The parameters of a request to the endpoints: those of its URL or of its body, never of both.

use std::{borrow::Cow, error::Error, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError};
use serde_json::{Map, Value};

use crate::{
    json,
    query::{self, ParameterError},
};

/// The longest body that is read.
const MAX_BODY: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a body may pause. A server that stops waits no longer than this for a stalled one.
const BODY_PAUSE: Duration = Duration::from_secs(3);

/// What some editors and shells write before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The parameters of a request.
pub(super) enum Parameters<'a> {
    Url(&'a str),
    Body(Map<String, Value>),
}

impl Parameters<'_> {
    /// Returns the value of a parameter, or `None` if it is absent.
    pub(super) fn get(&self, name: &str) -> Result<Option<Cow<'_, str>>, ParameterError> {
        match self {
            Self::Url(query) => query::parameter(query, name),
            Self::Body(members) => match members.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
                Some(_) => Err(ParameterError::NotAString),
            },
        }
    }

    /// Returns the value of a parameter. An empty one counts as absent (RFC 6749 3.2).
    pub(super) fn given(&self, name: &str) -> Result<Option<Cow<'_, str>>, ParameterError> {
        Ok(self.get(name)?.filter(|value| !value.is_empty()))
    }

    /// Returns the value of a parameter as a whole number, or `Some(None)` if it is none. In JSON it may be a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<Option<u64>>, ParameterError> {
        if let Self::Body(members) = self
            && let Some(Value::Number(number)) = members.get(name)
        {
            return Ok(Some(number.as_u64()));
        }
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        Ok(self.given(name)?.map(|text| if is_digits(&text) { text.parse().ok() } else { None }))
    }

    /// Returns true if a parameter is present and true. In JSON it may be a boolean.
    pub(super) fn is_true(&self, name: &str) -> Result<bool, ParameterError> {
        if let Self::Body(members) = self
            && let Some(Value::Bool(on)) = members.get(name)
        {
            return Ok(*on);
        }
        match self.given(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ParameterError::NotAFlag),
        }
    }
}

/// Why the body of a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("query parameters are not allowed on POST; send them in the request body")]
    InUrl,
    #[error("the body must be application/json or application/x-www-form-urlencoded, in UTF-8")]
    ContentType,
    #[error("the body has characters beyond ASCII: send it in UTF-8, and declare that charset")]
    Charset,
    #[error("the body is longer than 64 KiB")]
    TooLong,
    #[error("the body is too long: it exceeds a limit of the application")]
    OverLimit,
    #[error("the body did not arrive within ten seconds, or paused for three")]
    TimedOut,
    #[error("the body ended before it was complete")]
    BrokeOff,
    #[error("the body is not a JSON object whose member names are unique")]
    NotJson,
    #[error("the body is not a form in UTF-8 whose parameter names are unique")]
    NotAForm,
}

impl BodyError {
    /// Returns a short name of the error that stays.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::InUrl => "parameters_in_url",
            Self::ContentType => "unsupported_media_type",
            Self::Charset => "unsupported_charset",
            Self::TooLong | Self::OverLimit => "body_too_long",
            Self::TimedOut => "body_timed_out",
            Self::BrokeOff => "body_incomplete",
            Self::NotJson | Self::NotAForm => "malformed_body",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong | Self::OverLimit => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the parameters in the body of a POST. An empty body has none, whatever its type.
pub(super) async fn read_body<B>(request: &Parts, body: B) -> Result<Parameters<'static>, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if request.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(BodyError::InUrl);
    }
    if body.is_end_stream() {
        return Ok(Parameters::Body(Map::new()));
    }
    let format = BodyFormat::from_headers(&request.headers)?;
    let body = read(body).await?;
    if body.is_empty() {
        return Ok(Parameters::Body(Map::new()));
    }
    let BodyFormat { syntax, is_ascii } = format.ok_or(BodyError::ContentType)?;
    if is_ascii && !body.is_ascii() {
        return Err(BodyError::Charset);
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body);
    let members = match syntax {
        Syntax::Json => json::object(body).map_err(|_| BodyError::NotJson)?,
        Syntax::Form => {
            let text = std::str::from_utf8(body).ok();
            text.and_then(|text| query::form(text).ok()).ok_or(BodyError::NotAForm)?
        }
    };
    if is_ascii && syntax == Syntax::Form && !members.iter().all(is_ascii_member) {
        return Err(BodyError::Charset);
    }
    Ok(Parameters::Body(members))
}

async fn read<B>(body: B) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLong);
    }
    tokio::time::timeout(BODY_TIME, collect(body)).await.unwrap_or(Err(BodyError::TimedOut))
}

async fn collect<B>(body: B) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut collected = Vec::new();
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await.map_err(|_| BodyError::TimedOut)?;
        let Some(frame) = frame else { return Ok(collected.into()) };
        let frame = frame.map_err(|error| broken(&*error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.remaining() > MAX_BODY - collected.len() {
            return Err(BodyError::TooLong);
        }
        collected.put(data);
    }
}

/// Returns why a body did not end: a limit of the application may have cut it off, and its error may be wrapped in others.
fn broken(error: &(dyn Error + 'static)) -> BodyError {
    let is_over = std::iter::successors(Some(error), |&error| error.source()).any(<dyn Error>::is::<LengthLimitError>);
    if is_over { BodyError::OverLimit } else { BodyError::BrokeOff }
}

/// The format of a body.
struct BodyFormat {
    syntax: Syntax,
    /// Its charset agrees with UTF-8 on ASCII alone. Beyond that it cannot be trusted, since many libraries name ISO-8859-1
    /// whatever they write.
    is_ascii: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Json,
    Form,
}

impl BodyFormat {
    /// Reads the format in the headers, if they name one.
    fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, BodyError> {
        let is_plain = only(headers, &CONTENT_ENCODING)?.is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        if !is_plain {
            return Err(BodyError::ContentType);
        }
        let Some(content_type) = only(headers, &CONTENT_TYPE)? else { return Ok(None) };
        let mut parts = content_type.split(';').map(str::trim);
        let syntax = match parts.next().unwrap_or_default() {
            essence if essence.eq_ignore_ascii_case("application/json") => Syntax::Json,
            essence if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Syntax::Form,
            _ => return Err(BodyError::ContentType),
        };
        let charsets: Option<Vec<_>> = parts.filter_map(charset).map(is_ascii_charset).collect();
        let is_ascii = charsets.ok_or(BodyError::ContentType)?.contains(&true);
        Ok(Some(Self { syntax, is_ascii }))
    }
}

/// Returns the charset that a parameter of a content type names, if it names one.
fn charset(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
}

/// Returns true if only the ASCII in a charset is read, or `None` if none of it is.
fn is_ascii_charset(name: &str) -> Option<bool> {
    let letters: String = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    match &*letters {
        "utf8" => Some(false),
        // Latin-1, the charsets like it, and ASCII, by their usual names.
        "iso88591" | "latin1" | "l1" | "windows1252" | "cp1252" | "iso885915" | "latin9" => Some(true),
        "usascii" | "ascii" | "ansix3.41968" => Some(true),
        _ => None,
    }
}

fn is_ascii_member((name, value): (&String, &Value)) -> bool {
    name.is_ascii() && value.as_str().is_none_or(str::is_ascii)
}

/// Returns the value of a header that must not appear twice.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, BodyError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| BodyError::ContentType),
        (Some(_), Some(_)) => Err(BodyError::ContentType),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Full;

    use super::*;

    async fn read(content_type: &str, body: &'static str) -> Result<Value, BodyError> {
        let mut request = Request::new(());
        if !content_type.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        match read_body(&request.into_parts().0, Full::new(Bytes::from(body))).await? {
            Parameters::Body(members) => Ok(Value::Object(members)),
            Parameters::Url(_) => panic!("these are no parameters of the body"),
        }
    }

    #[tokio::test]
    async fn bodies_are_read_strictly() {
        const JSON: &str = "application/json";
        const FORM: &str = "application/x-www-form-urlencoded";
        let a = || Ok(serde_json::json!({ "a": "1" }));
        for (content_type, body, expected) in [
            (JSON, r#"{"a":"1"}"#, a()),
            ("Application/JSON; charset=UTF-8", r#"{"a":"1"}"#, a()),
            (r#"application/json;charset="utf-8""#, r#"{"a":"1"}"#, a()),
            (FORM, "a=1", a()),
            ("", "", Ok(serde_json::json!({}))),
            (JSON, "", Ok(serde_json::json!({}))),
            ("", "a=1", Err(BodyError::ContentType)),
            ("application/json; charset=utf-16", r#"{"a":"1"}"#, Err(BodyError::ContentType)),
            ("application/json; charset=latin1", r#"{"a":"1"}"#, a()),
            ("application/json; charset=ISO_8859-1", r#"{"a":"1"}"#, a()),
            ("application/json; charset=cp1252", r#"{"a":"1"}"#, a()),
            ("application/json; charset=iso-8859-7", r#"{"a":"1"}"#, Err(BodyError::ContentType)),
            ("application/json; charset=latin1", r#"{"a":"é"}"#, Err(BodyError::Charset)),
            ("application/jsonp", r#"{"a":"1"}"#, Err(BodyError::ContentType)),
            ("text/plain", "", Ok(serde_json::json!({}))),
            ("multipart/form-data; boundary=x", "--x--", Err(BodyError::ContentType)),
            (JSON, r#"{"a":"1","a":"1"}"#, Err(BodyError::NotJson)),
            (JSON, r#"["a"]"#, Err(BodyError::NotJson)),
            (JSON, "a=1", Err(BodyError::NotJson)),
            (FORM, "a=1&a=1", Err(BodyError::NotAForm)),
            (FORM, "b=1&a=%ff", Err(BodyError::NotAForm)),
        ] {
            assert_eq!(read(content_type, body).await, expected, "{content_type} {body}");
        }
    }
}
