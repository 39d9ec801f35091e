//! Why every address is what it is: the chain of decisions behind a registration, a call or a peer,
//! each with what it was decided from and where the rule stands. Plain values: JSON is the shell's.

pub(super) mod network;
pub mod usage;

use crate::config::Config;
use crate::engine::Engine;

/// Where a key stands: `towpath.toml:31`; none if it was not written.
pub(super) fn place(_config: &Config, _key: &str) -> Option<String> {
    None
}

impl Engine {
    /// The same of the configuration that runs.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<String> {
        place(&self.config, key)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use crate::config::Config;
    use crate::config::check::check;

    /// A configuration with these networks.
    pub(in crate::engine) fn config(networks: &str) -> Config {
        let text = format!("[sip]\ndomain = 'example.com'\nauth = 'none'\n{networks}");
        let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        check("towpath.toml", &text, None, &mut none).unwrap()
    }
}
