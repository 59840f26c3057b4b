//! Tokens of all kinds, and what becomes of them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use proptest::prelude::*;

use super::{
    parts::{MAX_TOKEN_LEN, decode},
    *,
};
use crate::secret::Secret;

const NOW: u64 = 1_800_000_000;
const GOOD: &str = r#"{"client_id":"c","type":"access","exp":1800000600,"iat":1800000000}"#;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn key() -> TokenKey {
    TokenKey::new(&Secret::from("a key of at least thirty-two bytes")).unwrap()
}

/// A token with a good signature over whatever stands in it.
fn signed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let signature = BASE64URL.encode(key().sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    verify_with(&key(), token, &Expected::new(TokenType::Access, NOW))
}

fn verify_with(key: &TokenKey, token: &str, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    let parts = Parts::split(token.as_bytes())?;
    parts.kid()?;
    key.verify(&parts, expected)
}

fn new_token(client_id: &str, token_type: TokenType) -> NewToken<'_> {
    let mut token = NewToken::new(client_id, token_type, NOW, Duration::from_secs(600));
    (token.session, token.generation) = ("f", 3);
    token
}

/// The good payload with `"name":value` added, or put in the place of the member of that name.
fn with(name: &str, value: &str) -> String {
    let mut members: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
    members.remove(name);
    let rest = serde_json::to_string(&members).unwrap();
    format!(r#"{{"{name}":{value},{}"#, &rest[1..])
}

/// A part has one spelling: no padding, no spare bits, no other alphabet.
fn is_current(text: &str) -> bool {
    decode(text.as_bytes()).is_ok_and(|bytes| BASE64URL.encode(bytes) == text)
}

proptest! {
    #[test]
    fn decoded_part_is_current(text in "[A-Za-z0-9_-]{0,200}[-_AQgw09+/=.é ]{0,3}") {
        prop_assert_eq!(decode(text.as_bytes()).is_ok(), is_current(&text));
    }

    #[test]
    fn encoded_bytes_are_decoded(bytes: Vec<u8>) {
        prop_assert_eq!(decode(BASE64URL.encode(&bytes).as_bytes()), Ok(bytes));
    }
}

#[test]
fn part_with_a_spare_bit_or_padding_is_refused() {
    for text in ["", "AA", "AAA", "AAAA", "Zg", "Zm8", "-_-_"] {
        assert!(is_current(text), "{text}");
    }
    for text in
        ["A", "AB", "AAB", "AA==", "AAA=", "AA=", "=", "AAAAA", "Zh", "Zm9=", "+/+/", "AA ", " AA", "AA\n", "A.A"]
    {
        assert_eq!(decode(text.as_bytes()), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn signed_tokens_are_verified() {
    let token = key().sign_token(&new_token("élève", TokenType::Access)).unwrap();
    let claims = verify(token.expose()).unwrap();
    assert_eq!(claims.client_id(), "élève");
    assert_eq!(claims.token_type(), TokenType::Access);
    assert_eq!(claims.expires_at(), NOW + 600);
    assert_eq!(claims.get("iat"), Some(&Value::from(NOW)));
    assert_eq!(claims.session(), Some(("f", 3)));
    let header = BASE64URL.decode(token.expose().split('.').next().unwrap()).unwrap();
    assert_eq!(header, format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#, key().kid()).as_bytes());
}

#[test]
fn two_tokens_of_one_second_differ() {
    let sign = || key().sign_token(&new_token("c", TokenType::Refresh)).unwrap();
    assert_ne!(sign(), sign());
}

#[test]
fn tokens_of_python_jose_are_read() {
    let wire: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/transcript.json")).unwrap();
    let samples = &wire["samples"];
    let key = TokenKey::new(&Secret::from(samples["cryptography_key"].as_str().unwrap())).unwrap();
    for sample in samples["tokens"].as_array().unwrap() {
        let expected = if sample["claims"]["type"] == "access" { TokenType::Access } else { TokenType::Refresh };
        let claims = verify_with(&key, sample["token"].as_str().unwrap(), &Expected::new(expected, NOW)).unwrap();
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
        ("x5c", &[r#"["MII"]"#, r#"["a","b"]"#][..], &["null", r#""x""#, "7", "[]", "[7]", r#"["x",null]"#, "{}"][..]),
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
    let signature = BASE64URL.decode(&good[dot + 1..]).unwrap();
    for bit in 0..signature.len() * 8 {
        let mut changed = signature.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let token = format!("{}.{}", &good[..dot], BASE64URL.encode(changed));
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
    let token = other.sign_token(&new_token("c", TokenType::Access)).unwrap();
    assert_eq!(verify(token.expose()), Err(TokenError::InvalidSignature));
}

#[test]
fn assumed_claims_are_those_that_a_token_would_have() {
    let assume = |payload: &str| {
        let payload: Map<String, Value> = serde_json::from_str(payload).unwrap();
        assumed_claims(&payload, &Expected::new(TokenType::Access, NOW))
    };
    for payload in [
        GOOD,
        r#"{"client_id":"c","type":"access","exp":1800000600,"roles":["a"]}"#,
        r#"{"client_id":"c","type":"access","exp":1799999999}"#,
        r#"{"client_id":"c","type":"refresh","exp":1800000600}"#,
        r#"{"client_id":"c","type":"access","exp":1800000600,"nbf":1800000600}"#,
        r#"{"type":"access","exp":1800000600}"#,
        "{}",
    ] {
        let verified = verify(&signed(HS256, payload)).map(|claims| claims.as_object().clone());
        assert_eq!(assume(payload).map(|claims| claims.as_object().clone()), verified, "{payload}");
    }
    let long = format!(r#"{{"client_id":"{}","type":"access","exp":1800000600}}"#, "c".repeat(MAX_TOKEN_LEN));
    assert_eq!(assume(&long), Err(TokenError::Malformed));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(token in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let verified = Parts::split(&token)
            .and_then(|parts| key().verify(&parts, &Expected::new(TokenType::Access, NOW)));
        proptest::prop_assert!(verified.is_err());
    }

    #[test]
    fn no_payload_panics(payload in r#"(\{|\}|\[|\]|"|:|,|exp|client_id|type|access|1|\.|e|-|null|\\u00e9){0,40}"#) {
        let _ = verify(&signed(HS256, payload));
    }

    #[test]
    fn any_client_id_survives(client_id in "\\PC{1,200}") {
        let token = key().sign_token(&new_token(&client_id, TokenType::Access)).unwrap();
        let claims = verify(token.expose()).unwrap();
        proptest::prop_assert_eq!(claims.client_id(), client_id);
    }
}
