//! One floor: who may speak, and who waits to. Words and states are BFCP's (RFC 8855 §4, §5.3.17):
//! a request is pending until a chair looks at it, accepted while it waits its turn, then granted;
//! it ends once, as denied, cancelled, released or revoked.

use std::time::{Duration, Instant};

use crate::bus::moment::Now;

use super::envelope::Revision;

/// The highest priority there is (RFC 8855 §5.2.4).
pub const PRIORITY_MAX: u8 = 4;
/// What a request without one has: normal.
pub const PRIORITY: u8 = 2;

/// How a floor is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    pub holders_max: usize,
    pub queue_max: usize,
    /// How long it is held at most; none: until it is released.
    pub grant_ttl: Option<Duration>,
    /// How long a request waits at most.
    pub request_ttl: Duration,
    /// The highest a participant may ask with; a chair may ask with any.
    pub priority_max: u8,
    /// Whether a request of higher priority takes the floor from a holder of lower.
    pub preempt: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Fifo,
            holders_max: 1,
            queue_max: 32,
            grant_ttl: None,
            request_ttl: Duration::from_secs(60),
            priority_max: PRIORITY,
            preempt: false,
        }
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// A chair.
    Chair,
    /// Priority, then the order of asking.
    Fifo,
}

/// A request that has not ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Unique in its conference.
    pub id: String,
    /// Who shall have the floor.
    pub pid: String,
    /// Who asked, if another (RFC 8855 §5.2.1, beneficiary).
    pub asked_by: Option<String>,
    pub priority: u8,
    pub text: Option<String>,
    pub state: State,
    /// When it was made, then granted: time of day.
    pub since_ms: u64,
    /// When it was made.
    pub asked: Instant,
    /// When it ends by itself.
    pub until: Option<Instant>,
}

/// Where a request stands that has not ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Pending,
    Accepted,
    Granted,
}

impl State {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Granted => "granted",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    Denied,
    Cancelled,
    Released,
    Revoked,
}

impl Ended {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
            Self::Revoked => "revoked",
        }
    }
}

/// The end of a request: there is one, and only one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    pub request: Request,
    pub state: Ended,
    pub reason: String,
}

/// What has changed on a floor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    pub ended: Vec<End>,
    /// How long each request that was granted had waited.
    pub granted: Vec<Duration>,
    /// The order of those that wait, or one that came to them.
    pub queue: bool,
}

impl Changes {
    #[must_use]
    pub fn none(&self) -> bool {
        self.ended.is_empty() && self.granted.is_empty() && !self.queue
    }
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    QueueFull,
    NoSuchRequest,
    /// It holds the floor already.
    Granted,
    /// It does not hold the floor.
    NotGranted,
}

impl Refused {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoSuchRequest => "no_such_request",
            Self::Granted => "granted",
            Self::NotGranted => "not_granted",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wish {
    /// The id it gets if it is a new request.
    pub id: String,
    pub pid: String,
    pub asked_by: Option<String>,
    pub priority: u8,
    pub text: Option<String>,
    /// It comes from a chair.
    pub chair: bool,
}

/// What a chair decides (RFC 8855 §5.3.9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    Grant,
    Deny,
    Revoke,
}

/// A floor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Floor {
    pub policy: Policy,
    /// Of its last change.
    pub revision: Revision,
    holders: Vec<Request>,
    queue: Vec<Request>,
}

impl Floor {
    #[must_use]
    pub fn new(policy: Policy, revision: Revision) -> Self {
        Self {
            policy,
            revision,
            holders: Vec::new(),
            queue: Vec::new(),
        }
    }

    /// As it was kept.
    #[must_use]
    pub fn restored(policy: Policy, revision: Revision, requests: Vec<Request>) -> Self {
        let granted = |r: &Request| r.state == State::Granted;
        let (holders, queue) = requests.into_iter().partition(granted);
        Self {
            policy,
            revision,
            holders,
            queue,
        }
    }

    #[must_use]
    pub fn holders(&self) -> &[Request] {
        &self.holders
    }

    /// Those that wait, in order.
    #[must_use]
    pub fn queue(&self) -> &[Request] {
        &self.queue
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.holders.iter().chain(&self.queue)
    }

    /// The request with this id, unless it has ended.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Request> {
        self.requests().find(|request| request.id == id)
    }

    /// The open request of a participant: there is one at most.
    #[must_use]
    pub fn open(&self, pid: &str) -> Option<&Request> {
        self.requests().find(|request| request.pid == pid)
    }

    /// Its place among those that wait, from 1.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<usize> {
        let at = self.queue.iter().position(|request| request.id == id)?;
        Some(at + 1)
    }

    /// Asks for the floor. Who has asked already is told the request there is. Returned is its id.
    ///
    /// # Errors
    /// Why the request is denied.
    pub fn request(&mut self, wish: Wish, now: Now) -> Result<(String, Changes), Refused> {
        if let Some(open) = self.open(&wish.pid) {
            return Ok((open.id.clone(), Changes::default()));
        }
        let most = if wish.chair {
            PRIORITY_MAX
        } else {
            self.policy.priority_max
        };
        let priority = wish.priority.min(most);
        let accepted = wish.chair || self.policy.mode == Mode::Fifo;
        let waits = !accepted || !self.is_free_for(priority);
        if waits && self.queue.len() >= self.policy.queue_max {
            return Err(Refused::QueueFull);
        }
        let id = wish.id.clone();
        self.enqueue(Request {
            id: wish.id,
            pid: wish.pid,
            asked_by: wish.asked_by,
            priority,
            text: wish.text,
            state: if accepted {
                State::Accepted
            } else {
                State::Pending
            },
            since_ms: now.wall_ms,
            asked: now.at,
            until: now.at.checked_add(self.policy.request_ttl),
        });
        let mut changes = Changes {
            queue: true,
            ..Changes::default()
        };
        self.preempt(&mut changes);
        self.fill(now, &mut changes);
        Ok((id, changes))
    }

    /// Whether an accepted request of this priority would not have to wait.
    fn is_free_for(&self, priority: u8) -> bool {
        let lower = |holder: &Request| holder.priority < priority;
        let preempts = self.policy.preempt && self.holders.iter().any(lower);
        self.holders.len() < self.policy.holders_max || preempts
    }

    /// Behind those of its priority, before those of lower.
    fn enqueue(&mut self, request: Request) {
        let before = |other: &Request| other.priority >= request.priority;
        let at = self.queue.iter().rposition(before).map_or(0, |at| at + 1);
        self.queue.insert(at, request);
    }

    /// Its owner wants it no more, whatever has become of it meanwhile: one that waits is
    /// cancelled, one that was granted released (RFC 8855 §5.3.3). Without an id, the open one.
    ///
    /// # Errors
    /// If there is none.
    pub fn give_up(&mut self, pid: &str, id: Option<&str>, now: Now) -> Result<Changes, Refused> {
        let open = self.open(pid);
        let open = open.filter(|request| id.is_none_or(|id| request.id == id));
        let id = open.ok_or(Refused::NoSuchRequest)?.id.clone();
        let mut changes = Changes::default();
        self.end(
            &id,
            (Ended::Cancelled, Ended::Released),
            "participant",
            &mut changes,
        );
        self.fill(now, &mut changes);
        Ok(changes)
    }

    /// A chair decides. What is granted while the floor is taken waits its turn, before all that no
    /// chair has looked at.
    ///
    /// # Errors
    /// If the request is not where it must be for that.
    pub fn decide(
        &mut self,
        id: &str,
        decision: Decision,
        reason: &str,
        now: Now,
    ) -> Result<Changes, Refused> {
        let state = self.find(id).ok_or(Refused::NoSuchRequest)?.state;
        let mut changes = Changes::default();
        match (decision, state) {
            (Decision::Grant, State::Granted) | (Decision::Deny, State::Granted) => {
                return Err(Refused::Granted);
            }
            (Decision::Revoke, State::Pending | State::Accepted) => {
                return Err(Refused::NotGranted);
            }
            (Decision::Grant, State::Pending | State::Accepted) => {
                if let Some(at) = self.queue.iter().position(|request| request.id == id) {
                    let mut request = self.queue.remove(at);
                    changes.queue = request.state != State::Accepted;
                    request.state = State::Accepted;
                    let waits = |other: &Request| {
                        other.state == State::Accepted && other.priority >= request.priority
                    };
                    let at = if changes.queue {
                        self.queue.iter().rposition(waits).map_or(0, |at| at + 1)
                    } else {
                        at
                    };
                    self.queue.insert(at.min(self.queue.len()), request);
                }
            }
            (Decision::Deny, State::Pending | State::Accepted) => {
                self.end(id, (Ended::Denied, Ended::Revoked), reason, &mut changes);
            }
            (Decision::Revoke, State::Granted) => {
                self.end(id, (Ended::Denied, Ended::Revoked), reason, &mut changes);
            }
        }
        self.fill(now, &mut changes);
        Ok(changes)
    }

    /// A chair moves one that waits to another place, from 1.
    ///
    /// # Errors
    /// If it does not wait.
    pub fn reorder(&mut self, id: &str, position: usize) -> Result<Changes, Refused> {
        let at = self.queue.iter().position(|request| request.id == id);
        let Some(at) = at else {
            return Err(match self.find(id) {
                Some(_) => Refused::Granted,
                None => Refused::NoSuchRequest,
            });
        };
        let to = position
            .saturating_sub(1)
            .min(self.queue.len().saturating_sub(1));
        let request = self.queue.remove(at);
        self.queue.insert(to, request);
        Ok(Changes {
            queue: at != to,
            ..Changes::default()
        })
    }

    /// A participant is gone for good.
    pub fn lose(&mut self, pid: &str, reason: &str, now: Now) -> Changes {
        let mut changes = Changes::default();
        if let Some(id) = self.open(pid).map(|request| request.id.clone()) {
            self.end(
                &id,
                (Ended::Cancelled, Ended::Revoked),
                reason,
                &mut changes,
            );
            self.fill(now, &mut changes);
        }
        changes
    }

    /// Time passed.
    pub fn expire(&mut self, now: Now) -> Changes {
        let mut changes = Changes::default();
        let over = |request: &&Request| request.until.is_some_and(|until| until <= now.at);
        let over: Vec<String> = self.requests().filter(over).map(|r| r.id.clone()).collect();
        for id in over {
            let how = (Ended::Denied, Ended::Revoked);
            self.end(&id, how, "timeout", &mut changes);
        }
        self.fill(now, &mut changes);
        changes
    }

    /// When something ends by itself.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.requests().filter_map(|request| request.until).min()
    }

    /// Ends a request: how, if it waited, and if it was granted.
    fn end(&mut self, id: &str, how: (Ended, Ended), reason: &str, changes: &mut Changes) {
        let (waiting, granted) = how;
        let here = |request: &Request| request.id == id;
        let found = if let Some(at) = self.queue.iter().position(here) {
            (self.queue.remove(at), waiting)
        } else if let Some(at) = self.holders.iter().position(here) {
            (self.holders.remove(at), granted)
        } else {
            return;
        };
        changes.ended.push(End {
            request: found.0,
            state: found.1,
            reason: reason.to_owned(),
        });
    }

    /// The first that waits takes the floor from the lowest holder, if it may.
    fn preempt(&mut self, changes: &mut Changes) {
        let full = self.holders.len() >= self.policy.holders_max;
        if !self.policy.preempt || !full {
            return;
        }
        let Some(first) = self.queue.iter().find(|r| r.state == State::Accepted) else {
            return;
        };
        // The latest among the lowest.
        let lowest = self
            .holders
            .iter()
            .rev()
            .min_by_key(|holder| holder.priority);
        if let Some(lowest) = lowest.filter(|holder| holder.priority < first.priority) {
            let id = lowest.id.clone();
            self.end(&id, (Ended::Denied, Ended::Revoked), "preempted", changes);
        }
    }

    /// Grants while there is room.
    fn fill(&mut self, now: Now, changes: &mut Changes) {
        while self.holders.len() < self.policy.holders_max {
            let next = self.queue.iter().position(|r| r.state == State::Accepted);
            let Some(at) = next else { return };
            let mut request = self.queue.remove(at);
            request.state = State::Granted;
            request.since_ms = now.wall_ms;
            request.until = self
                .policy
                .grant_ttl
                .and_then(|ttl| now.at.checked_add(ttl));
            let waited = now.at.saturating_duration_since(request.asked);
            changes.granted.push(waited);
            self.holders.push(request);
        }
    }
}

#[cfg(test)]
mod tests;
