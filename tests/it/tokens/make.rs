//! Hostile tokens: a good one that was changed, and signed before or after that.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD as BASE64URL},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::judge::unix_now;

pub(super) const NEWEST: &str = crate::app::KEY;
pub(super) const PREVIOUS: &str = "an earlier key of at least thirty-two bytes";
const FOREIGN: &str = "somebody else's key of at least thirty-two bytes";

/// Stands for the id of the newest key.
pub(super) const KID: &str = "KID-OF-NEWEST";

pub(super) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
pub(super) const PAYLOAD: &str = r#"{"client_id":"c","type":"access","exp":4000000000,"iat":1500000000,"jti":"j"}"#;

/// Headers that are no object with more members.
pub(super) const HEADERS: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    r#""HS256""#,
    r#"["JWT","HS256"]"#,
    r#"{"typ":"JWT"}"#,
    r#"{"alg":"none"}"#,
    r#"{"alg":"NONE"}"#,
    r#"{"alg":"hs256"}"#,
    r#"{"alg":"HS256 "}"#,
    r#"{"alg":"HS256\u0000"}"#,
    r#"{"alg":"HS384"}"#,
    r#"{"alg":"HS512"}"#,
    r#"{"alg":"RS256"}"#,
    r#"{"alg":"ES256"}"#,
    r#"{"alg":"EdDSA"}"#,
    r#"{"alg":""}"#,
    r#"{"alg":null}"#,
    r#"{"alg":256}"#,
    r#"{"alg":["HS256"]}"#,
    r#"{"alg":{"HS256":null}}"#,
    r#"{"ALG":"HS256"}"#,
    r#"{"alg ":"HS256"}"#,
    r#"{"alg\u0000":"HS256"}"#,
    r#"{"\u0061lg":"HS256"}"#,
    r#"{"alg":"\u0048S256"}"#,
    r#"{"alg":"HS256","typ":"JWT"}"#,
    r#"{"alg":"HS256","typ":"JWT","kid":"KID-OF-NEWEST"}"#,
    "\u{feff}{\"alg\":\"HS256\"}",
    "{\"alg\":\"HS256\"}\u{feff}",
    " \t\r\n{ \"alg\" \n:\t\"HS256\" } \n",
    "{\"alg\":\u{a0}\"HS256\"}",
    "{\"alg\":\u{b}\"HS256\"}",
    r#"/**/{"alg":"HS256"}"#,
    r#"{"alg":"HS256"}//"#,
    r#"{"alg":"HS256"/*"typ":1*/}"#,
    r#"{"alg":"HS256",}"#,
    r#"{,"alg":"HS256"}"#,
    r#"{"alg":"HS256"}}"#,
    r#"{"alg":"HS256"}{}"#,
    "{\"alg\":\"HS256\"}\0",
    r#"{"alg":"HS256""#,
    r#"{'alg':'HS256'}"#,
    r#"{alg:"HS256"}"#,
    "{\"alg\":\"HS256\n\"}",
];

/// Members that stand beside the `alg` of a header.
pub(super) const HEADER_MEMBERS: &[&str] = &[
    r#""typ":"JWT""#,
    r#""typ":"at+jwt""#,
    r#""typ":"jwt""#,
    r#""typ":"""#,
    r#""typ":null"#,
    r#""typ":1"#,
    r#""typ":["JWT"]"#,
    r#""alg":"HS256""#,
    r#""alg":"none""#,
    r#""\u0061lg":"HS256""#,
    r#""\u0061\u006c\u0067":"none""#,
    r#""kid":"unknown""#,
    r#""kid":"KID-OF-NEWEST""#,
    r#""k\u0069d":"KID-OF-NEWEST""#,
    r#""kid":"""#,
    r#""kid":null"#,
    r#""kid":7"#,
    r#""kid":{"a":1}"#,
    r#""kid":"../../dev/null""#,
    r#""kid":"' OR 1=1 --""#,
    r#""crit":["exp"]"#,
    r#""crit":["b64"],"b64":false"#,
    r#""crit":[]"#,
    r#""crit":null"#,
    r#""cr\u0069t":["exp"]"#,
    r#""b64":false"#,
    r#""b64":true"#,
    r#""cty":"JWT""#,
    r#""cty":false"#,
    r#""jku":"https://example.org/keys""#,
    r#""jku":[]"#,
    r#""jwk":{"kty":"oct","k":"AA"}"#,
    r#""jwk":"x""#,
    r#""jwk":{}"#,
    r#""jwk":{"kty":7}"#,
    r#""iss":7"#,
    r#""sub":["x"]"#,
    r#""aud":["x",7]"#,
    r#""aud":["x"]"#,
    r#""x5u":1"#,
    r#""x5c":["AA"]"#,
    r#""x5c":"AA""#,
    r#""x5t":{}"#,
    r#""x5t#S256":0"#,
    r#""enc":"A128GCM""#,
    r#""enc":1"#,
    r#""zip":"DEF""#,
    r#""zip":2"#,
    r#""url":"u""#,
    r#""url":{}"#,
    r#""nonce":1.5"#,
    r#""x":1e400"#,
    r#""x":-1e-400"#,
    r#""x":1E400"#,
    r#""x":123456789012345678901234567890"#,
    r#""x":0.1e+1"#,
    r#""x":01"#,
    r#""x":+1"#,
    r#""x":1."#,
    r#""x":.5"#,
    r#""x":0x1"#,
    r#""x":-"#,
    r#""x":NaN"#,
    r#""x":Infinity"#,
    r#""x":tru"#,
    r#""x":True"#,
    r#""x":"\ud800""#,
    r#""x":"\udc00\ud800""#,
    r#""x":"\ud83d\ude00""#,
    r#""x":"\u00""#,
    r#""x":"\x41""#,
    r#""x":"\/\b\f""#,
    r#""\ud800":1"#,
    r#""":1"#,
    r#""":1,"":2"#,
    r#""x":{"a":{"b":[{"c":1,"c":1}]}}"#,
    r#""x":[1,[2,{"a":null}]]"#,
    r#""x":[1,]"#,
    r#""x":"é😀""#,
];

/// The values that `client_id`, `type` and so on have in hostile payloads; `@` stands for the present second.
pub(super) const CLAIMS: &[(&str, &[&str])] = &[
    (
        "exp",
        &[
            "4000000000",
            "4000000000.9",
            "4e9",
            "4E+9",
            "40000000000e-1",
            "1e300",
            "1e400",
            "-1e400",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551614.9",
            "99999999999999999999999999",
            "-1",
            "-0",
            "0",
            "-0.0",
            "1",
            "1e-300",
            r#""4000000000""#,
            r#""0xEE6B2800""#,
            "0xEE6B2800",
            "04000000000",
            "+4000000000",
            "4_000_000_000",
            "null",
            "true",
            "[4000000000]",
            r#"{"exp":4000000000}"#,
            "NaN",
            "Infinity",
        ],
    ),
    ("nbf", &["0", "-1", "-1e300", "-0", "1500000000.7", "4000000000", "1e300", "1e400", r#""0""#, "null", "[]", "{}"]),
    ("iat", &["0", "-1", "1.5", "4000000000", "1e300", r#""1500000000""#, "null", "false", "[]"]),
    (
        "client_id",
        &[
            r#""c""#,
            r#""\u0063""#,
            r#""c\u0000""#,
            r#""\u0000""#,
            r#""""#,
            r#"" ""#,
            r#""é\n\t\"\\😀""#,
            r#""\ud83d\ude00""#,
            r#""\ud800""#,
            r#""\ude00\ud83d""#,
            "7",
            "0",
            "null",
            "true",
            r#"["c"]"#,
            r#"{"c":1}"#,
        ],
    ),
    (
        "type",
        &[
            r#""access""#,
            r#""\u0061ccess""#,
            r#""refresh""#,
            r#""Access""#,
            r#""access ""#,
            r#""access\u0000""#,
            r#""""#,
            "null",
            "1",
            r#"["access"]"#,
        ],
    ),
    ("jti", &[r#""j""#, r#""""#, "null", "1", "[]"]),
    ("sub", &[r#""s""#, r#""\u0073""#, "null", "1", "{}", r#"["s"]"#]),
    ("iss", &[r#""anyone""#, "null", "1", r#"["a","b"]"#, "{}"]),
    ("aud", &[r#""x""#, "null", "1", r#"["a","b"]"#, "[]", "{}", r#""""#]),
    ("at_hash", &[r#""x""#, "null"]),
    ("sid", &[r#""f""#, r#""""#, "1", "null"]),
    ("gen", &["0", "3", "-1", "1.5", "18446744073709551615", "18446744073709551616", r#""3""#]),
];

/// The same of times that are near, which are no part of what is kept in a file.
const NEAR: &[(&str, &[&str])] = &[
    ("exp", &["@-2", "@-1", "@", "@.4", "@.6", "@+1", "@-.4", "@-1.4"]),
    ("nbf", &["@-1", "@", "@.4", "@.6", "@+1", "@+1.4", "@+5"]),
];

/// Payloads that are no object with the claims in it.
pub(super) const PAYLOADS: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "1",
    r#""x""#,
    r#"[4000000000,0,"s","i",null]"#,
    r#"[{"client_id":"c","type":"access","exp":4000000000}]"#,
    "\u{feff}{\"client_id\":\"c\",\"type\":\"access\",\"exp\":4000000000}",
    "{\"client_id\":\"c\",\"type\":\"access\",\"exp\":4000000000}\u{feff}",
    " {\"client_id\" : \"c\" ,\r\n\t\"type\":\"access\" , \"exp\" :4000000000 } ",
    r#"{"client_id":"c","type":"access","exp":4000000000}}"#,
    r#"{"client_id":"c","type":"access","exp":4000000000,}"#,
    r#"{"client_id":"c","type":"access","exp":4000000000"#,
    r#"{"client_id":"c";"type":"access","exp":4000000000}"#,
    r#"{"client_id":"c","type":"access","exp":4000000000} null"#,
    "{\"client_id\":\"c\u{0}\",\"type\":\"access\",\"exp\":4000000000}",
    "{\"client_id\":\"c\u{1f}\",\"type\":\"access\",\"exp\":4000000000}",
    "{\"client_id\":\"c\u{7f}\",\"type\":\"access\",\"exp\":4000000000}",
    r#"{"CLIENT_ID":"c","type":"access","exp":4000000000}"#,
    r#"{"payload":{"client_id":"c","type":"access","exp":4000000000}}"#,
];

#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    Newest,
    Previous,
    Foreign,
}

impl Key {
    fn sign(self, message: &[u8], algorithm: Algorithm) -> String {
        let secret = match self {
            Self::Newest => NEWEST,
            Self::Previous => PREVIOUS,
            Self::Foreign => FOREIGN,
        };
        crypto::sign(message, &EncodingKey::from_secret(secret.as_bytes()).expect("a key"), algorithm)
            .expect("a signature")
    }
}

/// How a part is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    CurrentTokens,
    Padded,
    StandardAlphabet,
    TrailingBits,
    LineBreak,
    Space,
    NonAscii,
    OneMore,
    OneLess,
    Percent,
    Plain,
}

impl Spelling {
    pub(super) const OTHERS: [Self; 10] = [
        Self::Padded,
        Self::StandardAlphabet,
        Self::TrailingBits,
        Self::LineBreak,
        Self::Space,
        Self::NonAscii,
        Self::OneMore,
        Self::OneLess,
        Self::Percent,
        Self::Plain,
    ];

    fn write(self, bytes: &[u8]) -> String {
        let text = BASE64URL.encode(bytes);
        let (front, back) = text.split_at(text.len() / 2);
        match self {
            Self::CurrentTokens => text,
            Self::Padded => match bytes.len() % 3 {
                0 => text + "=",
                _ => URL_SAFE.encode(bytes),
            },
            Self::StandardAlphabet => STANDARD_NO_PAD.encode(bytes),
            Self::TrailingBits => other_bits(text, bytes.len()),
            Self::LineBreak => format!("{front}\r\n{back}"),
            Self::Space => format!("{front} {back}"),
            Self::NonAscii => format!("{front}\u{e9}{back}"),
            Self::OneMore => text + "A",
            Self::OneLess => text[..text.len().saturating_sub(1)].to_owned(),
            Self::Percent => format!("{front}%41{back}"),
            Self::Plain => String::from_utf8_lossy(bytes).replace('.', ""),
        }
    }
}

/// The text with a bit set that encodes nothing, where there is one.
fn other_bits(mut text: String, len: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if len.is_multiple_of(3) {
        return text;
    }
    let last = text.pop().expect("not empty") as u8;
    let value = ALPHABET.iter().position(|other| *other == last).expect("of base64url");
    text.push(ALPHABET[value | 1] as char);
    text
}

/// What stands as the signature.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signature {
    /// Of the parts as they are written in the end.
    Right,
    /// Of the parts as they would be written in base64url.
    BeforeSpelling,
    /// Of the good token.
    OfGood,
    OfPayload,
    OfHeader,
    /// Of what the parts say, which is not what is signed.
    OfText,
    Hs512,
    Empty,
    Truncated(u8),
    Extended,
    Flipped(u8),
    Zeros,
}

impl Signature {
    pub(super) const OTHERS: [Self; 13] = [
        Self::BeforeSpelling,
        Self::OfGood,
        Self::OfPayload,
        Self::OfHeader,
        Self::OfText,
        Self::Hs512,
        Self::Empty,
        Self::Truncated(1),
        Self::Truncated(16),
        Self::Extended,
        Self::Flipped(0),
        Self::Flipped(255),
        Self::Zeros,
    ];
}

/// What is around the parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    Three,
    Two,
    One,
    Four,
    Five,
    NoHeader,
    NoPayload,
    OnlyDots,
    Before(&'static str),
    After(&'static str),
}

impl Frame {
    pub(super) const OTHERS: [Self; 17] = [
        Self::Two,
        Self::One,
        Self::Four,
        Self::Five,
        Self::NoHeader,
        Self::NoPayload,
        Self::OnlyDots,
        Self::Before(" "),
        Self::Before("Bearer "),
        Self::Before("."),
        Self::Before("\u{feff}"),
        Self::After(" "),
        Self::After("."),
        Self::After("\n"),
        Self::After("="),
        Self::After("\0"),
        Self::After(".."),
    ];
}

/// How a token is made.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) key: Key,
    pub(super) spelling: [Spelling; 3],
    pub(super) signature: Signature,
    pub(super) frame: Frame,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            header: HEADER.into(),
            payload: PAYLOAD.into(),
            key: Key::Newest,
            spelling: [Spelling::CurrentTokens; 3],
            signature: Signature::Right,
            frame: Frame::Three,
        }
    }
}

impl Recipe {
    pub(super) fn token(&self, kid: &str) -> String {
        let header = replaced(&self.header, KID.as_bytes(), kid.as_bytes());
        let payload = with_times(&self.payload);
        let [header_text, payload_text] = [self.spelling[0].write(&header), self.spelling[1].write(&payload)];
        let signature = self.signature(&header, &payload, &header_text, &payload_text);
        let signature = match self.spelling[2] {
            Spelling::CurrentTokens => signature,
            spelling => BASE64URL.decode(&signature).map_or(signature, |bytes| spelling.write(&bytes)),
        };
        let (h, p, s) = (header_text, payload_text, signature);
        match self.frame {
            Frame::Three => format!("{h}.{p}.{s}"),
            Frame::Two => format!("{h}.{p}"),
            Frame::One => h,
            Frame::Four => format!("{h}.{p}.{s}.{s}"),
            Frame::Five => format!("{h}.{p}.{p}.{p}.{s}"),
            Frame::NoHeader => format!(".{p}.{s}"),
            Frame::NoPayload => format!("{h}..{s}"),
            Frame::OnlyDots => "..".to_owned(),
            Frame::Before(text) => format!("{text}{h}.{p}.{s}"),
            Frame::After(text) => format!("{h}.{p}.{s}{text}"),
        }
    }

    fn signature(&self, header: &[u8], payload: &[u8], header_text: &str, payload_text: &str) -> String {
        let sign = |message: &str| self.key.sign(message.as_bytes(), Algorithm::HS256);
        let right = || sign(&format!("{header_text}.{payload_text}"));
        let bytes = || BASE64URL.decode(right()).expect("a signature");
        match self.signature {
            Signature::Right => right(),
            Signature::BeforeSpelling => sign(&format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload))),
            Signature::OfGood => sign(&format!("{}.{}", BASE64URL.encode(HEADER), BASE64URL.encode(PAYLOAD))),
            Signature::OfPayload => sign(payload_text),
            Signature::OfHeader => sign(header_text),
            Signature::OfText => self.key.sign(&[header, b".", payload].concat(), Algorithm::HS256),
            Signature::Hs512 => self.key.sign(format!("{header_text}.{payload_text}").as_bytes(), Algorithm::HS512),
            Signature::Empty => String::new(),
            Signature::Truncated(by) => BASE64URL.encode(&bytes()[..32usize.saturating_sub(by.into())]),
            Signature::Extended => BASE64URL.encode([bytes(), vec![0]].concat()),
            Signature::Flipped(bit) => {
                let mut bytes = bytes();
                bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
                BASE64URL.encode(bytes)
            }
            Signature::Zeros => BASE64URL.encode([0; 32]),
        }
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match text.windows(from.len()).position(|window| window == from) {
        Some(at) => [&text[..at], to, &replaced(&text[at + from.len()..], from, to)].concat(),
        None => text.to_vec(),
    }
}

/// Puts seconds in for `@`, `@+1`, `@-1.4` and the like.
fn with_times(payload: &[u8]) -> Vec<u8> {
    let Some(at) = payload.iter().position(|byte| *byte == b'@') else { return payload.to_vec() };
    let (front, back) = (&payload[..at], &payload[at + 1..]);
    let len = back.iter().take_while(|byte| b"+-.0123456789".contains(byte)).count();
    let offset = std::str::from_utf8(&back[..len]).unwrap_or_default();
    let offset: f64 = offset.strip_prefix('+').unwrap_or(offset).parse().unwrap_or_default();
    let seconds = unix_now() as f64 + offset;
    [front, seconds.to_string().as_bytes(), &with_times(&back[len..])].concat()
}

/// The good payload with a claim set, added a second time or taken away.
fn payload_of(claims: &[(String, String)]) -> String {
    let members: Vec<_> = claims.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", members.join(","))
}

fn good_claims() -> Vec<(String, String)> {
    let good = [("client_id", r#""c""#), ("type", r#""access""#), ("exp", "4000000000"), ("iat", "1500000000")];
    good.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The name with its first letter as an escape, which reads the same.
fn escaped(name: &str) -> String {
    format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..])
}

/// One change of the claims.
#[derive(Clone, Debug)]
enum Change {
    Set(&'static str, &'static str),
    /// Adds it before or behind all others, though it may be there, under a name that is written with an escape or not.
    Add(&'static str, &'static str, bool, bool),
    Remove(&'static str),
}

impl Change {
    fn make(&self, claims: &mut Vec<(String, String)>) {
        match *self {
            Self::Set(name, value) => {
                claims.retain(|(other, _)| other != name);
                claims.push((name.to_owned(), value.to_owned()));
            }
            Self::Add(name, value, is_escaped, is_first) => {
                let name = if is_escaped { escaped(name) } else { name.to_owned() };
                claims.insert(if is_first { 0 } else { claims.len() }, (name, value.to_owned()));
            }
            Self::Remove(name) => claims.retain(|(other, _)| other != name),
        }
    }
}

/// Every hostile token that has a name: one change each. What is near the present is not among them, so they last.
pub(super) fn named() -> Vec<(String, Recipe)> {
    let mut all = vec![("good".to_owned(), Recipe::default())];
    let header = |text: &str| Recipe { header: text.into(), ..Recipe::default() };
    let payload = |text: &str| Recipe { payload: text.into(), ..Recipe::default() };
    let escape = |text: &str| text.escape_debug().to_string();
    all.extend(HEADERS.iter().map(|text| (format!("header {}", escape(text)), header(text))));
    for member in HEADER_MEMBERS {
        let text = format!(r#"{{"alg":"HS256",{member}}}"#);
        all.push((format!("header with {}", escape(member)), header(&text)));
    }
    all.extend(PAYLOADS.iter().map(|text| (format!("payload {}", escape(text)), payload(text))));
    let mut change = |name: String, change: Change| {
        let mut claims = good_claims();
        change.make(&mut claims);
        all.push((name, payload(&payload_of(&claims))));
    };
    for (name, values) in CLAIMS {
        for value in *values {
            change(format!("{name} {value}"), Change::Set(name, value));
        }
        change(format!("no {name}"), Change::Remove(name));
        change(format!("{name} twice"), Change::Add(name, values[0], false, true));
        change(format!("{name} twice, once escaped"), Change::Add(name, values[0], true, false));
    }
    for (part, name) in ["header", "payload", "signature"].into_iter().enumerate() {
        for spelling in Spelling::OTHERS {
            for signature in [Signature::Right, Signature::BeforeSpelling] {
                let mut recipe = Recipe { signature, ..Recipe::default() };
                recipe.spelling[part] = spelling;
                all.push((format!("{name} {spelling:?}, signed {signature:?}"), recipe));
            }
        }
    }
    for signature in Signature::OTHERS {
        all.push((format!("signature {signature:?}"), Recipe { signature, ..Recipe::default() }));
    }
    for frame in Frame::OTHERS {
        all.push((format!("frame {frame:?}"), Recipe { frame, ..Recipe::default() }));
    }
    for key in [Key::Previous, Key::Foreign] {
        all.push((format!("key {key:?}"), Recipe { key, ..Recipe::default() }));
        let named = format!(r#"{{"alg":"HS256","kid":"{KID}"}}"#);
        all.push((format!("key {key:?} under the newest's id"), Recipe { key, ..header(&named) }));
    }
    let long = format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(1_600));
    all.push(("a long header".to_owned(), header(&long)));
    for depth in [64, 120, 128, 200] {
        let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let of_claim = |value: &str| payload(&PAYLOAD.replace(r#""j""#, &format!(r#""j","x":{value}"#)));
        all.push((format!("{depth} lists in the payload"), of_claim(&nested("[", "]"))));
        all.push((format!("{depth} objects in the payload"), of_claim(&nested(r#"{"a":"#, "}"))));
        let text = format!(r#"{{"alg":"HS256","x":{}}}"#, nested("[", "]"));
        all.push((format!("{depth} lists in the header"), header(&text)));
    }
    all
}

/// Tokens with any number of changes.
pub(super) fn recipe() -> impl Strategy<Value = Recipe> {
    let key = prop_oneof![6 => Just(Key::Newest), 2 => Just(Key::Previous), 1 => Just(Key::Foreign)];
    let spelling = || prop_oneof![20 => Just(Spelling::CurrentTokens), 1 => select(&Spelling::OTHERS[..])];
    let signature = prop_oneof![
        12 => Just(Signature::Right),
        1 => select(&Signature::OTHERS[..]),
        1 => any::<u8>().prop_map(Signature::Flipped),
    ];
    let frame = prop_oneof![20 => Just(Frame::Three), 1 => select(&Frame::OTHERS[..])];
    (header(), payload(), key, [spelling(), spelling(), spelling()], signature, frame).prop_map(
        |(header, payload, key, spelling, signature, frame)| Recipe {
            header,
            payload,
            key,
            spelling,
            signature,
            frame,
        },
    )
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let composed = (vec(select(HEADER_MEMBERS), 0..3), any::<bool>()).prop_map(|(mut members, is_first)| {
        members.insert(if is_first { 0 } else { members.len() }, r#""alg":"HS256""#);
        format!("{{{}}}", members.join(","))
    });
    let long = (0usize..2_000).prop_map(|len| format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(len)));
    let text = prop_oneof![
        6 => Just(HEADER.to_owned()),
        6 => composed,
        2 => select(HEADERS).prop_map(str::to_owned),
        1 => long,
        1 => nested().prop_map(|value| format!(r#"{{"alg":"HS256","x":{value}}}"#)),
    ];
    edited(text)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let changed = vec(change(), 0..3).prop_map(|changes| {
        let mut claims = good_claims();
        changes.iter().for_each(|change| change.make(&mut claims));
        payload_of(&claims)
    });
    let with = |value: String| format!(r#"{{"x":{value},"client_id":"c","type":"access","exp":4000000000}}"#);
    let long = (0usize..13_000).prop_map(|len| format!(r#""{}""#, "x".repeat(len)));
    let text = prop_oneof![
        2 => Just(PAYLOAD.to_owned()),
        12 => changed,
        2 => select(PAYLOADS).prop_map(str::to_owned),
        1 => nested().prop_map(with),
        1 => long.prop_map(with),
        1 => number().prop_map(|exp| format!(r#"{{"client_id":"c","type":"access","exp":{exp}}}"#)),
    ];
    edited(text)
}

fn change() -> impl Strategy<Value = Change> {
    let all: Vec<_> = CLAIMS.iter().chain(NEAR).collect();
    let value = select(all).prop_flat_map(|(name, values)| select(*values).prop_map(move |value| (*name, value)));
    (value, 0..8u8, any::<bool>(), any::<bool>()).prop_map(|((name, value), kind, is_escaped, is_first)| match kind {
        0 => Change::Remove(name),
        1 => Change::Add(name, value, is_escaped, is_first),
        _ => Change::Set(name, value),
    })
}

/// Numbers of every form, some of them wrong.
fn number() -> impl Strategy<Value = String> {
    r"-?(0|[1-9][0-9]{0,20}|[0-9]{1,12})(\.[0-9]{0,20})?([eE][-+]?[0-9]{0,3})?"
}

fn nested() -> impl Strategy<Value = String> {
    (1usize..140, any::<bool>()).prop_map(|(depth, is_list)| {
        let (open, close) = if is_list { ("[", "]") } else { (r#"{"a":"#, "}") };
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    })
}

/// The text, mostly as it is, else with some bytes changed.
fn edited(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop_oneof![4 => Just(Vec::new()), 1 => vec(edit(), 1..4)];
    (text, edits).prop_map(|(text, edits)| edit_all(text.into_bytes(), &edits))
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    Insert(Index, u8),
    Replace(Index, u8),
    Delete(Index),
    Double(Index),
    Swap(Index),
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    const BYTES: &[u8] = b"\"\\{}[]:,. \t\n\r\0\x08\x0c\x1f\x7f\x80\xc0\xed\xa0\xef\xbb\xbf\xf4\xff+-eE0189uAa_/=%";
    let byte = || prop_oneof![4 => select(BYTES), 1 => any::<u8>()];
    let at = any::<Index>;
    prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        at().prop_map(Edit::Delete),
        at().prop_map(Edit::Double),
        at().prop_map(Edit::Swap),
    ]
}

pub(super) fn edit_all(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let len = bytes.len();
        match edit {
            Edit::Insert(at, byte) => bytes.insert(at.index(len + 1), *byte),
            _ if len < 2 => {}
            Edit::Replace(at, byte) => bytes[at.index(len)] = *byte,
            Edit::Delete(at) => _ = bytes.remove(at.index(len)),
            Edit::Double(at) => bytes.insert(at.index(len), bytes[at.index(len)]),
            Edit::Swap(at) => bytes.swap(at.index(len - 1), at.index(len - 1) + 1),
        }
    }
    bytes
}
