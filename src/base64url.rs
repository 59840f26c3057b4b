//! base64url without padding (RFC 4648 5), decoded strictly.
//!
//! The crate `base64` encodes, and what is decoded here is what it decodes, as a property test holds. It looks at every
//! character by itself, though; looking once, at the end, takes two thirds of the instructions, and decoding was the
//! most that a token cost beside its hashes.

/// The bits of each character at each of the four places of 24 bits, or [`INVALID`].
static BITS: [[u32; 256]; 4] = [bits(18), bits(12), bits(6), bits(0)];
/// More than 24 bits can be.
const INVALID: u32 = u32::MAX;

const fn bits(shift: u32) -> [u32; 256] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = [INVALID; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        bits[ALPHABET[value] as usize] = (value as u32) << shift;
        value += 1;
    }
    bits
}

/// The longest that a text of so many characters decodes to.
pub(crate) const fn decoded_len(len: usize) -> usize {
    len / 4 * 3 + 2
}

/// Decodes into the front of `buffer`. `None` where the text is not what encoding gives, or the buffer is too short.
pub(crate) fn decode<'a>(text: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let (quads, rest) = text.as_chunks::<4>();
    let rest_len = [Some(0), None, Some(1), Some(2)][rest.len()]?;
    let decoded = buffer.get_mut(..quads.len() * 3 + rest_len)?;
    let (triples, last) = decoded.as_chunks_mut::<3>();
    let mut seen = 0;
    for (quad, triple) in quads.iter().zip(triples) {
        let bits = join(quad);
        seen |= bits;
        let [_, bytes @ ..] = bits.to_be_bytes();
        *triple = bytes;
    }
    // `A` stands for no bits; those that a byte has no room for must be none.
    let mut quad = [b'A'; 4];
    quad[..rest.len()].copy_from_slice(rest);
    let bits = join(&quad);
    let [_, bytes @ ..] = bits.to_be_bytes();
    let (used, unused) = bytes.split_at(rest_len);
    last.copy_from_slice(used);
    let is_canonical = (seen | bits) >> 24 == 0 && unused.iter().all(|byte| *byte == 0);
    is_canonical.then_some(decoded)
}

/// The 24 bits of four characters.
#[inline]
fn join(quad: &[u8; 4]) -> u32 {
    let [a, b, c, d] = quad.map(usize::from);
    BITS[0][a] | BITS[1][b] | BITS[2][c] | BITS[3][d]
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        decode(text.as_bytes(), &mut vec![0; decoded_len(text.len())]).map(<[u8]>::to_vec)
    }

    proptest! {
        #[test]
        fn it_is_what_base64_decodes(text in "[A-Za-z0-9_-]{0,40}[-_Aaz09+/=.é ]{0,3}") {
            prop_assert_eq!(decoded(&text), URL_SAFE_NO_PAD.decode(&text).ok());
        }

        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decoded(&URL_SAFE_NO_PAD.encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn ends_are_those_of_base64() {
        const CHARACTERS: &[u8] = b"ABQgwxyz09-_+/=.";
        for text in ["", "AAAA"] {
            for a in CHARACTERS {
                for b in CHARACTERS {
                    for end in [&[*a][..], &[*a, *b], &[b'A', *a, *b], &[b'A', b'A', *a, *b]] {
                        let text = format!("{text}{}", std::str::from_utf8(end).unwrap());
                        assert_eq!(decoded(&text), URL_SAFE_NO_PAD.decode(&text).ok(), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_is_no_panic() {
        assert_eq!(decode(b"AAAA", &mut [0; 2]), None);
        assert_eq!(decode(b"AAA", &mut [0; 1]), None);
        assert_eq!(decode(b"AA", &mut []), None);
        assert_eq!(decode(b"", &mut []), Some(&[][..]));
    }
}
