//! The API: axum on the Unix socket. Handlers hold no logic; the loop answers.

mod access;
mod audit;
mod ban;
mod bpf;
mod capture;
mod conference;
pub(super) mod config;
pub(super) mod doctor;
mod door;
mod drain;
mod error;
mod guard;
mod health;
mod history;
mod ladder;
mod links;
mod log;
mod metrics;
mod mqtt;
mod openapi;
mod page;
mod pulse;
mod repeat;
mod route;
mod stream;
mod table;
mod token;
mod top;
mod wire;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::FromRef;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::engine::admin::Command;
use crate::shell::audit::{Audit, Entry};
use crate::shell::capture::Limits;
use crate::shell::reload::Why;
use crate::shell::{Question, Shell, clock, plane};

pub(crate) use access::Access;
pub(crate) use bpf::Rates;
pub(crate) use door::{Certificate, Doors, certificate};
use error::Problem;
use history::History;
use pulse::Pulse;
use repeat::Repeats;
use stream::News;

/// What handlers work with; each takes its part (`axum::extract::FromRef`).
#[derive(Clone)]
pub(crate) struct Api {
    questions: mpsc::Sender<Question>,
    plane: plane::Handle,
    pub(crate) access: Arc<Access>,
    pub(crate) audit: Arc<Audit>,
    repeats: Arc<Repeats>,
    pulse: Arc<Pulse>,
    news: Arc<News>,
    history: Arc<History>,
}

impl Api {
    pub(super) fn new(
        config: &Config,
        questions: mpsc::Sender<Question>,
        plane: plane::Handle,
        access: Arc<Access>,
    ) -> Self {
        let state_dir = &config.node.state_dir;
        Self {
            questions,
            plane,
            access,
            audit: Arc::new(Audit::open(state_dir)),
            repeats: Arc::default(),
            pulse: Arc::default(),
            news: Arc::default(),
            history: Arc::default(),
        }
    }
}

impl FromRef<Api> for mpsc::Sender<Question> {
    fn from_ref(api: &Api) -> Self {
        api.questions.clone()
    }
}

impl FromRef<Api> for plane::Handle {
    fn from_ref(api: &Api) -> Self {
        api.plane.clone()
    }
}

impl Api {
    /// The daemon runs: the first line of its audit log.
    pub(crate) fn started(&self, generation: u64) {
        self.audit.set_generation(generation);
        self.audit.note(&Entry {
            who: "daemon",
            address: "-",
            what: "start",
            result: "done",
        });
    }

    /// What a signal or the file did.
    pub(crate) fn reloaded(&self, by: &'static str, result: &str) {
        self.audit.note(&Entry {
            who: by,
            address: "-",
            what: "reload",
            result,
        });
    }
}

/// Something a client wants, on its way to the loop.
pub(crate) struct Ask {
    what: What,
    reply: oneshot::Sender<Result<Value, Problem>>,
}

enum What {
    Status,
    MqttClients,
    Calls,
    Top(top::Wanted),
    Call(u64),
    CallExplained(u64),
    Ladder(ladder::Wanted),
    /// After this number.
    Events {
        since: u64,
        filter: stream::Filter,
    },
    Registrations,
    Registration(String),
    RegistrationExplained(String),
    Networks,
    Bans,
    Drain,
    /// Everything `doctor` checks, when it is found out.
    Doctor {
        done: oneshot::Sender<Value>,
    },
    Peers,
    Links,
    Bpf,
    /// What would happen to a peer, at one address of ours or at each.
    PeerExplained {
        ip: IpAddr,
        local: Option<IpAddr>,
    },
    Metrics,
    Capture {
        call: u64,
        limits: Limits,
        done: oneshot::Sender<Vec<u8>>,
    },
    Order(Command),
}

/// Opens the socket: only its owner and group may use it. Who connects is answered once it is
/// served.
///
/// # Errors
/// If another daemon answers on it, or the directory cannot be written.
pub(crate) fn claim(path: &Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another towpath is running: it answers on {}",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Ok(()) => tracing::debug!(socket = %path.display(), "removed a socket nobody answers on"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("cannot remove the old API socket"),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot open the API socket {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .context("cannot restrict the API socket")?;
    Ok(listener)
}

/// Answers on the Unix socket, and wherever the configuration says.
pub(crate) fn serve(api: Api, socket: UnixListener, path: &Path) -> Doors {
    Doors::new(route::router(api), socket, path)
}

/// The loop's side.
pub(crate) async fn answer(ask: Ask, shell: &mut Shell) {
    let now = clock::now();
    let answer = match ask.what {
        What::Status => Ok(wire::status(shell, now)),
        What::MqttClients => Ok(wire::mqtt_clients(shell, now)),
        What::Calls => Ok(wire::calls(shell, now)),
        What::Top(wanted) => Ok(top::top(shell, &wanted, now)),
        What::Call(id) => wire::call_of(shell, id, now),
        What::CallExplained(id) => wire::call_explained(shell, id, now),
        What::Ladder(wanted) => ladder::ladder(shell, &wanted, now),
        What::Events { since, filter } => Ok(wire::events(shell, since, &filter, now)),
        What::Registrations => Ok(wire::registrations(shell, now)),
        What::Registration(aor) => wire::registrations_of(shell, &aor, now),
        What::RegistrationExplained(aor) => wire::registration_explained(shell, &aor, now),
        What::PeerExplained { ip, local } => wire::peer_explained(shell, ip, local, now),
        What::Doctor { done } => shell.look_now(done),
        What::Networks => Ok(wire::networks(shell, now)),
        What::Peers => Ok(wire::peers(shell, now)),
        What::Links => Ok(links::links(shell, now)),
        What::Bans => Ok(wire::bans(shell, now)),
        What::Drain => Ok(drain::document(shell, now)),
        What::Bpf => Ok(bpf::bpf(shell, clock::wall())),
        What::Metrics => Ok(Value::String(metrics::metrics(shell, now))),
        What::Capture { call, limits, done } => {
            capture::start(shell, call, limits, done, now).await
        }
        What::Order(Command::ProbePeer { name }) if links::probe(shell, &name) => {
            Ok(serde_json::json!({ "done": true }))
        }
        What::Order(command) => shell
            .engine
            .command(command, now)
            .map(|()| serde_json::json!({ "done": true }))
            .map_err(Problem::from),
    };
    // The client may have gone; nothing is owed to it then.
    drop(ask.reply.send(answer));
}

/// The stable name of a refusal.
pub(crate) fn code(why: Why) -> &'static str {
    config::code(why).1
}

/// A reason as a name in metrics and documents: `Bad Via` is `bad_via`, `INVITE` stays.
fn label(reason: &str) -> String {
    let words = reason.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    match words[..] {
        [word] => word.to_owned(),
        _ => words.join("_").to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_names() {
        for (reason, name) in [
            ("held", "held"),
            ("INVITE", "INVITE"),
            ("no_ports", "no_ports"),
            ("Bad Via", "bad_via"),
            ("CSeq Method Mismatch", "cseq_method_mismatch"),
            (
                "same source, but not its sequence",
                "same_source_but_not_its_sequence",
            ),
        ] {
            assert_eq!(label(reason), name);
        }
    }
}
