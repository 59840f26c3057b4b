//! Changing a configuration where it stands: for the program.

mod json;
mod keys;

pub use keys::{KeyChange, KeyChangeError, KeySetting};
