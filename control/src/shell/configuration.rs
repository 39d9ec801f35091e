//! The configuration's file, and the password files it names.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::Config;
use crate::config::change::{Change, Takes, changes};
use crate::config::check::{self, Interface, Problem, TEXT_BYTES_MAX, later};

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
    /// The configuration as the daemon runs it, and where it stands.
    pub(super) fn read(&self, host: &[Interface]) -> anyhow::Result<(Config, Source)> {
        let source = match &self.config {
            Some(file) => Source::open(file)?,
            None => Source {
                name: "embedded defaults".to_owned(),
                text: check::defaults(host),
            },
        };
        let mut config = source.check(Some(host))?;
        if let Some(socket) = &self.socket {
            config.node.socket.clone_from(socket);
            config.overrule("node.socket", "--socket");
        }
        if self.object.is_some() {
            config.datapath.object.clone_from(&self.object);
            config.overrule("datapath.object", "--object");
        }
        Ok((config, source))
    }
}

/// Reads and checks a file; without `host` interfaces are not looked at.
///
/// # Errors
/// It cannot be read, or what is wrong with it: then the error is a [`Refused`].
pub fn read(file: &Path, host: Option<&[Interface]>) -> anyhow::Result<Config> {
    Ok(Source::open(file)?.check(host)?)
}

/// A configuration's text, to point into.
pub(super) struct Source {
    name: String,
    text: String,
}

impl Source {
    fn open(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        let bytes = bytes(file, TEXT_BYTES_MAX).with_context(|| {
            format!("cannot read {name}: name a file that exists and that this user may read")
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
        })
    }

    /// What turned out only when the daemon acted on a key; the first of `keys` that is written is
    /// pointed at.
    pub(super) fn refuse(&self, keys: &[&str], message: String, help: &str) -> Refused {
        Refused {
            name: self.name.clone(),
            problems: vec![later::problem(&self.name, &self.text, keys, message, help)],
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
    name: String,
    pub problems: Vec<Problem>,
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

/// SIGHUP. This version applies a configuration at start only: says what would change.
pub(super) fn reload(options: &Options, running: &Config, host: &[Interface]) {
    if options.config.is_none() {
        tracing::info!("SIGHUP: started without a configuration file, so there is none to read");
        return;
    }
    let new = match options.read(host) {
        Ok((new, _)) => new,
        Err(error) => {
            let refused = error.downcast_ref::<Refused>();
            for problem in refused.iter().flat_map(|refused| &refused.problems) {
                tracing::error!("{problem}");
            }
            tracing::error!("SIGHUP: {error:#}; nothing has changed");
            return;
        }
    };
    let changes = changes(running, &new, &|_| 0);
    if changes.is_empty() {
        tracing::info!("SIGHUP: the configuration is the one that runs");
        return;
    }
    let changed = list(&changes);
    tracing::info!(
        changed,
        "SIGHUP: the configuration is good, but this version takes it at a restart: `systemctl \
         restart towpath`; media in the kernel goes on meanwhile"
    );
}

/// Keys, each with what it will take once reload is there.
fn list(changes: &[Change]) -> String {
    let takes = |takes| match takes {
        Takes::Hot => "hot",
        Takes::Drain => "drain",
        Takes::Restart => "restart",
    };
    let one = |change: &Change| format!("{} ({})", change.key, takes(change.takes));
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
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
            addresses: vec!["10.0.0.3".parse().unwrap()],
        };
        let options = Options {
            socket: Some("/tmp/s".into()),
            object: Some("/tmp/o".into()),
            ..Options::default()
        };
        let (config, _) = options.read(std::slice::from_ref(&lan)).unwrap();
        assert_eq!(config.node.socket, Path::new("/tmp/s"));
        assert_eq!(config.datapath.object.as_deref(), Some(Path::new("/tmp/o")));
        let (config, _) = Options::default().read(&[lan]).unwrap();
        assert_eq!(config.node.socket, Path::new("/run/towpath/towpath.sock"));
    }

    #[test]
    fn changes_are_listed_with_what_they_take() {
        let change = |key: &str, takes| Change {
            key: key.to_owned(),
            takes,
            old: crate::config::entry::Value::Unset,
            new: crate::config::entry::Value::Unset,
            calls: 0,
        };
        let changes = [
            change("sip.auth", Takes::Hot),
            change("network", Takes::Restart),
        ];
        assert_eq!(list(&changes), "sip.auth (hot), network (restart)");
    }
}
