//! URL-safe base64 without padding, as tokens have it: canonical, so that bytes have one spelling.

use base64::{DecodeError, Engine};
use engine::ENGINE;

/// The engine with the vector instructions of the processor: a payload is decoded in a quarter of the instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod engine {
    use std::sync::LazyLock;

    use base64::engine::{Simd, general_purpose::NO_PAD};

    pub(super) static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod engine {
    pub(super) static ENGINE: base64::engine::GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    ENGINE.encode(bytes)
}

pub(crate) fn encode_onto(bytes: impl AsRef<[u8]>, text: &mut String) {
    ENGINE.encode_string(bytes, text);
}

/// Decodes a text of exactly this many bytes, without allocating; `None` if it is of another length or no base64url.
pub(crate) fn decode_exactly<const LEN: usize>(text: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let length = ENGINE.decode_slice(text, &mut bytes).ok()?;
    (length == LEN).then_some(bytes)
}

pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    ENGINE.decode(text)
}

/// Decodes into a buffer; `None` if it does not fit, or is not base64url.
pub(crate) fn decode_into<'a>(text: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let len = ENGINE.decode_slice(text, buffer).ok()?;
    Some(&buffer[..len])
}
