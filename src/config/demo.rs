//! Rules for the flags of `longtail demo`.

use super::{BadConfig, Demo};

impl Demo {
    /// Checks rules that involve more than one flag of the demo. [`Config::check`] checks the rules for the other
    /// flags.
    ///
    /// # Errors
    ///
    /// The first invalid combination.
    pub fn check(&self) -> Result<(), BadConfig> {
        if let Some(flag) = self.config.access.guarded_by() {
            return Err(BadConfig::new(format!("the demo's page has no credentials: leave {flag} out")));
        }
        if !self.config.access.open && !self.weather_listen.ip().is_loopback() {
            return Err(BadConfig::new(format!(
                "--weather-listen {} can be reached from other machines: use a loopback address, or set --open to \
                 allow everybody",
                self.weather_listen
            )));
        }
        Ok(())
    }
}
