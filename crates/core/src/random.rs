//! Random bytes of the operating system, and the names that are made of them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Returns random bytes.
///
/// # Panics
///
/// If the operating system gives none.
#[must_use]
pub fn random_bytes<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    #[allow(clippy::expect_used, reason = "secrets must not be made without them, and callers could not go on")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Returns a name that nothing else has: some 120 random bits as 22 letters and digits. It never begins with `-`, as an option
/// on a command line does.
pub fn unique_name() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<16>()).replace(['-', '_'], "0")
}

/// Returns a random UUID (version 4, RFC 9562 5.4).
pub fn random_uuid() -> String {
    let mut bytes: [u8; 16] = random_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_names_are_letters_and_digits() {
        for _ in 0..100 {
            let name = unique_name();
            assert!(name.len() == 22 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
        }
        assert_ne!(unique_name(), unique_name());
    }

    #[test]
    fn random_uuids_have_their_version_and_variant() {
        for _ in 0..100 {
            let uuid = random_uuid();
            assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
            assert!(uuid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{uuid}");
            assert!(uuid[14..].starts_with('4') && uuid[19..].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
        assert_ne!(random_uuid(), random_uuid());
    }
}
