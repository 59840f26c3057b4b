//! The parameters of a request to the endpoints: of its URL or of its body, never of both.

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
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long nothing of it may come. A server that stops waits no longer for one that does not.
const BODY_PAUSE: Duration = Duration::from_secs(3);

/// What some editors and shells put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Where the parameters of a request stand.
pub(crate) enum Parameters<'a> {
    Url(&'a str),
    Body(Map<String, Value>),
}

impl Parameters<'_> {
    /// The value of a parameter, or `None` where it is not there.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Cow<'_, str>>, ParameterError> {
        match self {
            Self::Url(query) => query::parameter(query, name),
            Self::Body(members) => match members.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
                Some(_) => Err(ParameterError::NotAString),
            },
        }
    }

    /// As [`get`](Self::get), where an empty value is none (RFC 6749 3.2).
    pub(crate) fn given(&self, name: &str) -> Result<Option<Cow<'_, str>>, ParameterError> {
        Ok(self.get(name)?.filter(|value| !value.is_empty()))
    }

    /// Whether a parameter is there and true. JSON may say it as what it is.
    pub(crate) fn is_true(&self, name: &str) -> Result<bool, ParameterError> {
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

    /// What FastAPI calls the place.
    pub(crate) fn place(&self) -> &'static str {
        match self {
            Self::Url(_) => "query",
            Self::Body(_) => "body",
        }
    }
}

/// Why the parameters of a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadError {
    #[error("the parameters of a POST belong into its body, and its URL has some")]
    InUrl,
    #[error("the body has to be application/json or application/x-www-form-urlencoded, in UTF-8")]
    ContentType,
    #[error("the body has other characters than those of ASCII: send it in UTF-8, and say so")]
    Charset,
    #[error("the body is longer than 64 KiB")]
    TooLong,
    #[error("the body is too long for a limit of the application")]
    OverLimit,
    #[error("the body did not come within ten seconds, or paused for three")]
    TimedOut,
    #[error("the body broke off")]
    BrokeOff,
    #[error("the body is not one JSON object in which no member is there twice")]
    NotJson,
    #[error("the body is no form in UTF-8 in which no parameter is there twice")]
    NotAForm,
    #[error("the cookie of the refresh token is there more than once")]
    RepeatedCookie,
}

impl UnreadError {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong | Self::OverLimit => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// The parameters in the body of a POST. A body that is empty has none, of whatever type it says to be.
pub(crate) async fn of_body<B>(request: &Parts, body: B) -> Result<Parameters<'static>, UnreadError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if request.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(UnreadError::InUrl);
    }
    if body.is_end_stream() {
        return Ok(Parameters::Body(Map::new()));
    }
    let format = Format::of(&request.headers)?;
    let body = read(body).await?;
    if body.is_empty() {
        return Ok(Parameters::Body(Map::new()));
    }
    let Format { kind, is_ascii } = format.ok_or(UnreadError::ContentType)?;
    if is_ascii && !body.is_ascii() {
        return Err(UnreadError::Charset);
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body);
    let members = match kind {
        Kind::Json => json::object(body).map_err(|_| UnreadError::NotJson)?,
        Kind::Form => {
            let text = std::str::from_utf8(body).ok();
            text.and_then(|text| query::form(text).ok()).ok_or(UnreadError::NotAForm)?
        }
    };
    if is_ascii && kind == Kind::Form && !members.iter().all(is_ascii_member) {
        return Err(UnreadError::Charset);
    }
    Ok(Parameters::Body(members))
}

async fn read<B>(body: B) -> Result<Bytes, UnreadError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(UnreadError::TooLong);
    }
    tokio::time::timeout(BODY_TIME, collect(body)).await.unwrap_or(Err(UnreadError::TimedOut))
}

async fn collect<B>(body: B) -> Result<Bytes, UnreadError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut collected = Vec::new();
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await.map_err(|_| UnreadError::TimedOut)?;
        let Some(frame) = frame else { return Ok(collected.into()) };
        let frame = frame.map_err(|error| broken(&*error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.remaining() > MAX_BODY - collected.len() {
            return Err(UnreadError::TooLong);
        }
        collected.put(data);
    }
}

/// Why a body came to no end: a limit of the application may have cut it off, whose error may be wrapped in others.
fn broken(error: &(dyn Error + 'static)) -> UnreadError {
    let is_over = std::iter::successors(Some(error), |&error| error.source()).any(<dyn Error>::is::<LengthLimitError>);
    if is_over { UnreadError::OverLimit } else { UnreadError::BrokeOff }
}

/// How a body is written.
struct Format {
    kind: Kind,
    /// Whether its charset agrees with UTF-8 on ASCII, and on no more. What senders put beyond that is either, since many
    /// libraries name ISO-8859-1 whatever they write.
    is_ascii: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
}

impl Format {
    /// What the headers say, if they say anything.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, UnreadError> {
        let is_plain = only(headers, &CONTENT_ENCODING)?.is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        if !is_plain {
            return Err(UnreadError::ContentType);
        }
        let Some(content_type) = only(headers, &CONTENT_TYPE)? else { return Ok(None) };
        let mut parts = content_type.split(';').map(str::trim);
        let kind = match parts.next().unwrap_or_default() {
            essence if essence.eq_ignore_ascii_case("application/json") => Kind::Json,
            essence if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Kind::Form,
            _ => return Err(UnreadError::ContentType),
        };
        let charsets: Option<Vec<_>> = parts.filter_map(charset).map(is_ascii_charset).collect();
        let is_ascii = charsets.ok_or(UnreadError::ContentType)?.contains(&true);
        Ok(Some(Self { kind, is_ascii }))
    }
}

/// The charset that a parameter of a content type names, if it is one that does.
fn charset(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
}

/// Whether only the ASCII in a charset is read, or `None` if it is not read at all.
fn is_ascii_charset(name: &str) -> Option<bool> {
    let letters: String = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    match &*letters {
        "utf8" => Some(false),
        // Latin-1 and its next of kin, and ASCII, by their usual names.
        "iso88591" | "latin1" | "l1" | "windows1252" | "cp1252" | "iso885915" | "latin9" => Some(true),
        "usascii" | "ascii" | "ansix3.41968" => Some(true),
        _ => None,
    }
}

fn is_ascii_member((name, value): (&String, &Value)) -> bool {
    name.is_ascii() && value.as_str().is_none_or(str::is_ascii)
}

/// The text of a header that must not be there twice.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, UnreadError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| UnreadError::ContentType),
        (Some(_), Some(_)) => Err(UnreadError::ContentType),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Full;

    use super::*;

    async fn read(content_type: &str, body: &'static str) -> Result<Value, UnreadError> {
        let mut request = Request::new(());
        if !content_type.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        match of_body(&request.into_parts().0, Full::new(Bytes::from(body))).await? {
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
            ("", "a=1", Err(UnreadError::ContentType)),
            ("application/json; charset=utf-16", r#"{"a":"1"}"#, Err(UnreadError::ContentType)),
            ("application/json; charset=latin1", r#"{"a":"1"}"#, a()),
            ("application/json; charset=ISO_8859-1", r#"{"a":"1"}"#, a()),
            ("application/json; charset=cp1252", r#"{"a":"1"}"#, a()),
            ("application/json; charset=iso-8859-7", r#"{"a":"1"}"#, Err(UnreadError::ContentType)),
            ("application/json; charset=latin1", r#"{"a":"é"}"#, Err(UnreadError::Charset)),
            ("application/jsonp", r#"{"a":"1"}"#, Err(UnreadError::ContentType)),
            ("text/plain", "", Ok(serde_json::json!({}))),
            ("multipart/form-data; boundary=x", "--x--", Err(UnreadError::ContentType)),
            (JSON, r#"{"a":"1","a":"1"}"#, Err(UnreadError::NotJson)),
            (JSON, r#"["a"]"#, Err(UnreadError::NotJson)),
            (JSON, "a=1", Err(UnreadError::NotJson)),
            (FORM, "a=1&a=1", Err(UnreadError::NotAForm)),
            (FORM, "b=1&a=%ff", Err(UnreadError::NotAForm)),
        ] {
            assert_eq!(read(content_type, body).await, expected, "{content_type} {body}");
        }
    }
}
