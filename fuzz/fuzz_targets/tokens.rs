//! Two lines as the header and the payload of a token that is signed, or one line as a whole token: we accept it as
//! `jsonwebtoken::decode` does, but for the differences that are known.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use fastauth::{FastAuthLayer, Settings, store::MemoryStore};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/tokens/judge.rs"]
mod judge;

use judge::{Judge, JudgedKey};

const KEY: &str = "a key of the fuzzer of at least thirty-two bytes";
/// As the id of a key is never: none of the tokens names it, so that what is fuzzed is the same with every build.
const KID: &str = "none";

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let settings = Settings::builder()
        .environment([("", ""); 0])
        .directory("/nonexistent")
        .cryptography_key(KEY)
        .access_token_paths(["/access"])
        .store(MemoryStore::new());
    let layer = FastAuthLayer::new(settings.build().expect("sound settings")).expect("a layer");
    Judge::new(layer.issuer(), vec![JudgedKey { secret: KEY, kid: KID.to_owned() }])
});

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    match (lines.next(), lines.next()) {
        (Some(header), Some(payload)) => _ = JUDGE.judge(&signed(header, payload)),
        (Some(token), None) => {
            if let Ok(token) = std::str::from_utf8(token) {
                JUDGE.judge(token);
            }
        }
        (None, _) => {}
    }
});

fn signed(header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let key = EncodingKey::from_secret(KEY.as_bytes()).expect("a key");
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{message}.{signature}")
}
