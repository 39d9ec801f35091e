//! Why every address is what it is: the chain of decisions behind a registration, a call or a peer,
//! each with what it was decided from and where the rule stands. Plain values: JSON is the shell's.

pub mod call;
pub(super) mod network;
pub mod peer;
pub mod registration;
mod steps;
pub mod usage;
pub(super) mod words;

use crate::config::Config;
use crate::engine::Engine;

/// One decision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// Its stable name: `network`, `nat`, `told`.
    pub topic: &'static str,
    pub question: &'static str,
    pub decision: String,
    /// What it was decided from.
    pub facts: Vec<String>,
    pub reason: Reason,
    /// What else it might have been.
    pub losers: Vec<Loser>,
    /// What follows from it.
    pub means: Option<String>,
}

/// The rule behind a decision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reason {
    pub words: String,
    /// The key that decided, `network.wan.advertise`; none if no key has a say.
    pub key: Option<String>,
    /// Where it stands, `towpath.toml:31`; none for a default.
    pub place: Option<String>,
}

/// A network that was not chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loser {
    pub network: String,
    pub why: String,
}

/// A chain of decisions, and in plain words what it comes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Explanation {
    pub answer: Vec<String>,
    pub steps: Vec<Step>,
}

impl Reason {
    /// A rule no key has a say in.
    fn fixed(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            ..Self::default()
        }
    }

    fn of(config: &Config, words: impl Into<String>, key: String) -> Self {
        Self {
            words: words.into(),
            place: place(config, &key),
            key: Some(key),
        }
    }
}

/// Where a key stands, `towpath.toml:31`; none if it was not written. An entry of a list that was
/// put together from elsewhere stands where the list does.
fn place(config: &Config, key: &str) -> Option<String> {
    let list = key.strip_suffix(']').and_then(|key| key.rsplit_once('['));
    config
        .origin(key)
        .or_else(|| config.origin(list.map(|(list, _)| list)?))
}

impl Engine {
    /// The same of the configuration that runs.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<String> {
        place(&self.config, key)
    }
}

#[cfg(test)]
mod tests;

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
