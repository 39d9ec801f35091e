//! Bearer tokens (RFC 6750): what a client shows, of which only the SHA-256 is kept, in a file of
//! `state_dir`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::shell::api::error::Problem;
use crate::shell::api::table::Role;
use crate::shell::clock;
use crate::shell::hex::{hex, sha256};

/// Tokens at a time.
pub(in crate::shell::api) const TOKENS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// How often a use is written down.
const USE_EVERY_S: u64 = 60;
const FILE: &str = "tokens.json";
/// So that it is recognised where it must not be, in a log or a repository.
pub(super) const PREFIX: &str = "towpath_";

/// One that was given to somebody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::shell::api) struct Token {
    pub(in crate::shell::api) name: String,
    pub(in crate::shell::api) role: String,
    /// In hexadecimal.
    sha256: String,
    /// Seconds since 1970, as all of these.
    pub(in crate::shell::api) created: u64,
    pub(in crate::shell::api) expires: Option<u64>,
    pub(in crate::shell::api) used: Option<u64>,
}

pub(in crate::shell::api) struct Tokens {
    file: PathBuf,
    tokens: Vec<Token>,
    /// Why they are not kept, if they are not.
    broken: Option<String>,
}

impl Tokens {
    /// Nobody has one where the file is missing; nobody's is believed where it cannot be read.
    pub(super) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let (tokens, broken) = match fs::read(&file) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(tokens) => (tokens, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        if let Some(why) = &broken {
            tracing::error!(
                file = %file.display(),
                why,
                "no token is believed: mend the file, or remove it and create tokens anew"
            );
        }
        Self {
            file,
            tokens,
            broken,
        }
    }

    pub(in crate::shell::api) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter()
    }

    /// Whose it is. Takes as long whichever it is, and whether there is one.
    pub(super) fn find(&mut self, text: &str, now_s: u64) -> Option<(String, Role)> {
        let digest = sha256(text);
        let mut found = None;
        for (index, token) in self.tokens.iter().enumerate() {
            let same = digest.as_bytes().ct_eq(token.sha256.as_bytes());
            if bool::from(same) {
                found = Some(index);
            }
        }
        let token = self.tokens.get_mut(found?)?;
        if token.expires.is_some_and(|end| end <= now_s) {
            return None;
        }
        let role = role(&token.role)?;
        let name = token.name.clone();
        let due = token.used.is_none_or(|used| used + USE_EVERY_S <= now_s);
        if due {
            token.used = Some(now_s);
            if let Err(error) = self.write() {
                tracing::debug!(%error, "the use of a token is not written down");
            }
        }
        Some((name, role))
    }

    /// Those that have not ended, by name.
    pub(super) fn valid(&self, now_s: u64) -> impl Iterator<Item = (&str, Role)> {
        let tokens = self.tokens.iter();
        let valid = tokens.filter(move |token| token.expires.is_none_or(|end| end > now_s));
        valid.filter_map(|token| Some((token.name.as_str(), role(&token.role)?)))
    }

    /// Makes one; what is returned is shown once and not kept.
    pub(in crate::shell::api) fn create(
        &mut self,
        name: &str,
        role: Role,
        lasts_s: Option<u64>,
        secret: &[u8; 32],
    ) -> Result<(String, Token), Problem> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits);
        if !is_name || role == Role::Anyone {
            return Err(Problem::BAD_TOKEN_ORDER);
        }
        if self.tokens.iter().any(|token| token.name == name) {
            return Err(Problem::TOKEN_EXISTS);
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Problem::TOO_MANY_TOKENS);
        }
        let text = format!("{PREFIX}{}", hex(secret));
        let now_s = clock::wall_s();
        let token = Token {
            name: name.to_owned(),
            role: role.name().to_owned(),
            sha256: sha256(&text),
            created: now_s,
            expires: lasts_s.map(|lasts_s| now_s.saturating_add(lasts_s)),
            used: None,
        };
        self.tokens.push(token.clone());
        self.kept(|tokens| tokens.pop())?;
        Ok((text, token))
    }

    /// It is nobody's any more.
    pub(in crate::shell::api) fn revoke(&mut self, name: &str) -> Result<(), Problem> {
        let at = self.tokens.iter().position(|token| token.name == name);
        let at = at.ok_or(Problem::NO_SUCH_TOKEN)?;
        let token = self.tokens.remove(at);
        self.kept(|tokens| {
            tokens.insert(at, token);
            None
        })
    }

    /// Writes what there is now, or takes it back.
    fn kept(&mut self, back: impl FnOnce(&mut Vec<Token>) -> Option<Token>) -> Result<(), Problem> {
        if let Err(error) = self.write() {
            tracing::error!(file = %self.file.display(), %error, "tokens cannot be kept");
            drop(back(&mut self.tokens));
            return Err(Problem::NOT_STORED);
        }
        Ok(())
    }

    /// As a whole: a reader sees the old file or the new one.
    fn write(&self) -> io::Result<()> {
        if let Some(why) = &self.broken {
            return Err(io::Error::other(why.clone()));
        }
        let new = self.file.with_extension("new");
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        serde_json::to_writer(&mut file, &self.tokens)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&new, &self.file)
    }
}

/// The role of a name that can be given to somebody.
pub(in crate::shell::api) fn role(name: &str) -> Option<Role> {
    let roles = [Role::Viewer, Role::Operator, Role::Admin];
    roles.into_iter().find(|role| role.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("towpath-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_token_is_found_until_it_is_revoked() {
        let directory = scratch("tokens");
        let mut tokens = Tokens::open(&directory);
        let (text, _) = tokens
            .create("grafana", Role::Viewer, None, &[7; 32])
            .unwrap();
        assert_eq!(text, format!("towpath_{}", "07".repeat(32)));
        let twice = tokens.create("grafana", Role::Admin, None, &[8; 32]);
        assert_eq!(twice.unwrap_err().code, "token_exists");
        for wrong in ["", "a/b", &"x".repeat(65)] {
            let refused = tokens.create(wrong, Role::Viewer, None, &[9; 32]);
            assert_eq!(refused.unwrap_err().code, "bad_token_order", "{wrong}");
        }
        let kept = fs::read_to_string(directory.join(FILE)).unwrap();
        assert!(!kept.contains("0707"), "{kept}");
        let mut tokens = Tokens::open(&directory);
        let who = Some(("grafana".to_owned(), Role::Viewer));
        assert_eq!(tokens.find(&text, 5), who);
        assert_eq!(tokens.find(&text[1..], 5), None);
        tokens.revoke("grafana").unwrap();
        assert_eq!(tokens.find(&text, 5), None);
        assert_eq!(tokens.revoke("grafana").unwrap_err().code, "no_such_token");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_token_ends() {
        let directory = scratch("token-ends");
        let mut tokens = Tokens::open(&directory);
        let made = tokens.create("t", Role::Admin, Some(60), &[1; 32]);
        let (text, token) = made.unwrap();
        let end = token.expires.unwrap();
        assert!(tokens.find(&text, end - 1).is_some());
        assert_eq!(tokens.find(&text, end), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_broken_file_is_left_alone() {
        let directory = scratch("token-broken");
        fs::write(directory.join(FILE), "[{]").unwrap();
        let mut tokens = Tokens::open(&directory);
        let refused = tokens.create("t", Role::Admin, None, &[1; 32]);
        assert_eq!(refused.unwrap_err().code, "not_stored");
        assert_eq!(tokens.iter().count(), 0);
        assert_eq!(fs::read_to_string(directory.join(FILE)).unwrap(), "[{]");
        fs::remove_dir_all(directory).unwrap();
    }
}
