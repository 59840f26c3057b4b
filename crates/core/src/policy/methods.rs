//! The methods that a rule is for, as a set.

use http::Method;

use super::{Connect, pattern::Fault};

/// A set of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Methods(u16);

/// The methods that rules can name, each with the bit of its place.
const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

impl Methods {
    pub(super) const ALL: Self = Self(u16::MAX);
    /// Every method that no rule can name.
    const OTHER: Self = Self(1 << 15);

    /// Returns the method of a request. A CONNECT that opens a WebSocket over HTTP/2 counts as the GET that opens it over
    /// HTTP/1.1.
    #[inline]
    pub(super) fn of_request(method: &Method, connect: Connect) -> Self {
        match *method {
            Method::GET => Self(1),
            Method::HEAD => Self(1 << 1),
            Method::POST => Self(1 << 2),
            Method::PUT => Self(1 << 3),
            Method::DELETE => Self(1 << 4),
            Method::CONNECT if connect == Connect::WebSocket => Self(1),
            Method::CONNECT => Self(1 << 5),
            Method::OPTIONS => Self(1 << 6),
            Method::TRACE => Self(1 << 7),
            Method::PATCH => Self(1 << 8),
            _ => Self::OTHER,
        }
    }

    /// Parses what a rule says. GET stands for HEAD as well.
    pub(super) fn parse(names: Option<&[String]>) -> Result<Self, Fault> {
        let Some(names) = names else { return Ok(Self::ALL) };
        if names.is_empty() {
            return Err(Fault::of(
                "methods",
                "is empty",
                "name a method such as \"GET\", or leave it out for all methods",
            ));
        }
        let mut methods = 0;
        for name in names {
            methods |= Self::of_name(name)?;
        }
        Ok(Self(methods))
    }

    fn of_name(name: &str) -> Result<u16, Fault> {
        let Some(place) = KNOWN.iter().position(|known| known.eq_ignore_ascii_case(name.trim())) else {
            let remedy = format!("write one of {}, or leave `methods` out for all", KNOWN.join(", "));
            return Err(Fault::of("methods", format!("{name:?} is not a known method"), remedy));
        };
        if KNOWN[place] != name {
            return Err(Fault::of(
                "methods",
                format!("{name:?} is not how the method is written"),
                format!("write {}", KNOWN[place]),
            ));
        }
        Ok(if place == 0 { 0b11 } else { 1 << place })
    }

    #[inline]
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the methods that are not in `other`.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
