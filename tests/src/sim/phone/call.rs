//! One call as its phone sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::index::{Message, Name};

use super::{Out, PATIENCE, Phone, T1, T2};
use crate::sim::rtp::Rtp;
use crate::sim::sdp::{Description, Direction};
use crate::sim::wire::{self, Draft};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// We sent an INVITE.
    Calling,
    /// We received one.
    Ringing,
    Up,
    Over,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub state: State,
    /// The final status of the first INVITE; zero before.
    pub status: u16,
    /// The final status of the last INVITE after the first.
    pub restatus: u16,
    pub rtp: Rtp,
    pub direction: Direction,
    /// Says hold with `c=0.0.0.0`.
    pub zero: bool,
    /// What the other side's last SDP said.
    pub remote_sdp: Option<Description>,
    /// We were sent a BYE.
    pub cut: bool,
    pub(super) outgoing: bool,
    pub(super) call_id: String,
    pub(super) local: Vec<u8>,
    pub(super) tag: String,
    pub(super) remote: Vec<u8>,
    pub(super) cseq: u32,
    pub(super) target: Option<String>,
    pub(super) version: u32,
    /// The INVITE we owe an answer, and where its answer goes.
    pub(super) invited: Option<(Message, SocketAddr)>,
    pub(super) ring_at: Option<Instant>,
    pub(super) answer_at: Option<Instant>,
    /// Our 2xx, until its ACK comes.
    pub(super) success: Option<Success>,
    /// Our ACK for a 2xx, by CSeq.
    pub(super) ack: Option<(u32, Bytes, SocketAddr)>,
    /// An INVITE of ours is open.
    pub(super) inviting: bool,
    /// Hung up here, and BYE is not allowed yet (RFC 3261 §15).
    pub(super) leaving: bool,
    /// CANCEL as soon as something provisional has come.
    pub(super) cancelling: bool,
    /// We made the offer that is open: SDP that comes is its answer.
    pub(super) offered: bool,
    /// After a 491 (RFC 3261 §14.1).
    pub(super) retry_at: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(super) struct Success {
    pub(super) cseq: u32,
    pub(super) bytes: Bytes,
    pub(super) to: SocketAddr,
    pub(super) next: Instant,
    pub(super) interval: Duration,
    pub(super) until: Instant,
}

impl Call {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let success = self.success.as_ref().map(|s| s.next);
        [
            self.ring_at,
            self.answer_at,
            success,
            self.retry_at,
            self.rtp.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Media goes while both sides want it.
    pub(super) fn settle(&mut self, now: Instant) {
        let heard = self
            .remote_sdp
            .is_some_and(|r| r.direction.receives() && !r.at.ip().is_unspecified());
        let talking = matches!(self.state, State::Up | State::Calling | State::Ringing);
        let sends = talking && heard && self.direction.sends() && !self.zero;
        self.rtp.set(sends, now);
    }

    pub(super) fn over(&mut self, now: Instant) {
        self.state = State::Over;
        self.ring_at = None;
        self.answer_at = None;
        self.retry_at = None;
        self.settle(now);
    }

    /// Takes in the other side's SDP, if there is any.
    pub(super) fn learn(&mut self, message: &Message, now: Instant) -> bool {
        let kind = wire::text(message, Name::ContentType);
        let Some(sdp) = Description::read(message.body()).filter(|_| kind == "application/sdp")
        else {
            return false;
        };
        if !sdp.at.ip().is_unspecified() {
            self.rtp.remote = Some(sdp.at);
        }
        self.remote_sdp = Some(sdp);
        self.settle(now);
        true
    }
}

impl Phone {
    pub(super) fn new_call(&mut self, outgoing: bool, now: Instant) -> Call {
        let port = self.next_port;
        self.next_port += 2;
        let local = SocketAddr::new(self.id.at.ip(), port);
        let ssrc = u32::try_from(self.names.number() >> 32).unwrap_or(1);
        let tag = self.token();
        let mut rtp = Rtp::new(local, ssrc);
        rtp.set(false, now);
        Call {
            state: if outgoing {
                State::Calling
            } else {
                State::Ringing
            },
            status: 0,
            restatus: 0,
            rtp,
            direction: Direction::SendRecv,
            zero: false,
            remote_sdp: None,
            cut: false,
            outgoing,
            call_id: format!("call-{}", self.token()),
            local: Vec::new(),
            tag,
            remote: Vec::new(),
            cseq: 0,
            target: None,
            version: 1,
            invited: None,
            ring_at: None,
            answer_at: None,
            success: None,
            ack: None,
            inviting: false,
            leaving: false,
            cancelling: false,
            offered: false,
            retry_at: None,
        }
    }

    /// Our SDP for a call as it is now.
    pub(super) fn sdp(&self, index: usize) -> Vec<u8> {
        if let Some(says) = &self.says {
            return says.clone();
        }
        let call = self.call(index);
        let mut at = call.rtp.local;
        if let Some(ip) = self.id.claims {
            at.set_ip(ip);
        }
        if call.zero {
            at.set_ip([0, 0, 0, 0].into());
        }
        let (direction, version) = (call.direction, call.version);
        Description {
            at,
            direction,
            version,
        }
        .write()
    }

    /// A request inside a dialog and where it goes.
    pub(super) fn within(&mut self, index: usize, method: &str) -> (Draft, SocketAddr) {
        let via = self.via();
        let proxy = self.id.proxy;
        let call = self.call_mut(index);
        if method != "ACK" {
            call.cseq += 1;
        }
        let target = call.target.clone().unwrap_or_default();
        let to = wire::address(&target).unwrap_or(proxy);
        let draft = Draft::request(method, &target)
            .with("Via", via)
            .with("From", &call.local)
            .with("To", &call.remote)
            .with("Call-ID", &call.call_id)
            .with("CSeq", format!("{} {method}", call.cseq))
            .with("Max-Forwards", "70");
        (draft, to)
    }

    pub(super) fn find_call(&self, message: &Message) -> Option<usize> {
        let request = message.code().is_none();
        self.calls.iter().position(|call| {
            let ours = if request {
                message.to_tag()
            } else {
                message.from_tag()
            };
            call.call_id.as_bytes() == message.call_id() && ours == Some(call.tag.as_bytes())
        })
    }

    pub(super) fn expire_call(&mut self, index: usize, now: Instant, out: &mut Out) {
        let call = self.call_mut(index);
        call.rtp.expire(now, out);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(call.ring_at) {
            call.ring_at = None;
            self.ring(index, now, out);
        }
        if due(self.call(index).answer_at) {
            self.call_mut(index).answer_at = None;
            let code = self.manner.code;
            self.answer(index, code, now, out);
        }
        if due(self.call(index).retry_at) {
            self.call_mut(index).retry_at = None;
            self.reinvite(index, now, out);
        }
        let call = self.call_mut(index);
        let Some(success) = call.success.as_mut().filter(|s| s.next <= now) else {
            return;
        };
        if now >= success.until {
            // RFC 3261 §13.3.1.4: nobody acknowledged; end it.
            call.success = None;
            if call.state == State::Up {
                self.bye(index, now, out);
            }
            return;
        }
        success.interval = (success.interval * 2).min(T2);
        success.next = now + success.interval;
        let (bytes, to) = (success.bytes.clone(), success.to);
        self.send(&bytes, to, out);
    }

    pub(super) fn succeed(&mut self, index: usize, bytes: Bytes, to: SocketAddr, now: Instant) {
        let call = self.call_mut(index);
        let cseq = call.invited.as_ref().map_or(0, |(m, _)| m.cseq().0);
        call.success = Some(Success {
            cseq,
            bytes,
            to,
            next: now + T1,
            interval: T1,
            until: now + PATIENCE,
        });
    }
}
