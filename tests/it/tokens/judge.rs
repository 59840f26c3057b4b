//! What is to become of a token, by `jsonwebtoken::decode` and by the lists of where we differ from it.
//!
//! We accept what it accepts, unless there is a [`Strictness`] that speaks against it; and we refuse what it refuses,
//! unless a [`Leniency`] explains it. Both are found here from the text of the token alone, not from what the crate says.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use fastauth::{Claims, TokenError, TokenIssuer, TokenType};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto, decode};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// Why we refuse what `jsonwebtoken::decode` may accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strictness {
    /// The token has more than 16 KiB, or its header more than 2 KiB.
    TooLong,
    /// Header or payload is no JSON object: jsonwebtoken takes a list of claims in their order for one.
    NoObject,
    /// A member is there twice, at any depth, by whatever spelling.
    Repeated,
    /// `alg` is not the text `HS256`: jsonwebtoken takes `{"HS256":null}` for it.
    Algorithm,
    /// There is `crit` or `b64`.
    Extension,
    /// A parameter of the header is of another kind than it is defined to have: jsonwebtoken takes `null` for any.
    HeaderKind,
    /// `kid` names one of our keys and another one has signed.
    OtherKey,
    /// `exp` is over, but not when it is rounded.
    Expired,
    /// `nbf` is to come, but not when it is rounded.
    NotYetValid,
    /// `iat`, `jti`, `sub` or `iss` is of another kind than RFC 7519 has it.
    ClaimKind,
    /// `at_hash`, which python-jose refuses.
    AccessTokenHash,
    /// There is `aud`, of whatever kind, and nobody is configured.
    Audience,
    /// `client_id` is not there, empty, or no text.
    Client,
    /// `type` is not what is asked for.
    Type,
}

impl Strictness {
    pub(crate) const ALL: [Self; 14] = [
        Self::TooLong,
        Self::NoObject,
        Self::Repeated,
        Self::Algorithm,
        Self::Extension,
        Self::HeaderKind,
        Self::OtherKey,
        Self::Expired,
        Self::NotYetValid,
        Self::ClaimKind,
        Self::AccessTokenHash,
        Self::Audience,
        Self::Client,
        Self::Type,
    ];
}

/// Why we accept what `jsonwebtoken::decode` refuses. python-jose accepts all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leniency {
    /// `jwk` is an object, and no key: what may stand in it depends on the kind of the key.
    Key,
    /// `exp` is 2^64 or more.
    FarExpiry,
    /// `nbf` lies before 1970.
    EarlyStart,
}

impl Leniency {
    pub(crate) const ALL: [Self; 3] = [Self::Key, Self::FarExpiry, Self::EarlyStart];
}

/// What the crate says of a token, and where that differs from what jsonwebtoken says, why.
pub(crate) struct Verdict {
    pub(crate) ours: Result<Claims, TokenError>,
    pub(crate) strictness: Vec<Strictness>,
    pub(crate) leniency: Vec<Leniency>,
}

pub(crate) struct Judge {
    issuer: TokenIssuer,
    keys: Vec<JudgedKey>,
    validation: Validation,
}

/// A key of the ring.
pub(crate) struct JudgedKey {
    pub(crate) secret: &'static str,
    pub(crate) kid: String,
}

impl JudgedKey {
    fn decoding(&self) -> DecodingKey {
        DecodingKey::from_secret(self.secret.as_bytes()).expect("a key")
    }
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

impl Judge {
    /// Judges what an issuer says whose keys are these, and which has neither issuer nor audience configured.
    pub(crate) fn new(issuer: TokenIssuer, keys: Vec<JudgedKey>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.leeway, validation.validate_nbf) = (0, true);
        Self { issuer, keys, validation }
    }

    /// What the crate says of an access token.
    ///
    /// # Panics
    ///
    /// Where that differs from what jsonwebtoken says, and the lists do not have the reason.
    pub(crate) fn judge(&self, token: &str) -> Verdict {
        loop {
            let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let (ours, theirs) = (self.issuer.verify(token, TokenType::Access), self.decode(token));
            // Times are compared with the clock, by each of the two on its own, and ours is a tick of the kernel behind.
            if start.subsec_millis() > 50 && unix_now() == start.as_secs() {
                return self.compare(token, start.as_secs(), ours, theirs);
            }
        }
    }

    fn compare(
        &self,
        token: &str,
        now: u64,
        ours: Result<Claims, TokenError>,
        theirs: Result<Value, jsonwebtoken::errors::Error>,
    ) -> Verdict {
        let strictness = self.strictness(token, now);
        let mut verdict = Verdict { ours, strictness: Vec::new(), leniency: Vec::new() };
        match (&verdict.ours, theirs, &strictness[..]) {
            (Ok(claims), Ok(theirs), []) => same(claims, &theirs, token),
            (Ok(_), Err(error), []) => {
                verdict.leniency = self.leniency(token);
                assert!(
                    !verdict.leniency.is_empty(),
                    "accepted, though jsonwebtoken refuses it ({error}): {}",
                    Shown(token)
                );
            }
            (Ok(_), _, reasons) => panic!("accepted in spite of {reasons:?}: {}", Shown(token)),
            (Err(error), Ok(_), []) => panic!("refused ({error}), and nothing speaks against it: {}", Shown(token)),
            (Err(_), Ok(_), _) => verdict.strictness = strictness,
            (Err(_), Err(_), _) => {}
        }
        assert!(
            verdict.ours.is_err() || self.issuer.verify(token, TokenType::Refresh) == Err(TokenError::WrongType),
            "of both types: {}",
            Shown(token)
        );
        verdict
    }

    fn decode(&self, token: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let decoded = self.keys.iter().map(|key| decode::<Value>(token, &key.decoding(), &self.validation));
        decoded.reduce(Result::or).expect("there is a key").map(|decoded| decoded.claims)
    }

    fn signer(&self, token: &str) -> Option<&JudgedKey> {
        let (message, signature) = token.rsplit_once('.')?;
        let signed = |key: &&JudgedKey| {
            crypto::verify(signature, message.as_bytes(), &key.decoding(), Algorithm::HS256).unwrap_or(false)
        };
        self.keys.iter().find(signed)
    }

    fn strictness(&self, token: &str, now: u64) -> Vec<Strictness> {
        let mut found = Vec::new();
        let mut note = |reason, applies: bool| {
            if applies {
                found.push(reason);
            }
        };
        note(Strictness::TooLong, token.len() > 16 * 1024 || token.find('.').is_some_and(|dot| dot > 2 * 1024));
        let (header, payload) = trees(token);
        let (Some(header), Some(payload)) = (header, payload) else {
            note(Strictness::NoObject, true);
            return found;
        };
        note(Strictness::Repeated, header.repeats() || payload.repeats());
        note(Strictness::Algorithm, header.text("alg") != Some("HS256"));
        note(Strictness::Extension, header.has("crit") || header.has("b64"));
        note(Strictness::HeaderKind, !header.members().iter().all(|(name, value)| is_typed(name, value)));
        let named = header.text("kid").and_then(|kid| self.keys.iter().find(|key| key.kid == kid));
        let signer = self.signer(token).map(|key| &key.kid);
        note(Strictness::OtherKey, named.is_some_and(|named| Some(&named.kid) != signer));
        note(Strictness::Expired, payload.number("exp").is_some_and(|exp| exp.floor() < now as f64));
        note(Strictness::NotYetValid, payload.number("nbf").is_some_and(|nbf| nbf > now as f64));
        let is_kind = |name, is_kind: fn(&Tree) -> bool| payload.get(name).is_none_or(is_kind);
        let is_text = |tree: &Tree| matches!(tree, Tree::Text(_));
        let is_number = |tree: &Tree| matches!(tree, Tree::Number(_));
        let are_texts = ["jti", "sub", "iss"].into_iter().all(|name| is_kind(name, is_text));
        let are_kinds = is_kind("iat", is_number) && are_texts;
        note(Strictness::ClaimKind, !are_kinds);
        note(Strictness::AccessTokenHash, payload.has("at_hash"));
        note(Strictness::Audience, payload.has("aud"));
        note(Strictness::Client, payload.text("client_id").is_none_or(str::is_empty));
        note(Strictness::Type, payload.text("type") != Some("access"));
        found
    }

    /// What jsonwebtoken may refuse a token for, if that is all that it has against it.
    fn leniency(&self, token: &str) -> Vec<Leniency> {
        let (Some(Tree::Object(mut header)), Some(Tree::Object(mut payload))) = trees(token) else { return Vec::new() };
        let Some(signer) = self.signer(token) else { return Vec::new() };
        let mut found = Vec::new();
        let all = header.len();
        header.retain(|(name, _)| name != "jwk");
        if header.len() < all {
            found.push(Leniency::Key);
        }
        for (name, value) in &mut payload {
            let Tree::Number(number) = value else { continue };
            let seconds = number.as_f64().unwrap_or_default();
            match &**name {
                "exp" if seconds >= 2f64.powi(64) => {
                    found.push(Leniency::FarExpiry);
                    *number = u64::MAX.into();
                }
                "nbf" if seconds < 0.0 => {
                    found.push(Leniency::EarlyStart);
                    *number = 0.into();
                }
                _ => {}
            }
        }
        let part = |members| BASE64URL.encode(Tree::Object(members).value().to_string());
        let message = format!("{}.{}", part(header), part(payload));
        let key = EncodingKey::from_secret(signer.secret.as_bytes()).expect("a key");
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
        if self.decode(&format!("{message}.{signature}")).is_ok() { found } else { Vec::new() }
    }
}

fn same(claims: &Claims, theirs: &Value, token: &str) {
    let token = Shown(token);
    assert_eq!(Value::Object(claims.as_object().clone()), *theirs, "{token}");
    assert_eq!(Some(claims.client_id()), theirs["client_id"].as_str(), "{token}");
    assert_eq!(Some(claims.token_type().as_str()), theirs["type"].as_str(), "{token}");
    let exp = theirs["exp"].as_f64().expect("a number").floor();
    // Beyond 2^53 a number of seconds may be told as the nearest that a float can hold.
    let whole = theirs["exp"].as_u64().unwrap_or(exp as u64);
    assert!([whole, exp as u64].contains(&claims.expires_at()), "{} is not {exp}: {token}", claims.expires_at());
}

/// Whether a parameter of the header is of the kind that the RFCs have it.
fn is_typed(name: &str, value: &Tree) -> bool {
    let are_texts = |value: &Tree| match value {
        Tree::List(items) => items.iter().all(|item| matches!(item, Tree::Text(_))),
        _ => false,
    };
    let is_empty = matches!(value, Tree::List(items) if items.is_empty());
    match name {
        "typ" | "cty" | "jku" | "kid" | "x5u" | "x5t" | "x5t#S256" | "enc" | "zip" | "url" | "nonce" | "iss"
        | "sub" => {
            matches!(value, Tree::Text(_))
        }
        "aud" => matches!(value, Tree::Text(_)) || are_texts(value),
        "x5c" => are_texts(value) && !is_empty,
        "jwk" => matches!(value, Tree::Object(_)),
        _ => true,
    }
}

/// Header and payload, where they are objects.
fn trees(token: &str) -> (Option<Tree>, Option<Tree>) {
    let mut parts = token.split('.');
    let mut tree = || {
        let text = BASE64URL.decode(parts.next()?).ok()?;
        serde_json::from_slice(&text).ok().filter(|tree| matches!(tree, Tree::Object(_)))
    };
    (tree(), tree())
}

/// JSON with all that stands in it, members that are there twice as well.
#[derive(Clone)]
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn members(&self) -> &[(String, Tree)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    fn get(&self, name: &str) -> Option<&Tree> {
        self.members().iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn text(&self, name: &str) -> Option<&str> {
        if let Some(Self::Text(text)) = self.get(name) { Some(text) } else { None }
    }

    fn number(&self, name: &str) -> Option<f64> {
        if let Some(Self::Number(number)) = self.get(name) { number.as_f64() } else { None }
    }

    fn repeats(&self) -> bool {
        match self {
            Self::List(items) => items.iter().any(Self::repeats),
            Self::Object(members) => members
                .iter()
                .enumerate()
                .any(|(at, (name, value))| value.repeats() || members[..at].iter().any(|(other, _)| other == name)),
            _ => false,
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => text.into(),
            Self::List(items) => items.into_iter().map(Self::value).collect(),
            Self::Object(members) => members.into_iter().map(|(name, value)| (name, value.value())).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value).map(Tree::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Tree::Object(object))
    }
}

/// A token for a message, with what its first two parts say.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        for part in self.0.split('.').take(2) {
            let text = BASE64URL.decode(part).unwrap_or_default();
            write!(f, "\n  {}", String::from_utf8_lossy(&text).escape_debug())?;
        }
        Ok(())
    }
}
