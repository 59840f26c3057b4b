//! What a token says and whether it is ours: minting, and verifying strictly.
//!
//! Tokens are compact JWS (RFC 7515) with HS256, as `fastauth-api` makes them with python-jose. jsonwebtoken signs, and
//! the hmac crate checks signatures, which is a third faster; that they agree each key proves when it is made. What surrounds
//! that is read here, since a lenient reader of tokens is an opening: `crit` is obeyed (by refusing it), no member may be
//! repeated, base64url is canonical, and times have no leeway.

use std::{sync::OnceLock, time::Duration};

use base64_simd::{AsOut, URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::aws_lc::DEFAULT_PROVIDER as AWS_LC};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::{
    json::{self, Member},
    secret::Secret,
    store::{TokenDigest, TokenEntry, TokenRecord},
};

/// What a key signs to make its id. No token's signed part is like it: that has a dot.
const KID_MESSAGE: &[u8] = b"fastauth key id";
/// How many bytes of that signature the id is: two keys do not share it by chance.
const KID_LEN: usize = 9;

/// More renewals than a family can have.
const MAX_GENERATION: u64 = u32::MAX as u64;

/// Bytes of a token that are looked at. Ids of 256 characters, written as python-jose writes them, stay well below.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Characters of an encoded header that are looked at.
const MAX_HEADER_LEN: usize = 2 * 1024;

/// Bytes of a payload that are decoded on the stack: twice what our own have with short names.
const USUAL_PAYLOAD: usize = 384;

/// Characters of the signature of HS256.
const SIGNATURE_LEN: usize = 43;

/// What a token is for: the claim `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Opens the paths of `access-token-paths`.
    Access,
    /// Is exchanged for a new pair.
    Refresh,
}

impl TokenType {
    /// The claim's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

/// The claims of a token whose signature, times and type were found good.
///
/// They are kept as the token has them, and read as a whole only when that is asked for.
#[derive(Clone)]
pub struct Claims {
    /// The token, the client's id and the family, end to end: there are many of these in a cache.
    text: Secret,
    token_len: u32,
    client_id_len: u32,
    generation: Option<u64>,
    expires_at: u64,
    token_type: TokenType,
    members: OnceLock<Box<Map<String, Value>>>,
}

impl Claims {
    /// Whom the token was issued to: the claim `client_id`, never empty.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.names()[..self.client_id_len as usize]
    }

    /// The claim `type`.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The last second in which the token is valid, since the Unix epoch: the claim `exp` in whole seconds.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// The log-in that the token comes from, and how many times it was renewed: the claims `fam` and `gen`. Tokens of
    /// `fastauth-api` name none.
    #[must_use]
    pub fn family(&self) -> Option<(&str, u64)> {
        self.generation.map(|generation| (&self.names()[self.client_id_len as usize..], generation))
    }

    /// What the token may be used for: the claim `scope`, split at its spaces (RFC 8693 4.2).
    pub fn scope(&self) -> impl Iterator<Item = &str> {
        let scope = self.get("scope").and_then(Value::as_str).unwrap_or_default();
        scope.split(' ').filter(|name| !name.is_empty())
    }

    /// The texts in the claim `roles` (RFC 9068 2.2.3.1).
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let roles = self.get("roles").and_then(Value::as_array);
        roles.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The claims as a type of your own.
    ///
    /// # Errors
    ///
    /// Where the token does not have what the type asks for.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.as_object().clone()))
    }

    /// Any claim by its name, as the token has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object().get(name)
    }

    /// The claims that are the application's.
    pub fn own_claims(&self) -> Map<String, Value> {
        let own = self.as_object().iter().filter(|(name, _)| !is_reserved(name));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// All claims, as the token has them.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        let read = || {
            let parts = Parts::split(self.token()).ok();
            let members =
                parts.and_then(|parts| decode(parts.payload).ok()).and_then(|payload| json::object(&payload).ok());
            // It was read before, or there would be no claims.
            Box::new(members.unwrap_or_default())
        };
        self.members.get_or_init(read)
    }

    /// The token that says so.
    pub fn token(&self) -> &[u8] {
        &self.text.expose().as_bytes()[..self.token_len as usize]
    }

    fn names(&self) -> &str {
        &self.text.expose()[self.token_len as usize..]
    }
}

impl PartialEq for Claims {
    /// Whether they are those of the same token.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Claims {
    /// Shows the claims that FastAuth knows; an application's own may be private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims")
            .field("client_id", &self.client_id())
            .field("token_type", &self.token_type)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a token was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not three parts of base64url, or too long, or its header or payload is not a JSON object, or a parameter of the
    /// header is of another kind than it has to be.
    #[error("not a token")]
    Malformed,
    /// Its `alg` is not HS256.
    #[error("the algorithm is not HS256")]
    UnsupportedAlgorithm,
    /// It has a `crit` header: there is no extension that it could name (RFC 7515 4.1.11).
    #[error("the token asks for an extension that is not known")]
    UnsupportedExtension,
    /// It was signed by another key, or changed.
    #[error("the signature does not match")]
    InvalidSignature,
    /// `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The claim named is missing, of the wrong kind, or must not be there.
    #[error("the claim `{0}` is missing or not usable")]
    InvalidClaim(&'static str),
    /// There is no `client_id`, or an empty one.
    #[error("the token names no client")]
    MissingClientId,
    /// It is a refresh token where an access token is asked for, or the other way round.
    #[error("the token is of another type")]
    WrongType,
}

/// A token to be made.
pub struct NewToken<'a> {
    pub client_id: &'a str,
    pub token_type: TokenType,
    /// Since the Unix epoch.
    pub issued_at: u64,
    pub lifetime: Duration,
    pub family: &'a str,
    pub generation: u64,
    pub issuer: Option<&'a str>,
    pub audience: Option<&'a str>,
    /// The application's own claims, none of which is a [reserved](is_reserved) one.
    pub claims: &'a Map<String, Value>,
}

impl<'a> NewToken<'a> {
    /// Creates a token without anything optional.
    #[must_use]
    pub fn plain(client_id: &'a str, token_type: TokenType, issued_at: u64, lifetime: Duration) -> Self {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let (family, generation) = ("", 0);
        Self {
            client_id,
            token_type,
            issued_at,
            lifetime,
            family,
            generation,
            issuer: None,
            audience: None,
            claims: &NONE,
        }
    }
}

/// Creates claims that no token has, for the tests of what holds claims.
#[cfg(any(test, feature = "test-claims"))]
#[doc(hidden)]
#[must_use]
pub fn test_claims(client_id: &str, expires_at: u64, token: &str) -> Claims {
    let token_type = TokenType::Access;
    Checked { client_id, family: None, expires_at, token_type }.of(token)
}

#[cfg(test)]
impl TokenKey {
    /// A token that names another key than the one that signs it.
    pub fn sign_under(&self, kid: &str, token: &NewToken<'_>) -> Option<Secret> {
        self.mint_under(&encoded_header(kid), token)
    }
}

/// A name that nothing else has: some 120 random bits, as short as text can be, in letters and digits: one that began with
/// `-` would be an option on a command line.
pub fn unique_name() -> String {
    BASE64URL.encode_to_string(uuid::Uuid::new_v4().as_bytes()).replace(['-', '_'], "0")
}

/// Whether a claim is one that FastAuth sets, or that no token may have.
pub fn is_reserved(claim: &str) -> bool {
    const RESERVED: [&str; 11] =
        ["client_id", "type", "exp", "iat", "nbf", "jti", "fam", "gen", "iss", "aud", "at_hash"];
    RESERVED.contains(&claim)
}

/// What a token has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub token_type: TokenType,
    /// Since the Unix epoch.
    pub now: u64,
    /// Who must have issued it, where that matters.
    pub issuer: Option<&'a str>,
    /// Whom it must be meant for. Without one, no token may name an audience (RFC 7519 4.1.3).
    pub audience: Option<&'a str>,
}

impl Expected<'_> {
    pub const fn of(token_type: TokenType, now: u64) -> Self {
        Self { token_type, now, issuer: None, audience: None }
    }
}

/// A key that signs and verifies: the UTF-8 bytes of the configured text, which is never decoded.
pub struct TokenKey {
    signing: EncodingKey,
    verifying: Hmac<Sha256>,
    kid: String,
    /// The header of the tokens that it signs, encoded.
    header: String,
}

/// Signing or verifying does not work in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing and verifying a test token failed")]
pub struct SelfTestError;

impl TokenKey {
    /// Takes the key and proves that tokens can be signed and verified with it.
    pub fn new(key: &Secret) -> Result<Self, SelfTestError> {
        let bytes = key.expose().as_bytes();
        let signing = EncodingKey::from_secret(bytes);
        let verifying = Hmac::new_from_slice(bytes).map_err(|_| SelfTestError)?;
        let mut this = Self { signing, verifying, kid: String::new(), header: String::new() };
        this.self_test()?;
        // Letters and digits alone: on a command line, an id must not look like an option.
        this.kid = BASE64URL
            .encode_to_string(&this.sign(KID_MESSAGE).ok_or(SelfTestError)?[..KID_LEN])
            .replace(['-', '_'], "0");
        this.header = encoded_header(&this.kid);
        Ok(this)
    }

    /// Tells this key from others, and gives nothing of it away that a token does not.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The parts of a token that has the very header that this key writes, and whatever behind it.
    pub fn split<'a>(&self, token: &'a [u8]) -> Option<Result<Parts<'a>, TokenError>> {
        let rest = token.strip_prefix(self.header.as_bytes())?;
        rest.starts_with(b".").then(|| Parts::behind_header(token, self.header.len()))
    }

    /// Another key, in the form of Fernet's, which gives nothing of this one away.
    pub fn derive(&self, purpose: &[u8]) -> Result<Secret, SelfTestError> {
        let derived = self.sign(purpose).ok_or(SelfTestError)?;
        Ok(Secret::from(base64_simd::URL_SAFE.encode_to_string(derived)))
    }

    fn self_test(&self) -> Result<(), SelfTestError> {
        let signature = self.sign(b"test").ok_or(SelfTestError)?;
        let signature = BASE64URL.encode_to_string(signature);
        let works = |message| self.signed(message, signature.as_bytes());
        let both = (works(b"test"), works(b"Test"));
        (both == (Ok(true), Ok(false))).then_some(()).ok_or(SelfTestError)
    }

    /// Makes a token. `jti` makes two of the same second differ.
    pub fn mint(&self, token: &NewToken<'_>) -> Option<Secret> {
        self.mint_under(&self.header, token)
    }

    fn mint_under(&self, header: &str, new: &NewToken<'_>) -> Option<Secret> {
        let payload = serde_json::to_vec(&Payload {
            client_id: new.client_id,
            r#type: new.token_type.as_str(),
            exp: new.issued_at.checked_add(new.lifetime.as_secs())?,
            iat: new.issued_at,
            jti: &unique_name(),
            fam: new.family,
            gen_: new.generation,
            iss: new.issuer,
            aud: new.audience,
            claims: new.claims,
        })
        .ok()?;
        self.sign_under_header(header, &payload)
    }

    fn sign_under_header(&self, header: &str, payload: &[u8]) -> Option<Secret> {
        let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 48);
        token.push_str(header);
        token.push('.');
        BASE64URL.encode_append(payload, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_append(signature, &mut token);
        Some(Secret::from(token))
    }

    /// The claims of a token, if this key signed it and it is as `expected`.
    ///
    /// Nothing of the payload is read before the signature has been found good.
    pub fn verify(&self, parts: &Parts<'_>, expected: &Expected<'_>) -> Result<Claims, TokenError> {
        self.check_signature(parts)?;
        // Room for what ours take, without a call of the allocator.
        let (mut array, mut vec) = ([0; USUAL_PAYLOAD], Vec::new());
        let len = BASE64URL.decoded_length(parts.payload).map_err(not_base64url)?;
        let buffer = if len <= array.len() {
            &mut array[..]
        } else {
            vec.resize(len, 0);
            &mut vec
        };
        let payload = BASE64URL.decode(parts.payload, buffer.as_out()).map_err(not_base64url)?;
        let known = Known::read(payload)?;
        let claims = check_claims(&known, expected)?;
        // Only now: a forged token is not to cost a look at each of its bytes for this.
        Ok(claims.of(std::str::from_utf8(parts.token).map_err(|_| TokenError::Malformed)?))
    }

    pub fn has_signed(&self, parts: &Parts<'_>) -> bool {
        self.check_signature(parts).is_ok()
    }

    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let is_signed = self.signed(parts.signed, parts.signature)?;
        is_signed.then_some(()).ok_or(TokenError::InvalidSignature)
    }

    // The provider is named, not taken from jsonwebtoken's process-wide default: that one panics where some other
    // crate of the application has switched on a second backend.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        (AWS_LC.signer_factory)(&Algorithm::HS256, &self.signing).ok()?.try_sign(message).ok()
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> Result<bool, TokenError> {
        let mut decoded = [0; SIGNATURE_LEN * 3 / 4];
        if signature.len() != SIGNATURE_LEN {
            // What is no text of base64url is no token; else it is no signature of HS256.
            return decode(signature).map(|_| false);
        }
        let decoded = BASE64URL.decode(signature, decoded[..].as_out()).map_err(not_base64url)?;
        Ok(self.verifying.clone().chain_update(message).verify_slice(decoded).is_ok())
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

fn encoded_header(kid: &str) -> String {
    BASE64URL.encode_to_string(format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{kid}"}}"#))
}

/// In the order in which python-jose's callers at `fastauth-api` write them, and then what is ours.
#[derive(Serialize)]
struct Payload<'a> {
    client_id: &'a str,
    r#type: &'static str,
    exp: u64,
    iat: u64,
    jti: &'a str,
    fam: &'a str,
    #[serde(rename = "gen")]
    gen_: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(flatten)]
    claims: &'a Map<String, Value>,
}

/// What a store may know of a pair that somebody else has it hold. Nothing is verified: who writes to a store is trusted with it.
pub fn unverified_record(client_id: String, access: Secret, refresh: Secret) -> TokenRecord {
    let claims = |token: &Secret| {
        let parts = Parts::split(token.expose().as_bytes()).ok()?;
        json::object(&decode(parts.payload).ok()?).ok()
    };
    let of_refresh = claims(&refresh).unwrap_or_default();
    let kid = || Parts::split(refresh.expose().as_bytes()).ok()?.kid().ok()?;
    let ends = |claims: Map<String, Value>| claims.get("exp").and_then(Value::as_f64).map_or(0, |exp| exp as u64);
    TokenRecord {
        family: of_refresh.get("fam").and_then(Value::as_str).unwrap_or_default().to_owned(),
        generation: of_refresh
            .get("gen")
            .and_then(Value::as_u64)
            .filter(|number| *number <= MAX_GENERATION)
            .unwrap_or_default(),
        kid: kid().unwrap_or_default(),
        access: TokenEntry {
            digest: TokenDigest::of(access.expose()),
            expires_at: ends(claims(&access).unwrap_or_default()),
            text: access,
        },
        refresh: TokenEntry { digest: TokenDigest::of(refresh.expose()), expires_at: ends(of_refresh), text: refresh },
        client_id,
    }
}

/// The parts of a token. None of them has been checked.
pub struct Parts<'a> {
    token: &'a [u8],
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
    /// Header and payload with the dot between them.
    signed: &'a [u8],
}

impl<'a> Parts<'a> {
    pub fn split(token: &'a [u8]) -> Result<Self, TokenError> {
        let header_len = token.iter().position(|byte| *byte == b'.').ok_or(TokenError::Malformed)?;
        Self::behind_header(token, header_len)
    }

    /// The parts of a token whose header is known to end there, with a dot behind it.
    fn behind_header(token: &'a [u8], header_len: usize) -> Result<Self, TokenError> {
        let (header, rest) = token.split_at(header_len);
        if token.len() > MAX_TOKEN_LEN || rest.chunks(128).map(dots).sum::<usize>() != 2 {
            return Err(TokenError::Malformed);
        }
        // Where the other dot is, if the signature is one.
        let usual = token.len().checked_sub(SIGNATURE_LEN + 1).filter(|at| *at > header_len && token[*at] == b'.');
        let signed_len = usual.or_else(|| token.iter().rposition(|byte| *byte == b'.')).ok_or(TokenError::Malformed)?;
        let (signed, signature) = (&token[..signed_len], &token[signed_len + 1..]);
        Ok(Self { token, header, payload: &signed[header_len + 1..], signature, signed })
    }

    /// Checks the header, and gives the id of the key that it names.
    pub fn kid(&self) -> Result<Option<String>, TokenError> {
        // Nothing is known of who wrote it yet, and ours have some sixty characters.
        if self.header.len() > MAX_HEADER_LEN {
            return Err(TokenError::Malformed);
        }
        let header = decode(self.header)?;
        let members = json::members(&header).map_err(|_| TokenError::Malformed)?;
        if members.text("alg") != Some("HS256") {
            return Err(TokenError::UnsupportedAlgorithm);
        }
        // `b64` changes what is signed (RFC 7797) and is only legal with a `crit` that names it.
        if members.get("crit").is_some() || members.get("b64").is_some() {
            return Err(TokenError::UnsupportedExtension);
        }
        if !members.iter().all(|(name, value)| is_parameter(name, value)) {
            return Err(TokenError::Malformed);
        }
        Ok(members.text("kid").map(str::to_owned))
    }
}

/// Whether a parameter of a header is of the kind that it is defined to have, used here or not: RFC 7515 4.1, RFC 7516 4.1,
/// RFC 7519 5.3 and RFC 8555 6.
fn is_parameter(name: &str, value: &Member<'_>) -> bool {
    let is_text = value.as_str().is_some();
    let texts = match value {
        Member::Other(Value::Array(items)) if items.iter().all(Value::is_string) => Some(items.len()),
        _ => None,
    };
    match name {
        "typ" | "cty" | "kid" | "jku" | "x5u" | "x5t" | "x5t#S256" | "enc" | "zip" | "url" | "nonce" | "iss"
        | "sub" => is_text,
        "aud" => is_text || texts.is_some(),
        "x5c" => texts.is_some_and(|count| count > 0),
        "jwk" => matches!(value, Member::Other(Value::Object(_))),
        _ => true,
    }
}

/// How many dots there are in no more than 255 bytes. It compiles to a few vector instructions.
#[inline(never)]
fn dots(bytes: &[u8]) -> usize {
    usize::from(bytes.iter().fold(0, |dots: u8, byte| dots.wrapping_add(u8::from(*byte == b'.'))))
}

fn decode(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    BASE64URL.decode_to_vec(part).map_err(not_base64url)
}

fn not_base64url(_: base64_simd::Error) -> TokenError {
    TokenError::Malformed
}

/// What the guards need of a payload that was found good.
struct Checked<'a> {
    client_id: &'a str,
    family: Option<(&'a str, u64)>,
    expires_at: u64,
    token_type: TokenType,
}

impl Checked<'_> {
    fn of(self, token: &str) -> Claims {
        let Self { client_id, family, expires_at, token_type } = self;
        Claims {
            text: Secret::from([token, client_id, family.map_or("", |(family, _)| family)].concat()),
            // No token is longer than `MAX_TOKEN_LEN`.
            token_len: token.len() as u32,
            client_id_len: client_id.len() as u32,
            generation: family.map(|(_, generation)| generation),
            expires_at,
            token_type,
            members: OnceLock::new(),
        }
    }
}

/// The claims that are looked at, as they stand in the payload.
#[derive(Default)]
struct Known<'a> {
    exp: Option<Member<'a>>,
    nbf: Option<Member<'a>>,
    iat: Option<Member<'a>>,
    jti: Option<Member<'a>>,
    sub: Option<Member<'a>>,
    at_hash: Option<Member<'a>>,
    iss: Option<Member<'a>>,
    aud: Option<Member<'a>>,
    client_id: Option<Member<'a>>,
    r#type: Option<Member<'a>>,
    fam: Option<Member<'a>>,
    gen_: Option<Member<'a>>,
}

impl<'a> Known<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, TokenError> {
        if let Some(known) = Self::read_plain(payload) {
            return Ok(known);
        }
        let mut known = Self::default();
        for (name, claim) in json::members(payload).map_err(|_| TokenError::Malformed)? {
            if let Some(place) = known.place(&name) {
                *place = Some(claim);
            }
        }
        Ok(known)
    }

    /// `None` where there is anything out of the ordinary in the payload, a repeated member among it.
    fn read_plain(payload: &'a [u8]) -> Option<Self> {
        let (mut known, mut others) = (Self::default(), Vec::new());
        json::plain_members(payload, |name, claim| match known.place(name) {
            Some(place) if place.is_none() => {
                *place = Some(claim);
                Some(())
            }
            None if !others.contains(&name) => {
                others.push(name);
                Some(())
            }
            _ => None,
        })?;
        Some(known)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<Member<'a>>> {
        Some(match name {
            "exp" => &mut self.exp,
            "nbf" => &mut self.nbf,
            "iat" => &mut self.iat,
            "jti" => &mut self.jti,
            "sub" => &mut self.sub,
            "at_hash" => &mut self.at_hash,
            "iss" => &mut self.iss,
            "aud" => &mut self.aud,
            "client_id" => &mut self.client_id,
            "type" => &mut self.r#type,
            "fam" => &mut self.fam,
            "gen" => &mut self.gen_,
            _ => return None,
        })
    }
}

fn check_claims<'a>(claims: &'a Known<'_>, expected: &Expected<'_>) -> Result<Checked<'a>, TokenError> {
    let now = expected.now as f64;
    let expires_at = seconds(claims.exp.as_ref(), "exp")?.ok_or(TokenError::InvalidClaim("exp"))?.floor();
    if expires_at < now {
        return Err(TokenError::Expired);
    }
    if seconds(claims.nbf.as_ref(), "nbf")?.is_some_and(|not_before| not_before > now) {
        return Err(TokenError::NotYetValid);
    }
    seconds(claims.iat.as_ref(), "iat")?;
    for (name, claim) in [("jti", &claims.jti), ("sub", &claims.sub), ("iss", &claims.iss)] {
        if claim.as_ref().is_some_and(|claim| claim.as_str().is_none()) {
            return Err(TokenError::InvalidClaim(name));
        }
    }
    // python-jose refuses it as well.
    if claims.at_hash.is_some() {
        return Err(TokenError::InvalidClaim("at_hash"));
    }
    check_issuer(claims.iss.as_ref(), expected.issuer)?;
    check_audience(claims.aud.as_ref(), expected.audience)?;
    let client_id = match &claims.client_id {
        None => return Err(TokenError::MissingClientId),
        Some(Member::Text(id)) if id.is_empty() => return Err(TokenError::MissingClientId),
        Some(Member::Text(id)) => &**id,
        Some(_) => return Err(TokenError::InvalidClaim("client_id")),
    };
    if claims.r#type.as_ref().and_then(Member::as_str) != Some(expected.token_type.as_str()) {
        return Err(TokenError::WrongType);
    }
    let family = || Some((claims.fam.as_ref()?.as_str()?, claims.gen_.as_ref()?.as_u64()?));
    Ok(Checked { client_id, family: family(), expires_at: expires_at as u64, token_type: expected.token_type })
}

fn check_issuer(issuer: Option<&Member<'_>>, expected: Option<&str>) -> Result<(), TokenError> {
    let is_right = expected.is_none() || issuer.and_then(Member::as_str) == expected;
    is_right.then_some(()).ok_or(TokenError::InvalidClaim("iss"))
}

/// One text, or a list of them (RFC 7519 4.1.3).
fn check_audience(audience: Option<&Member<'_>>, expected: Option<&str>) -> Result<(), TokenError> {
    let is_right = match (audience, expected) {
        (None, None) => true,
        (Some(Member::Text(audience)), Some(expected)) => audience == expected,
        (Some(Member::Other(Value::Array(audiences))), Some(expected)) => audiences.iter().any(|one| one == expected),
        _ => false,
    };
    is_right.then_some(()).ok_or(TokenError::InvalidClaim("aud"))
}

/// A NumericDate, which may be a fraction (RFC 7519 2).
fn seconds(claim: Option<&Member<'_>>, name: &'static str) -> Result<Option<f64>, TokenError> {
    match claim {
        None => Ok(None),
        Some(claim) => claim.as_f64().map(Some).ok_or(TokenError::InvalidClaim(name)),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const GOOD: &str = r#"{"client_id":"c","type":"access","exp":1800000600,"iat":1800000000}"#;
    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn key() -> TokenKey {
        TokenKey::new(&Secret::from("a key of at least thirty-two bytes")).unwrap()
    }

    /// A token with a good signature over whatever stands in it.
    fn signed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", BASE64URL.encode_to_string(header), BASE64URL.encode_to_string(payload));
        let signature = BASE64URL.encode_to_string(key().sign(message.as_bytes()).unwrap());
        format!("{message}.{signature}")
    }

    fn verify(token: &str) -> Result<Claims, TokenError> {
        verify_with(&key(), token, &Expected::of(TokenType::Access, NOW))
    }

    fn verify_with(key: &TokenKey, token: &str, expected: &Expected<'_>) -> Result<Claims, TokenError> {
        let parts = Parts::split(token.as_bytes())?;
        parts.kid()?;
        key.verify(&parts, expected)
    }

    fn new_token(client_id: &str, token_type: TokenType) -> NewToken<'_> {
        let mut token = NewToken::plain(client_id, token_type, NOW, Duration::from_secs(600));
        (token.family, token.generation) = ("f", 3);
        token
    }

    /// The good payload with `"name":value` added, or put in the place of the member of that name.
    fn with(name: &str, value: &str) -> String {
        let mut members: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
        members.remove(name);
        let rest = serde_json::to_string(&members).unwrap();
        format!(r#"{{"{name}":{value},{}"#, &rest[1..])
    }

    proptest! {
        /// So strict, and whatever the processor has for it.
        #[test]
        fn a_part_decodes_as_another_library_decodes_it(text in "[A-Za-z0-9_-]{0,200}[-_AQgw09+/=.é ]{0,3}") {
            prop_assert_eq!(decode(text.as_bytes()).ok(), URL_SAFE_NO_PAD.decode(&text).ok());
        }

        #[test]
        fn what_another_library_encodes_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()), Ok(bytes));
        }
    }

    #[test]
    fn ends_are_those_of_another_library() {
        const CHARACTERS: &[u8] = b"ABQgwxyz09-_+/=.";
        // Before them nothing, four characters, and as many as are looked at in one vector.
        for text in ["", "AAAA", &"A".repeat(64)] {
            for a in CHARACTERS {
                for b in CHARACTERS {
                    for end in [&[*a][..], &[*a, *b], &[b'A', *a, *b], &[b'A', b'A', *a, *b]] {
                        let text = format!("{text}{}", std::str::from_utf8(end).unwrap());
                        assert_eq!(decode(text.as_bytes()).ok(), URL_SAFE_NO_PAD.decode(&text).ok(), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn minted_tokens_are_verified() {
        let token = key().mint(&new_token("élève", TokenType::Access)).unwrap();
        let claims = verify(token.expose()).unwrap();
        assert_eq!(claims.client_id(), "élève");
        assert_eq!(claims.token_type(), TokenType::Access);
        assert_eq!(claims.expires_at(), NOW + 600);
        assert_eq!(claims.get("iat"), Some(&Value::from(NOW)));
        assert_eq!(claims.family(), Some(("f", 3)));
        let header = BASE64URL.decode_to_vec(token.expose().split('.').next().unwrap()).unwrap();
        assert_eq!(header, format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#, key().kid()).as_bytes());
    }

    #[test]
    fn two_tokens_of_one_second_differ() {
        let mint = || key().mint(&new_token("c", TokenType::Refresh)).unwrap();
        assert_ne!(mint(), mint());
    }

    #[test]
    fn tokens_of_python_jose_are_read() {
        let wire: Value = serde_json::from_str(include_str!("../../../tests/fixtures/transcript.json")).unwrap();
        let samples = &wire["samples"];
        let key = TokenKey::new(&Secret::from(samples["cryptography_key"].as_str().unwrap())).unwrap();
        for sample in samples["tokens"].as_array().unwrap() {
            let expected = if sample["claims"]["type"] == "access" { TokenType::Access } else { TokenType::Refresh };
            let claims = verify_with(&key, sample["token"].as_str().unwrap(), &Expected::of(expected, NOW)).unwrap();
            assert_eq!(Value::Object(claims.as_object().clone()), sample["claims"], "{}", sample["name"]);
        }
    }

    #[test]
    fn whatever_may_differ_is_accepted() {
        let table: [(&str, &str, String); 15] = [
            ("as ours", HS256, GOOD.to_owned()),
            ("order and white space", "{ \"typ\" : \"JWT\", \n\"alg\" : \"HS256\" }", GOOD.replace(':', " :\t")),
            ("escapes", HS256, with("client_id", r#""\u0063""#)),
            ("no typ", r#"{"alg":"HS256"}"#, GOOD.to_owned()),
            ("unknown kid", r#"{"alg":"HS256","kid":"other"}"#, GOOD.to_owned()),
            ("exp now", HS256, with("exp", "1800000000")),
            ("exp in a fraction", HS256, with("exp", "1800000000.5")),
            ("exp with an exponent", HS256, with("exp", "1.8000006e9")),
            ("exp far away", HS256, with("exp", "1e300")),
            ("nbf now", HS256, with("nbf", "1800000000")),
            ("iat in a fraction", HS256, with("iat", "1799999999.9")),
            ("iat to come", HS256, with("iat", "1800000500")),
            ("sub and jti", HS256, with("sub", r#""s","jti":"j""#)),
            ("others", HS256, with("roles", r#"["a",{"b":null}]"#)),
            ("iss", HS256, with("iss", r#""anyone""#)),
        ];
        for (name, header, payload) in table {
            assert_eq!(
                verify(&signed(header, payload)).map(|claims| claims.client_id().to_owned()),
                Ok("c".to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        use TokenError::{Malformed, UnsupportedAlgorithm, UnsupportedExtension};
        let table: [(&[u8], TokenError); 20] = [
            (br#"{"typ":"JWT"}"#, UnsupportedAlgorithm),
            (br#"{"alg":"none"}"#, UnsupportedAlgorithm),
            (br#"{"alg":"hs256"}"#, UnsupportedAlgorithm),
            (br#"{"alg":"HS256 "}"#, UnsupportedAlgorithm),
            (br#"{"alg":"HS384"}"#, UnsupportedAlgorithm),
            (br#"{"alg":"RS256"}"#, UnsupportedAlgorithm),
            (br#"{"alg":["HS256"]}"#, UnsupportedAlgorithm),
            (br#"{"alg":null}"#, UnsupportedAlgorithm),
            (br#"{"alg":"HS256","alg":"none"}"#, Malformed),
            (br#"{"alg":"none","alg":"HS256"}"#, Malformed),
            (br#"{"alg":"HS256","\u0061lg":"HS256"}"#, Malformed),
            (br#"{"alg":"HS256","crit":["exp"]}"#, UnsupportedExtension),
            (br#"{"alg":"HS256","crit":[]}"#, UnsupportedExtension),
            (br#"{"alg":"HS256","crit":null}"#, UnsupportedExtension),
            (br#"{"alg":"HS256","b64":false}"#, UnsupportedExtension),
            (br#"["HS256"]"#, Malformed),
            (br#""HS256""#, Malformed),
            (br#"{"alg":"HS256"} {}"#, Malformed),
            (b"{\"alg\":\"HS256\",\"kid\":\"\xff\"}", Malformed),
            (b"", Malformed),
        ];
        for (header, expected) in table {
            assert_eq!(verify(&signed(header, GOOD)), Err(expected), "{}", String::from_utf8_lossy(header));
        }
    }

    /// RFC 7515 4.1, RFC 7516 4.1, RFC 7519 5.3 and RFC 8555 6: what is not used has its kind all the same.
    #[test]
    fn parameters_of_another_kind_are_refused() {
        let with = |name: &str, value: &str| format!(r#"{{"alg":"HS256","{name}":{value}}}"#);
        let texts = ["kid", "typ", "cty", "jku", "x5u", "x5t", "x5t#S256", "enc", "zip", "url", "nonce", "iss", "sub"];
        for name in texts {
            assert!(verify(&signed(with(name, r#""x""#), GOOD)).is_ok(), "{name}");
            for value in ["null", "7", "1.5", "true", "[]", r#"["x"]"#, "{}", r#"{"a":"x"}"#] {
                let header = with(name, value);
                assert_eq!(verify(&signed(&header, GOOD)), Err(TokenError::Malformed), "{header}");
            }
        }
        for (name, good, bad) in [
            (
                "x5c",
                &[r#"["MII"]"#, r#"["a","b"]"#][..],
                &["null", r#""x""#, "7", "[]", "[7]", r#"["x",null]"#, "{}"][..],
            ),
            ("jwk", &["{}", r#"{"kty":"oct","k":"AA"}"#], &["null", r#""x""#, "7", "[]", "true"]),
            ("aud", &[r#""x""#, r#"["x","y"]"#, "[]"], &["null", "7", "[7]", "{}", "true"]),
        ] {
            for value in good {
                assert!(verify(&signed(with(name, value), GOOD)).is_ok(), "{name} {value}");
            }
            for value in bad {
                assert_eq!(verify(&signed(with(name, value), GOOD)), Err(TokenError::Malformed), "{name} {value}");
            }
        }
        assert!(verify(&signed(with("x-own", "[7]"), GOOD)).is_ok(), "what nobody defines may be of any kind");
    }

    #[test]
    fn claims_are_read_strictly() {
        use TokenError::{Expired, InvalidClaim, Malformed, MissingClientId, NotYetValid, WrongType};
        let without = |name: &str| {
            let mut members: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
            members.remove(name);
            serde_json::to_string(&members).unwrap()
        };
        let mut table = vec![
            (without("exp"), InvalidClaim("exp")),
            (with("exp", "1799999999"), Expired),
            (with("exp", "1799999999.9"), Expired),
            (with("exp", "-1"), Expired),
            (with("nbf", "1800000001"), NotYetValid),
            (with("nbf", "1800000000.5"), NotYetValid),
            (without("client_id"), MissingClientId),
            (with("client_id", r#""""#), MissingClientId),
            (with("client_id", "null"), InvalidClaim("client_id")),
            (with("client_id", "42"), InvalidClaim("client_id")),
            (with("client_id", r#"["c"]"#), InvalidClaim("client_id")),
            (with("aud", r#""x""#), InvalidClaim("aud")),
            (with("aud", "null"), InvalidClaim("aud")),
            (with("at_hash", r#""x""#), InvalidClaim("at_hash")),
            (with("sub", "1"), InvalidClaim("sub")),
            (with("jti", "null"), InvalidClaim("jti")),
            (with("iss", "7"), InvalidClaim("iss")),
            (with("iss", r#"["x"]"#), InvalidClaim("iss")),
            (without("type"), WrongType),
            (with("type", r#""refresh""#), WrongType),
            (with("type", r#""Access""#), WrongType),
            (with("type", r#"["access"]"#), WrongType),
            (with("x", r#"1,"x":1"#), Malformed),
            (with("x", r#"{"y":1,"y":2}"#), Malformed),
            (with("x", r#""\ud800""#), Malformed),
            (with("x", "1e999"), Malformed),
            (with("x", "NaN"), Malformed),
            ("[]".to_owned(), Malformed),
            ("null".to_owned(), Malformed),
            (String::new(), Malformed),
            ("[".repeat(10_000), Malformed),
        ];
        for name in ["exp", "nbf", "iat"] {
            for value in [r#""1800000600""#, "true", "null", "[]", "{}"] {
                table.push((with(name, value), InvalidClaim(name)));
            }
        }
        for (payload, expected) in table {
            assert_eq!(verify(&signed(HS256, &payload)), Err(expected), "{payload}");
        }
    }

    #[test]
    fn the_text_is_read_strictly() {
        let good = signed(HS256, GOOD);
        assert!(verify(&good).is_ok());
        let parts: Vec<_> = good.split('.').collect();
        let (header, payload, signature) = (parts[0], parts[1], parts[2]);
        let refused = [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            header.to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{header}..{signature}"),
            format!(".{payload}.{signature}"),
            format!("{good}.{signature}"),
            format!("{good}="),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}A"),
            good[..good.len() - 1].to_owned(),
            format!("{header}=.{payload}.{signature}"),
            good.replace(header, &format!("{header}\u{e9}")),
            format!("Bearer {good}"),
            "a".repeat(MAX_TOKEN_LEN + 1),
        ];
        for token in refused {
            assert!(matches!(verify(&token), Err(TokenError::Malformed | TokenError::InvalidSignature)), "{token}");
        }
    }

    #[test]
    fn every_bit_of_the_signature_counts() {
        let good = signed(HS256, GOOD);
        let dot = good.rfind('.').unwrap();
        let signature = BASE64URL.decode_to_vec(&good[dot + 1..]).unwrap();
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let token = format!("{}.{}", &good[..dot], BASE64URL.encode_to_string(changed));
            assert_eq!(verify(&token), Err(TokenError::InvalidSignature), "bit {bit}");
        }
        // The last character has four bits that encode nothing: they must be zero, or one token had 16 spellings.
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let token = format!("{}{other}", &good[..good.len() - 1]);
            assert_eq!(verify(&token).is_ok(), token == good, "{other}");
        }
    }

    #[test]
    fn tokens_of_another_key_are_refused() {
        let other = TokenKey::new(&Secret::from("another key of thirty-two bytes..")).unwrap();
        let token = other.mint(&new_token("c", TokenType::Access)).unwrap();
        assert_eq!(verify(token.expose()), Err(TokenError::InvalidSignature));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(token in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let verified = Parts::split(&token)
                .and_then(|parts| key().verify(&parts, &Expected::of(TokenType::Access, NOW)));
            proptest::prop_assert!(verified.is_err());
        }

        #[test]
        fn no_payload_panics(payload in r#"(\{|\}|\[|\]|"|:|,|exp|client_id|type|access|1|\.|e|-|null|\\u00e9){0,40}"#) {
            let _ = verify(&signed(HS256, payload));
        }

        #[test]
        fn any_client_id_survives(client_id in "\\PC{1,200}") {
            let token = key().mint(&new_token(&client_id, TokenType::Access)).unwrap();
            let claims = verify(token.expose()).unwrap();
            proptest::prop_assert_eq!(claims.client_id(), client_id);
        }
    }
}
