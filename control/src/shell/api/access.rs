//! Who asks, and whether they may: users of the Unix socket by their credentials, everybody else
//! by a token; each with a limit of its own.

pub(super) mod limit;
pub(super) mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bus;
use crate::config::api::{Api as Settings, MetricsFor};
use crate::shell::api::error::Problem;
use crate::shell::api::table::{Role, Route};

use limit::{Failures, Rates};
use token::Tokens;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Of the Unix socket; none if the system does not tell.
    User {
        uid: Option<u32>,
        /// It owns the socket.
        owner: bool,
    },
    Address(SocketAddr),
}

impl Origin {
    pub(crate) fn address(&self) -> String {
        match self {
            Self::User { .. } => "unix".to_owned(),
            Self::Address(from) => from.ip().to_canonical().to_string(),
        }
    }

    fn source(&self) -> Option<IpAddr> {
        match self {
            Self::User { .. } => None,
            Self::Address(from) => Some(from.ip()),
        }
    }
}

/// Whoever asks, as the rest of the API knows them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Principal {
    /// `uid 0`, `token grafana`, `nobody`.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) address: String,
}

/// What was asked, and what came of it.
pub(super) struct Counts {
    /// By operation and class of status.
    pub(super) requests: Vec<(String, u16, u64)>,
    /// By the code of the refusal.
    pub(super) refused: Vec<(&'static str, u64)>,
}

/// Why somebody may not, and how long they should wait.
pub(super) type Refusal = (Problem, Option<Duration>);

pub(crate) struct Access {
    inner: Mutex<Inner>,
}

struct Inner {
    tokens: Tokens,
    rates: Rates,
    failures: Failures,
    metrics: MetricsFor,
    /// Requests by operation and class of status.
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Access {
    pub(crate) fn new(state_dir: &Path, settings: &Settings) -> Self {
        let inner = Inner {
            tokens: Tokens::open(state_dir),
            rates: Rates::new(settings.rate),
            failures: Failures::default(),
            metrics: settings.metrics,
            requests: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn configure(&self, settings: &Settings) {
        let mut inner = self.lock();
        inner.rates.set(settings.rate);
        inner.metrics = settings.metrics;
    }

    /// Who it is; `bearer` is the token shown, if one is.
    ///
    /// # Errors
    /// The token is nobody's, or too many such came from there.
    pub(super) fn principal(
        &self,
        origin: Origin,
        bearer: Option<&str>,
        now: (Instant, u64),
    ) -> Result<Principal, Refusal> {
        let address = origin.address();
        if let Origin::User { uid, owner } = origin {
            let (name, role) = match uid {
                Some(uid) if uid == 0 || owner => (format!("uid {uid}"), Role::Admin),
                // The socket's mode let them in: they are in its group.
                Some(uid) => (format!("uid {uid}"), Role::Operator),
                None => ("unknown".to_owned(), Role::Viewer),
            };
            let principal = Principal {
                name,
                role,
                address,
            };
            return Ok(principal);
        }
        let Some(bearer) = bearer else {
            return Ok(Principal {
                name: NOBODY.to_owned(),
                role: Role::Anyone,
                address,
            });
        };
        let mut inner = self.lock();
        // Whoever has a token is let in however many guesses come from the same address.
        if let Some((name, role)) = inner.tokens.find(bearer, now.1) {
            let name = format!("token {name}");
            return Ok(Principal {
                name,
                role,
                address,
            });
        }
        let source = origin.source();
        match source.and_then(|source| inner.failures.note(source, now.0)) {
            Some(wait) => Err((Problem::TOO_MANY_FAILURES, Some(wait))),
            None => Err((Problem::BAD_TOKEN, None)),
        }
    }

    /// Whom a token of that name stands for at the MQTT edge: a viewer's reads, all others command.
    pub(crate) fn on_the_bus(&self, name: &str, token: &str, now_s: u64) -> Option<bus::Principal> {
        if !token.starts_with(token::PREFIX) {
            return None;
        }
        let (own, role) = self.lock().tokens.find(token, now_s)?;
        (own == name).then(|| on_the_bus(own, role))
    }

    /// Whether a token still stands for that.
    pub(crate) fn is_still(&self, who: &bus::Principal, now_s: u64) -> bool {
        let inner = self.lock();
        let mut valid = inner.tokens.valid(now_s);
        valid.any(|(name, role)| on_the_bus(name.to_owned(), role) == *who)
    }

    /// Whether it is for whoever can connect.
    pub(super) fn is_open(&self, route: &Route) -> bool {
        let open = || self.lock().metrics == MetricsFor::Anyone;
        route.role == Role::Anyone || (route.path == METRICS && open())
    }

    /// Whether they may do this now.
    pub(super) fn admit(
        &self,
        principal: &Principal,
        route: &Route,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.is_open(route) {
            return Ok(());
        }
        let mut inner = self.lock();
        if principal.role == Role::Anyone {
            return Err((Problem::UNAUTHORIZED, None));
        }
        if principal.role < route.role {
            return Err((Problem::FORBIDDEN, None));
        }
        match inner.rates.take(&principal.name, now) {
            Some(wait) => Err((Problem::TOO_MANY_REQUESTS, Some(wait))),
            None => Ok(()),
        }
    }

    pub(super) fn count(&self, route: &'static Route, status: u16) {
        let mut inner = self.lock();
        let key = (route.verb.name(), route.path, status / 100);
        let count = inner.requests.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn count_refused(&self, reason: &'static str) {
        let mut inner = self.lock();
        let count = inner.refused.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// Requests by operation and class, and refusals by reason.
    pub(super) fn counts(&self) -> Counts {
        let inner = self.lock();
        let requests = inner.requests.iter();
        let requests = requests.map(|((verb, path, class), count)| {
            let route = format!("{verb} {path}");
            (route, *class, *count)
        });
        let refused = inner
            .refused
            .iter()
            .map(|(reason, count)| (*reason, *count));
        Counts {
            requests: requests.collect(),
            refused: refused.collect(),
        }
    }

    pub(super) fn tokens<T>(&self, ask: impl FnOnce(&mut Tokens) -> T) -> T {
        ask(&mut self.lock().tokens)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const NOBODY: &str = "nobody";
const METRICS: &str = "/metrics";
fn on_the_bus(name: String, role: Role) -> bus::Principal {
    match role {
        Role::Anyone | Role::Viewer => bus::Principal::Viewer(name),
        Role::Operator | Role::Admin => bus::Principal::Operator(name),
    }
}
