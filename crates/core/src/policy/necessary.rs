//! The escapes that a path cannot do without.

use std::borrow::Cow;

/// Decodes the escapes of what no URI has unescaped, letters beyond ASCII among it, as browsers write them: with capitals. It is
/// the only way to send these characters, so a path has no other meaning as it was sent. Any other escape is one, since a router
/// may tell it from its character. So `/caf%C3%A9` is `/café`, and `/%61` is not `/a`.
pub(super) fn decode_necessary(reading: &str) -> Cow<'_, str> {
    if !reading.contains('%') {
        return Cow::Borrowed(reading);
    }
    let mut decoded = Vec::with_capacity(reading.len());
    let mut rest = reading.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = necessary(rest);
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { after };
    }
    // A part of a character is none.
    String::from_utf8(decoded).map_or(Cow::Borrowed(reading), Cow::Owned)
}

/// Decodes an escape at the start of these bytes, if it is a necessary one.
fn necessary(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let byte = digit(*high)? << 4 | digit(*low)?;
    matches!(byte, b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'}' | 0x80..).then_some(byte)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_uri_has_unescaped_is_decoded() {
        for (reading, expected) in [
            ("/caf%C3%A9/a%20b", "/café/a b"),
            ("/caf%c3%a9", "/caf%c3%a9"),
            ("/%61%2F%2E%25%3B%3F%23%5C%7C%00%7F", "/%61%2F%2E%25%3B%3F%23%5C%7C%00%7F"),
            ("/%C3%A9%C3%a9", "/%C3%A9%C3%a9"),
            ("/%E2%82%AC%", "/€%"),
            ("/%C", "/%C"),
            ("/é%20", "/é "),
        ] {
            assert_eq!(decode_necessary(reading), expected);
        }
    }
}
