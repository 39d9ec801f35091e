//! One connection to the broker, from its beginning to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::client::{Acknowledged, Connection, Happened, Received, Settings};
use super::{CLOSING, Link, Shared};
use crate::outbox::backoff::Backoff;
use crate::plane::Input;
use crate::shell::clock;
use crate::shell::plane::Inbox;

/// One that lasts so long was of use.
const LASTING: Duration = Duration::from_secs(5);
/// The link's task looks at the time at least so often.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Session<'l> {
    shared: &'l Arc<Shared>,
    inbox: &'l Inbox,
    settings: &'l Settings,
    generation: u64,
    connection: Connection,
    since: Option<Instant>,
    /// What came from the broker and the plane has not answered yet, by its ticket.
    received: BTreeMap<u64, Received>,
    closing: Option<Instant>,
}

pub(super) enum Ended {
    /// The daemon ends.
    Closed,
    Reconfigured,
    Lost(String),
}

impl<'l> Session<'l> {
    pub(super) fn new(
        shared: &'l Arc<Shared>,
        inbox: &'l Inbox,
        settings: &'l Settings,
        generation: u64,
    ) -> Self {
        Self {
            shared,
            inbox,
            settings,
            generation,
            connection: Connection::start(settings),
            since: None,
            received: BTreeMap::new(),
            closing: None,
        }
    }

    pub(super) async fn run(&mut self, tickets: &mut u64, backoff: &mut Backoff) -> Ended {
        loop {
            let wake = self.next_timeout();
            let shared = self.shared.clone();
            let step = tokio::select! {
                happened = self.connection.happened() => match happened {
                    Ok(happened) => self.happened(happened, tickets, backoff).await,
                    Err(why) => Err(Ended::Lost(why)),
                },
                () = shared.wake.notified() => Ok(()),
                () = sleep_until(wake.into()) => Ok(()),
            };
            if let Some(since) = self.since
                && clock::now().saturating_duration_since(since) > LASTING
            {
                backoff.reset();
            }
            if let Err(ended) = step.and_then(|()| self.look()) {
                return match self.closing {
                    Some(_) => Ended::Closed,
                    None => ended,
                };
            }
        }
    }

    fn next_timeout(&self) -> Instant {
        let idle = clock::now() + IDLE;
        let expires = self.shared.lock().outbox.next_timeout().unwrap_or(idle);
        expires.min(self.closing.unwrap_or(idle)).min(idle)
    }

    async fn happened(
        &mut self,
        happened: Happened,
        tickets: &mut u64,
        backoff: &mut Backoff,
    ) -> Result<(), Ended> {
        match happened {
            Happened::Connected {
                present,
                receive_max,
                packet_max,
            } => {
                self.since = Some(clock::now());
                if !present && !self.settings.filters.is_empty() {
                    let subscribed = self.connection.subscribe(&self.settings.filters);
                    subscribed.map_err(Ended::Lost)?;
                }
                let mut state = self.shared.lock();
                state.up(self.settings.to_string());
                state.tell(|outbox, now, effects| {
                    outbox.connected(receive_max, packet_max, now, effects);
                });
                if let Some(standing) = state.standing.clone()
                    && state.push(standing).is_err()
                {
                    tracing::warn!("the outbox is full: the broker is not told of this server");
                }
            }
            Happened::Subscribed { refused } => self.subscribed(&refused),
            Happened::Sent { packet } => {
                let mut state = self.shared.lock();
                state.tell(|outbox, now, effects| outbox.sent(packet, now, effects));
            }
            Happened::Acknowledged { packet, how } => self.acknowledged(packet, how, backoff)?,
            Happened::Received(received) => self.received(*received, tickets).await,
            Happened::Left => return Err(Ended::Closed),
            Happened::Nothing => {}
        }
        Ok(())
    }

    fn subscribed(&self, refused: &[(usize, String)]) {
        let Some((place, code)) = refused.first() else {
            return;
        };
        let filter = self.settings.filters.get(*place);
        let filter = filter.map_or("", String::as_str);
        let why = format!("the broker does not let us hear {filter} ({code}): see its ACL");
        tracing::error!(filter, code, "the broker refuses a subscription");
        if let Link::Up { refused, .. } = &mut self.shared.lock().link {
            *refused = Some(why);
        }
    }

    fn acknowledged(
        &self,
        packet: u16,
        how: Acknowledged,
        backoff: &mut Backoff,
    ) -> Result<(), Ended> {
        let refused = match how {
            Acknowledged::Taken => None,
            Acknowledged::Refused(why) => Some(why),
            // On the next connection it is submitted again, and all behind it.
            Acknowledged::NotNow(why) => {
                return Err(Ended::Lost(format!("it refused a message for now: {why}")));
            }
        };
        if let Some(why) = &refused {
            tracing::warn!(why, "the broker refuses a message for good: see its ACL");
        }
        let refused = refused.is_some();
        let mut state = self.shared.lock();
        let known =
            state.tell(|outbox, now, effects| outbox.acknowledged(packet, refused, now, effects));
        if known {
            backoff.reset();
            Ok(())
        } else {
            let why = "it acknowledged what it was not sent";
            Err(Ended::Lost(why.to_owned()))
        }
    }

    /// It is acknowledged once the plane has answered, and kept what must be.
    async fn received(&mut self, received: Received, tickets: &mut u64) {
        *tickets += 1;
        let input = Input::Beyond {
            ticket: *tickets,
            publication: received.publication.clone(),
        };
        if received.must_be_acknowledged() {
            self.received.insert(*tickets, received);
            self.inbox.tell(input).await;
        } else {
            self.inbox.try_tell(input);
        }
    }

    /// Hands on what waits, and sees whether the connection is still wanted.
    fn look(&mut self) -> Result<(), Ended> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.tell(|outbox, now, effects| outbox.expire(now, effects));
        if state.generation != self.generation {
            return Err(Ended::Reconfigured);
        }
        while let Some((ticket, refused)) = state.answers.pop_front() {
            if let Some(received) = self.received.remove(&ticket) {
                if let Some(why) = refused {
                    let topic = received.publication.topic.as_str();
                    tracing::debug!(
                        topic,
                        why,
                        "a message from the broker is not ours to act on"
                    );
                }
                self.connection
                    .acknowledge(&received)
                    .map_err(Ended::Lost)?;
            }
        }
        if state.closing {
            self.leave(&mut state)?;
        }
        while let Some(publication) = state.submits.pop_front() {
            self.connection.publish(publication).map_err(Ended::Lost)?;
        }
        Ok(())
    }

    /// The last word is said first; what waits beyond that stays in the store.
    fn leave(&mut self, state: &mut super::State) -> Result<(), Ended> {
        let now = clock::now();
        let Some(until) = self.closing else {
            self.closing = Some(now + CLOSING);
            if self.since.is_none() {
                return Err(Ended::Closed);
            }
            if let Some(will) = self.settings.will.clone()
                && state.push(will).is_err()
            {
                return Err(Ended::Closed);
            }
            return Ok(());
        };
        if state.outbox.is_empty() {
            return self.connection.leave().map_err(Ended::Lost);
        }
        if now >= until {
            Err(Ended::Closed)
        } else {
            Ok(())
        }
    }
}
