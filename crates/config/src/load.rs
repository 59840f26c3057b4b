//! From sources to settings.

use crate::{builder::SettingsBuilder, fault::ConfigError, report::Report, settings::Settings, sources};

impl SettingsBuilder {
    /// Makes the settings from what was set in code alone.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn build(self) -> Result<Settings, ConfigError> {
        Report::new(sources::of_code(self.code, &self.surroundings), &self.parts).into_settings()
    }

    /// Makes the settings from all sources. If several give a value, the first of these counts:
    ///
    /// 1. what was set in code,
    /// 2. the environment variables `FASTAUTH_…`, one for each key, such as `FASTAUTH_MASTER_TOKEN`; a list is JSON, or has
    ///    commas between its items,
    /// 3. the configuration file,
    /// 4. the environment variables `MASTER_TOKEN`, `CRYPTOGRAPHY_KEY`, `PREVIOUS_CRYPTOGRAPHY_KEYS` and
    ///    `CRYPTOGRAPHY_KEY_SIGNS_FROM`, or the files that `MASTER_TOKEN_FILE` and so on name,
    /// 5. the same four in `.env`, beside the configuration file or else in the working directory. The process's environment is
    ///    not written to.
    ///
    /// # Errors
    ///
    /// Every fault at once: in all sources, also in values that another source overrides.
    pub fn load(self) -> Result<Settings, ConfigError> {
        self.report().into_settings()
    }

    /// Reads all sources as [`load`](Self::load) does, and reports where each value came from, faults or not.
    #[must_use]
    pub fn report(self) -> Report {
        let mut report = Report::new(sources::read(self.code.clone(), &self.surroundings), &self.parts);
        let files = report.files().clone();
        if let Some(settings) = &mut report.settings {
            settings.sources = Some(self);
            settings.files = files;
        }
        report
    }
}
