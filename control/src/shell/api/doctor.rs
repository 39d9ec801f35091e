//! The host, looked at by the daemon: all of it when asked, what costs little every minute. And
//! knocks: small packets that another node asks for, to see whether they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use crate::config::Config;
use crate::doctor::facts::{ConfigFile, Running};
use crate::doctor::{Finding, Status};
use crate::shell::Shell;
use crate::shell::api::What;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Body, CHANGE, Route, VIEW, schema};
use crate::shell::clock;
use crate::shell::doctor::{Look, TOKEN_PREFIX, call, connect, document, examine, knock};

/// How often what costs little is looked at again; not at the start, when everything moves.
pub(in crate::shell) const EVERY: Duration = Duration::from_secs(60);

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/doctor",
        about: "Looks at the host and says what is wrong with it, and what to type; takes seconds",
        answer: Answer::Document(schema!("doctor")),
        refuses: &[Problem::DOCTOR_BUSY],
        handler: || get(doctor),
        ..VIEW
    },
    Route {
        path: "/api/v1/doctor/knock",
        about: "Sends one small packet to each of some ports of one address, for another node's \
                doctor to see whether they arrive",
        body: Body::Document(
            schema!("knock-order"),
            r#"{"token": "towpath-knock-0123456789abcdef", "targets": ["203.0.113.9:30000"]}"#,
        ),
        refuses: &[Problem::BAD_KNOCK, Problem::TOO_MANY_KNOCKS],
        handler: || post(knocks),
        ..CHANGE
    },
    Route {
        path: "/api/v1/doctor/sip",
        about: "Sends one SIP request to a port and tries some TCP ports of the same address, for \
                another node's doctor to see whether they arrive, and as they were sent",
        body: Body::Document(
            schema!("sip-order"),
            r#"{"token": "towpath-knock-0123456789abcdef", "target": "203.0.113.9:5060",
                "tcp": ["203.0.113.9:5060"]}"#,
        ),
        answer: Answer::Document(schema!("sip-sent")),
        refuses: &[Problem::BAD_KNOCK, Problem::TOO_MANY_KNOCKS],
        handler: || post(calls),
        ..CHANGE
    },
];

/// What was found last, and who looks now.
#[derive(Clone)]
pub(in crate::shell) struct Latest {
    findings: Arc<Mutex<Vec<Finding>>>,
    looking: Arc<Semaphore>,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            findings: Arc::default(),
            // One at a time: it starts programs.
            looking: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Latest {
    fn read<T>(&self, look: impl FnOnce(&[Finding]) -> T) -> T {
        look(&self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Findings of this look take the place of those of the same checks.
    fn keep(&self, found: Vec<Finding>) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: BTreeSet<&str> = found.iter().map(|finding| finding.id).collect();
        findings.retain(|finding| !ids.contains(finding.id));
        findings.extend(found);
        findings.sort_by_key(|finding| finding.id);
    }

    /// What failed, for `status`.
    pub(super) fn warnings(&self) -> Vec<String> {
        let line = |finding: &Finding| {
            let (id, verdict) = (finding.id, &finding.verdict);
            let first = verdict.evidence.first().map(|line| format!(" ({line})"));
            let (meaning, first) = (&verdict.meaning, first.unwrap_or_default());
            format!("{id}: {meaning}{first} `towpath doctor --check {id}` says what to do")
        };
        let failed = |finding: &&Finding| finding.status() == Status::Fail;
        self.read(|findings| findings.iter().filter(failed).map(line).collect())
    }

    /// Check and number, for metrics.
    pub(super) fn statuses(&self) -> BTreeMap<&'static str, u64> {
        let number = |finding: &Finding| match finding.status() {
            Status::Pass | Status::Skip => 0,
            Status::Warn => 1,
            Status::Fail => 2,
            Status::Unknown => 3,
        };
        self.read(|findings| findings.iter().map(|f| (f.id, number(f))).collect())
    }
}

impl Shell {
    fn look(&self, cheap: bool) -> Look {
        let kernel = self.datapath.kernel.as_ref();
        let programs = kernel.map(|kernel| kernel.attachments().into_iter().map(|a| a.program));
        let running = Running {
            pid: Some(std::process::id()),
            drift: self.drift().into_iter().collect(),
            programs: programs.map(Iterator::collect).unwrap_or_default(),
            datapath_off: kernel.err().cloned(),
        };
        Look {
            wanted: None,
            config: ConfigFile {
                path: self.options.config.clone(),
                problems: Vec::new(),
                running: Some(running),
            },
            stun: Vec::new(),
            peer: None,
            cheap,
        }
    }

    /// How the file differs from what runs, as far as it is known without looking at every key.
    fn drift(&self) -> Option<String> {
        let now = self.options.file_hash()?;
        let last = self.reloads.history.last()?;
        (now != last.hash).then(|| "the file is not what was read, or applied, last".to_owned())
    }

    fn whole(&self) -> Arc<Config> {
        Arc::new(self.engine.config().clone())
    }

    /// Looks at what costs little, beside everything else; not if somebody looks already.
    pub(in crate::shell) fn look_regularly(&self) {
        let Ok(permit) = Arc::clone(&self.doctor.looking).try_acquire_owned() else {
            return;
        };
        let (config, look, latest) = (self.whole(), self.look(true), self.doctor.clone());
        tokio::spawn(async move {
            latest.keep(examine(config, &look, |_, _, _| ()).await);
            drop(permit);
        });
    }

    /// The same of everything, for somebody who waits.
    pub(super) fn look_now(&self, done: oneshot::Sender<Value>) -> Result<Value, Problem> {
        let permit = Arc::clone(&self.doctor.looking).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::DOCTOR_BUSY)?;
        let (config, look, latest) = (self.whole(), self.look(false), self.doctor.clone());
        tokio::spawn(async move {
            let found = examine(config, &look, |_, _, _| ()).await;
            // Whoever asked may have gone; what was found stays.
            drop(done.send(document(&found)));
            latest.keep(found);
            drop(permit);
        });
        Ok(Value::Null)
    }
}

async fn doctor(events: Loop) -> Reply {
    let (done, found) = oneshot::channel();
    ask(&events, What::Doctor { done }).await?;
    found.await.map(Json).map_err(|_| Problem::BUSY)
}

/// Targets of one order, all at one address: no list of victims.
const TARGETS_MAX: usize = 64;
const TOKEN_BYTES_MAX: usize = 96;
/// Orders that follow each other sooner are refused, whoever gives them.
const KNOCKS_EVERY: Duration = Duration::from_secs(1);
/// Media has no port below it.
const PORT_MIN: u16 = 1024;

/// When somebody last had us knock.
static LAST: Mutex<Option<Instant>> = Mutex::new(None);

async fn knocks(body: Bytes) -> Reply {
    let (token, targets) = knock_order(&body).ok_or(Problem::BAD_KNOCK)?;
    if !knocks_again(clock::now()) {
        return Err(Problem::TOO_MANY_KNOCKS);
    }
    for target in targets {
        // That it does not arrive is what is to be found out.
        if let Err(error) = knock(target, &token).await {
            tracing::debug!(%target, %error, "cannot knock");
        }
    }
    Ok(Json(json!({ "done": true })))
}

/// The same as a call would be: over UDP one request, over TCP a connection that is closed at once.
async fn calls(body: Bytes) -> Reply {
    let (token, target, tcp) = call_order(&body).ok_or(Problem::BAD_KNOCK)?;
    if !knocks_again(clock::now()) {
        return Err(Problem::TOO_MANY_KNOCKS);
    }
    let sent = call(target, &token).await.unwrap_or_else(|error| {
        tracing::debug!(%target, %error, "cannot send");
        String::new()
    });
    let tried = tcp.into_iter().map(|to| async move {
        let why = connect(to).await;
        json!({ "to": to.to_string(), "why": why })
    });
    let tried = futures_util::future::join_all(tried).await;
    Ok(Json(json!({ "sent": sent, "tcp": tried })))
}

/// All at one host, as knocks are.
fn call_order(body: &[u8]) -> Option<(String, SocketAddr, Vec<SocketAddr>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let target = order.get("target")?.clone();
    let tcp = order.get("tcp")?.as_array()?.clone();
    let all: Vec<Value> = std::iter::once(target).chain(tcp).collect();
    let all = json!({ "token": order.get("token")?, "targets": all });
    let (token, mut all) = knock_order(all.to_string().as_bytes())?;
    let target = all.remove(0);
    Some((token, target, all))
}

fn knocks_again(now: Instant) -> bool {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let soon = last.is_some_and(|last| now.saturating_duration_since(last) < KNOCKS_EVERY);
    if !soon {
        *last = Some(now);
    }
    !soon
}

/// Nothing else than a knock can be sent: its token says what it is.
fn knock_order(body: &[u8]) -> Option<(String, Vec<SocketAddr>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let token = order.get("token")?.as_str()?;
    let word = token.strip_prefix(TOKEN_PREFIX)?;
    let letters = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let listed = order.get("targets")?.as_array()?;
    let target = |text: &Value| text.as_str()?.parse::<SocketAddr>().ok();
    let targets: Vec<SocketAddr> = listed.iter().map(target).collect::<Option<_>>()?;
    let first = targets.first()?.ip();
    let one = targets
        .iter()
        .all(|to| to.ip() == first && to.port() >= PORT_MIN);
    let fits = targets.len() <= TARGETS_MAX && token.len() <= TOKEN_BYTES_MAX;
    (letters && one && fits && is_host(first)).then(|| (token.to_owned(), targets))
}

fn is_host(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_knocks_are_sent_and_to_one_host() {
        let check = |token: &str, targets: &[&str], expected: bool| {
            let body = json!({ "token": token, "targets": targets }).to_string();
            let found = knock_order(body.as_bytes()).is_some();
            assert_eq!(found, expected, "{body}");
        };
        let token = "towpath-knock-0123456789abcdef";
        check(token, &["203.0.113.9:30000", "203.0.113.9:30002"], true);
        check(token, &["[2001:db8::9]:30000"], true);
        check(token, &[], false);
        check(token, &["203.0.113.9:30000", "203.0.113.10:30000"], false);
        check(token, &["203.0.113.9:53"], false);
        check(token, &["127.0.0.1:30000"], false);
        check(token, &["224.0.0.1:30000"], false);
        check(token, &["example.com:30000"], false);
        check("0123456789abcdef", &["203.0.113.9:30000"], false);
        check("towpath-knock-short", &["203.0.113.9:30000"], false);
        check(
            "towpath-knock-0123456789abcdef\r\n",
            &["203.0.113.9:30000"],
            false,
        );
        let many: Vec<String> = (0..65)
            .map(|n| format!("203.0.113.9:{}", 30_000 + n))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(token, &many, false);
        check(token, &many[..64], true);
    }
}
