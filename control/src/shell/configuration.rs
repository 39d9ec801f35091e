//! The configuration's text, from wherever it comes, and the password files it names.

pub(crate) mod history;
mod store;
pub(crate) mod watch;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::check::{self, Interface, Problem, TEXT_BYTES_MAX, later};
use crate::shell::hex::sha256;

use crate::shell::Exit;
use crate::shell::sip::Tls;
use crate::shell::start;
use history::{Generation, History};

/// A password is one line.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// What the command line decides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// None: embedded defaults for the interfaces this host has.
    pub config: Option<PathBuf>,
    /// Overrides `node.socket`.
    pub socket: Option<PathBuf>,
    /// Overrides `datapath.object`.
    pub object: Option<PathBuf>,
}

impl Options {
    /// The file's text; without a file, the embedded defaults.
    pub(super) fn source(&self, host: &[Interface]) -> anyhow::Result<Source> {
        match &self.config {
            Some(file) => Source::open(file),
            None => Ok(Source {
                name: "embedded defaults".to_owned(),
                text: check::defaults(host),
            }),
        }
    }

    /// A text that does not stand in the file; what is relative in it is meant from there.
    pub(super) fn other(&self, label: &str, text: String) -> Source {
        let name = match &self.config {
            Some(file) => format!("{} ({label})", file.display()),
            None => label.to_owned(),
        };
        Source { name, text }
    }

    /// What the file holds now, if there is one and it can be read.
    pub(super) fn file_hash(&self) -> Option<String> {
        let source = Source::open(self.config.as_deref()?).ok()?;
        Some(sha256(&source.text))
    }

    /// The configuration as the daemon runs it.
    pub(super) fn check(&self, source: &Source, host: &[Interface]) -> Result<Config, Refused> {
        let mut config = source.check(Some(host))?;
        if let Some(socket) = &self.socket {
            config.node.socket.clone_from(socket);
            config.overrule("node.socket", "--socket");
        }
        if self.object.is_some() {
            config.datapath.object.clone_from(&self.object);
            config.overrule("datapath.object", "--object");
        }
        Ok(config)
    }

    /// What the daemon starts with: the last word. That is the file's, unless another text was
    /// applied over the API and the file has not changed since.
    pub(super) fn first(&self, host: &[Interface]) -> anyhow::Result<(Config, Source, History)> {
        let file = self.source(host)?;
        let history = History::open(&check::state_dir(&file.text));
        if let Some(last) = self.over_the_file(&file, history.last()) {
            let source = Source::of(last);
            let (generation, applied) = (last.number, crate::shell::clock::rfc3339(last.at));
            match self.check(&source, host) {
                Ok(config) => {
                    tracing::warn!(
                        generation,
                        applied,
                        who = last.by.who(),
                        "the configuration is one that was applied over the API, not the file's: \
                         the file has not changed since"
                    );
                    return Ok((config, source, history));
                }
                Err(refused) => {
                    refused.log();
                    tracing::error!(
                        generation,
                        "what was applied over the API does not fit this host any more: the file \
                         is used"
                    );
                }
            }
        }
        let config = self.check(&file, host)?;
        Ok((config, file, history))
    }

    /// The last generation, if it was applied over the API and the file is as it was then.
    pub(super) fn over_the_file<'g>(
        &self,
        file: &Source,
        last: Option<&'g Generation>,
    ) -> Option<&'g Generation> {
        let file = self.config.as_ref().map(|_| sha256(&file.text));
        last.filter(|last| last.by.is_api() && last.file_hash == file)
    }
}

/// Reads and checks a file; without `host` interfaces are not looked at.
///
/// # Errors
/// It cannot be read, or what is wrong with it: then the error is a [`Refused`].
pub fn read(file: &Path, host: Option<&[Interface]>) -> anyhow::Result<Config> {
    let source = Source::open(file)?;
    let config = source.check(host)?;
    Tls::load(&config).map_err(|wrong| start::tls_refused(&source, &wrong))?;
    Ok(config)
}

/// What a host is assumed to be that was told nothing.
///
/// # Errors
/// As `read`.
pub fn assumed(host: &[Interface]) -> anyhow::Result<Config> {
    let source = Options::default().source(host)?;
    Ok(source.check(Some(host))?)
}

/// The exit code of a daemon that an error kept from starting.
pub(crate) fn exit(error: &anyhow::Error) -> u8 {
    let refused = error.downcast_ref().map(|refused: &Refused| refused.exit);
    let unreadable = error.downcast_ref().map(|_: &Unreadable| Exit::NoInput);
    refused.or(unreadable).map_or(1, Exit::code)
}

/// A configuration's text, to point into.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn of(generation: &Generation) -> Self {
        Self {
            name: generation.name.clone(),
            text: generation.text.clone(),
        }
    }

    fn open(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        let bytes = bytes(file, TEXT_BYTES_MAX).map_err(|source| Unreadable {
            name: name.clone(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            anyhow::anyhow!("{name}:{line}: not UTF-8: save the file as UTF-8, or mend the line")
        })?;
        Ok(Self { name, text })
    }

    fn check(&self, host: Option<&[Interface]>) -> Result<Config, Refused> {
        let mut secrets = |path: &Path| {
            let bytes = bytes(path, SECRET_BYTES_MAX)?;
            String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
        };
        check::check(&self.name, &self.text, host, &mut secrets).map_err(|problems| Refused {
            name: self.name.clone(),
            problems,
            exit: Exit::Config,
        })
    }

    /// What turned out only when the daemon acted on a key; the first of `keys` that is written is
    /// pointed at.
    pub(super) fn refuse(&self, keys: &[&str], message: String, help: &str) -> Refused {
        Refused {
            name: self.name.clone(),
            problems: vec![later::problem(&self.name, &self.text, keys, message, help)],
            exit: Exit::Config,
        }
    }
}

/// At most one byte more than allowed: whoever checks the length will refuse it.
fn bytes(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A configuration that was refused, and why: every problem.
#[derive(Debug)]
pub struct Refused {
    pub(crate) name: String,
    pub problems: Vec<Problem>,
    /// What it makes of a start.
    pub(crate) exit: Exit,
}

/// A file that was named and is not there, or is not for us.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {name}: name a file that exists and that this user may read")]
pub(crate) struct Unreadable {
    name: String,
    source: io::Error,
}

/// The summary; the problems are shown before it.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{}: {count} problem{plural}", self.name)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// The configuration is not to blame, or not alone.
    pub(super) fn because(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub(super) fn log(&self) {
        for problem in &self.problems {
            tracing::error!("{problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_out_later_is_said_at_its_key() {
        let source = Source {
            name: "t.toml".to_owned(),
            text: "[datapath]\nmode = 'xdp'\n".to_owned(),
        };
        let refused = source.refuse(&["datapath.pin_dir", "datapath.mode"], "no".into(), "yes");
        let expected = "t.toml:2:8: no\n  |\n2 | mode = 'xdp'\n  |        ^^^^^\n  = help: yes";
        assert_eq!(refused.problems[0].to_string(), expected);
        assert_eq!(refused.to_string(), "t.toml: 1 problem");
    }

    #[test]
    fn reading_has_a_limit() {
        let endless = Path::new("/dev/zero");
        assert_eq!(bytes(endless, 10).unwrap().len(), 11);
        assert!(bytes(Path::new("/does/not/exist"), 10).is_err());
    }

    #[test]
    fn the_command_line_wins() {
        let lan = Interface {
            name: "eth1".to_owned(),
            up: true,
            addresses: vec!["10.0.0.3".parse().unwrap()],
        };
        let options = Options {
            socket: Some("/tmp/s".into()),
            object: Some("/tmp/o".into()),
            ..Options::default()
        };
        let host = std::slice::from_ref(&lan);
        let read = |options: &Options| {
            let source = options.source(host).unwrap();
            options.check(&source, host).unwrap()
        };
        let config = read(&options);
        assert_eq!(config.origin("node.socket").as_deref(), Some("--socket"));
        assert_eq!(config.node.socket, Path::new("/tmp/s"));
        assert_eq!(config.datapath.object.as_deref(), Some(Path::new("/tmp/o")));
        let config = read(&Options::default());
        assert_eq!(config.node.socket, Path::new("/run/towpath/towpath.sock"));
    }
}
