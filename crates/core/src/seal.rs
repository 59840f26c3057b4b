//! Encryption by Fernet, for `store-format: "fernet"` and for tickets.
//!
//! It needs the feature `fernet`. Without it there is no [`Sealer`], so nothing is encrypted and nothing can be opened.

#[cfg(feature = "fernet")]
pub(crate) use with_fernet::Sealer;
#[cfg(not(feature = "fernet"))]
pub(crate) use without_fernet::Sealer;

/// True if this build can encrypt.
pub const CAN_ENCRYPT: bool = cfg!(feature = "fernet");

/// Fernet by its specification (<https://github.com/fernet/spec>): AES-128 in CBC mode, and HMAC with SHA-256 over all of it. The
/// crate `fernet` brings an earlier version of each of its parts.
#[cfg(feature = "fernet")]
mod with_fernet {
    use std::time::{SystemTime, UNIX_EPOCH};

    use aes::Aes128;
    use base64::{
        Engine,
        prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
    };
    use cbc::{
        Decryptor, Encryptor,
        cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7},
    };
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;
    use zeroize::Zeroizing;

    use crate::{random::random_bytes, secret::Secret};

    const VERSION: u8 = 0x80;
    const IV_LEN: usize = 16;
    /// The length of the version, the time and the initialization vector.
    const HEAD_LEN: usize = 1 + 8 + IV_LEN;
    const MAC_LEN: usize = 32;
    /// How far the clock that sealed may be ahead, in seconds.
    const MAX_CLOCK_SKEW: u64 = 60;

    /// A key that encrypts.
    pub(crate) struct Sealer {
        mac: Hmac<Sha256>,
        key: Zeroizing<[u8; 16]>,
    }

    impl Sealer {
        /// Takes a key; `None` if it is not a Fernet key.
        pub(crate) fn new(key: &Secret) -> Option<Self> {
            let key = Zeroizing::new(decode(key.expose())?);
            let (signing, encryption) = key.split_first_chunk::<16>()?;
            let mac = Hmac::new_from_slice(signing).ok()?;
            Some(Self { mac, key: Zeroizing::new(encryption.try_into().ok()?) })
        }

        pub(crate) fn seal(&self, content: &[u8]) -> Secret {
            self.seal_at(content, unix_now(), random_bytes())
        }

        fn seal_at(&self, content: &[u8], unix_time: u64, iv: [u8; IV_LEN]) -> Secret {
            let cipher = Encryptor::<Aes128>::new((&*self.key).into(), (&iv).into());
            let mut sealed = vec![VERSION];
            sealed.extend(unix_time.to_be_bytes());
            sealed.extend(iv);
            sealed.extend(cipher.encrypt_padded_vec::<Pkcs7>(content));
            let mac = self.mac.clone().chain_update(&sealed).finalize().into_bytes();
            sealed.extend(mac);
            Secret::from(BASE64_URL_SAFE.encode(sealed))
        }

        /// Decrypts what [`seal`](Self::seal) returned; `None` if this key did not encrypt it.
        pub(crate) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
            self.open_at(sealed, unix_now())
        }

        fn open_at(&self, sealed: &str, now: u64) -> Option<Vec<u8>> {
            let sealed = decode(sealed)?;
            let (signed, mac) = sealed.split_last_chunk::<MAC_LEN>()?;
            self.mac.clone().chain_update(signed).verify_slice(mac).ok()?;
            let (head, content) = signed.split_first_chunk::<HEAD_LEN>()?;
            let (version, head) = head.split_first()?;
            let (time, iv) = head.split_first_chunk()?;
            let iv: &[u8; IV_LEN] = iv.try_into().ok()?;
            if *version != VERSION || u64::from_be_bytes(*time) > now.saturating_add(MAX_CLOCK_SKEW) {
                return None;
            }
            let cipher = Decryptor::<Aes128>::new((&*self.key).into(), iv.into());
            cipher.decrypt_padded_vec::<Pkcs7>(content).ok()
        }
    }

    /// Decodes with or without padding, as other libraries read keys and tokens.
    fn decode(text: &str) -> Option<Vec<u8>> {
        BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
    }

    fn unix_now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    #[cfg(test)]
    mod tests {
        use fernet::Fernet;
        use proptest::prelude::*;

        use super::*;

        const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
        /// 1985-10-26T01:20:00-07:00, the time of the specification's examples.
        const THEN: u64 = 499_162_800;

        fn sealer() -> Sealer {
            Sealer::new(&Secret::from(KEY)).unwrap()
        }

        #[test]
        fn examples_of_the_specification_hold() {
            const HELLO: &str =
                "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
            let iv = std::array::from_fn(|at| at as u8);
            assert_eq!(sealer().seal_at(b"hello", THEN, iv).expose(), HELLO);
            assert_eq!(sealer().open_at(HELLO, THEN + 1), Some(b"hello".to_vec()));
            for (fault, sealed) in [
                (
                    "incorrect mac",
                    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
                ),
                ("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="),
                (
                    "invalid base64",
                    "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
                ),
                (
                    "payload size not multiple of block size",
                    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
                ),
                (
                    "payload padding error",
                    "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
                ),
                (
                    "far-future TS (unacceptable clock skew)",
                    "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
                ),
                (
                    "incorrect IV (causes padding error)",
                    "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
                ),
            ] {
                assert_eq!(sealer().open_at(sealed, THEN + 1), None, "{fault}");
            }
        }

        #[test]
        fn key_of_another_length_is_refused() {
            for key in
                ["", "YQ==", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4Q==", "a key of at least thirty-two bytes"]
            {
                assert!(Sealer::new(&Secret::from(key)).is_none(), "{key}");
                assert!(Fernet::new(key).is_none(), "{key}");
            }
        }

        #[test]
        fn every_changed_byte_is_noticed() {
            let sealed = BASE64_URL_SAFE.decode(sealer().seal(b"some content").expose()).unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(sealer().open(&BASE64_URL_SAFE.encode(changed)), None, "{at}");
                assert_eq!(sealer().open(&BASE64_URL_SAFE.encode(&sealed[..at])), None, "{at}");
            }
        }

        proptest! {
            #[test]
            fn another_library_opens_what_is_sealed_and_the_other_way_round(content: Vec<u8>) {
                let fernet = Fernet::new(KEY).unwrap();
                prop_assert_eq!(fernet.decrypt(sealer().seal(&content).expose()).ok(), Some(content.clone()));
                prop_assert_eq!(sealer().open(&fernet.encrypt(&content)), Some(content));
            }
        }
    }
}

#[cfg(not(feature = "fernet"))]
mod without_fernet {
    use crate::secret::Secret;

    /// There is no key that encrypts.
    pub(crate) enum Sealer {}

    impl Sealer {
        pub(crate) fn new(_: &Secret) -> Option<Self> {
            None
        }

        pub(crate) fn seal(&self, _: &[u8]) -> Secret {
            match *self {}
        }

        pub(crate) fn open(&self, _: &str) -> Option<Vec<u8>> {
            match *self {}
        }
    }
}
