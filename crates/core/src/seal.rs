//! Encryption by Fernet, for `store-format: "fernet"` and for tickets.
//!
//! It needs the feature `fernet`. Without it there is no [`Sealer`], so nothing is encrypted and nothing can be opened.

#[cfg(feature = "fernet")]
pub(crate) use with_fernet::Sealer;
#[cfg(not(feature = "fernet"))]
pub(crate) use without_fernet::Sealer;

/// True if this build can encrypt.
pub const CAN_ENCRYPT: bool = cfg!(feature = "fernet");

#[cfg(feature = "fernet")]
mod with_fernet {
    use fernet::Fernet;

    use crate::secret::Secret;

    /// A key that encrypts.
    pub(crate) struct Sealer(Fernet);

    impl Sealer {
        /// Takes a key; `None` if it is not a Fernet key.
        pub(crate) fn new(key: &Secret) -> Option<Self> {
            Fernet::new(key.expose()).map(Self)
        }

        pub(crate) fn seal(&self, content: &[u8]) -> Secret {
            Secret::from(self.0.encrypt(content))
        }

        /// Decrypts what [`seal`](Self::seal) returned; `None` if this key did not encrypt it.
        pub(crate) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
            self.0.decrypt(sealed).ok()
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
