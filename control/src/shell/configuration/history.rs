//! The configurations that were applied, newest last: each with its number, and by whose word.

use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::shell::hex::sha256;

/// More are forgotten, the oldest first.
pub(crate) const GENERATIONS_MAX: usize = 50;
/// So are those beyond this many bytes of text.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One configuration that was accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Generation {
    #[serde(rename = "generation")]
    pub(crate) number: u64,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) by: By,
    /// SHA-256 of the text, in hexadecimal.
    pub(crate) hash: String,
    /// That of the configuration file at that time, if there was one to read.
    pub(crate) file_hash: Option<String>,
    /// What the text is called in messages.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Whose word it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub(crate) enum By {
    /// The file, when the daemon started.
    Start,
    /// The file, after SIGHUP.
    Sighup,
    /// The file, when it had changed.
    Watch,
    /// A text sent over the API.
    Api { who: String },
    /// An earlier generation, asked for over the API.
    Rollback { who: String, to: u64 },
}

impl By {
    /// For tables, logs and documents.
    pub(crate) fn source(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Sighup => "SIGHUP",
            Self::Watch => "watch",
            Self::Api { .. } => "API",
            Self::Rollback { .. } => "rollback",
        }
    }

    pub(crate) fn who(&self) -> Option<&str> {
        match self {
            Self::Start | Self::Sighup | Self::Watch => None,
            Self::Api { who } | Self::Rollback { who, .. } => Some(who),
        }
    }

    /// Whether it is not what the file says.
    pub(crate) fn is_api(&self) -> bool {
        self.who().is_some()
    }
}

/// What was applied, as far as it is remembered.
#[derive(Debug)]
pub(crate) struct History {
    generations: Vec<Generation>,
    store: Result<Store, String>,
}

impl History {
    /// Reads what an earlier daemon left; without a directory it is kept in memory only.
    pub(crate) fn open(state_dir: &std::path::Path) -> Self {
        let (store, generations) = match Store::open(state_dir) {
            Ok((store, generations)) => (Ok(store), generations),
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(
                    why,
                    "configurations that are applied are kept in memory only: a restart uses the \
                     file, whatever was applied over the API"
                );
                (Err(why), Vec::new())
            }
        };
        Self { generations, store }
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<&Generation> {
        self.generations.last()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Generation> {
        self.generations.iter().find(|g| g.number == number)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Generation> {
        self.generations.iter()
    }

    /// Why what is applied does not survive a restart.
    pub(crate) fn in_memory(&self) -> Option<&str> {
        self.store.as_ref().err().map(String::as_str)
    }

    /// Remembers a configuration that was applied; returns its number.
    pub(crate) fn push(&mut self, of: Applied) -> u64 {
        let number = self.last().map_or(1, |last| last.number.saturating_add(1));
        let generation = Generation {
            number,
            at: of.at,
            by: of.by,
            hash: sha256(&of.text),
            file_hash: of.file_hash,
            name: of.name,
            text: of.text,
        };
        if let Ok(store) = &self.store
            && let Err(error) = store.write(&generation)
        {
            let why = format!("{error:#}");
            tracing::error!(
                generation = number,
                why,
                "the configuration is in force, but a restart will not know it: free the disk, \
                 then apply it again"
            );
            self.store = Err(why);
        }
        self.generations.push(generation);
        for old in forgotten(&self.generations) {
            self.generations.retain(|g| g.number != old);
            if let Ok(store) = &self.store {
                store.remove(old);
            }
        }
        number
    }
}

/// What is remembered of a configuration.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) at: u64,
    pub(crate) by: By,
    pub(crate) file_hash: Option<String>,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Numbers of those that are too many or too large; the newest stays.
fn forgotten(generations: &[Generation]) -> Vec<u64> {
    let (mut count, mut bytes) = (0, 0_usize);
    let mut forgotten = Vec::new();
    for generation in generations.iter().rev() {
        count += 1;
        bytes = bytes.saturating_add(generation.text.len());
        if count > 1 && (count > GENERATIONS_MAX || bytes > TEXT_BYTES_MAX) {
            forgotten.push(generation.number);
        }
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64, bytes: usize) -> Generation {
        Generation {
            number,
            at: 0,
            by: By::Sighup,
            hash: String::new(),
            file_hash: None,
            name: String::new(),
            text: "x".repeat(bytes),
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let many: Vec<Generation> = (1..=52).map(|n| generation(n, 1)).collect();
        assert_eq!(forgotten(&many), [2, 1]);
        let large: Vec<Generation> = (1..=3)
            .map(|n| generation(n, TEXT_BYTES_MAX / 2 + 1))
            .collect();
        assert_eq!(forgotten(&large), [2, 1]);
        assert!(forgotten(&large[..1]).is_empty());
    }

    #[test]
    fn without_a_directory_it_is_kept_in_memory() {
        let mut history = History::open(std::path::Path::new("/does/not/exist"));
        assert!(history.in_memory().is_some());
        let applied = |text: &str| Applied {
            at: 5,
            by: By::Start,
            file_hash: None,
            name: "t".to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(history.push(applied("a")), 1);
        assert_eq!(history.push(applied("b")), 2);
        assert_eq!(history.last().unwrap().text, "b");
        assert_eq!(history.get(1).unwrap().text, "a");
        let expected = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(history.get(1).unwrap().hash, expected);
    }
}
