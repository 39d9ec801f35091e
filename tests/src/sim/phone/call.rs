//! One call as its phone sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::index::Message;

use super::{Out, PATIENCE, Phone, T1, T2};
use crate::sim::rtp::Rtp;
use crate::sim::sdp::{Description, Direction, Kind, Line};
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
    /// The first `m=` line, audio.
    pub rtp: Rtp,
    /// The other `m=` lines.
    pub more: Vec<Rtp>,
    pub direction: Direction,
    /// Says hold with `c=0.0.0.0`.
    pub zero: bool,
    /// What the other side's last SDP said.
    pub remote_sdp: Option<Description>,
    /// We were sent a BYE.
    pub cut: bool,
    pub outgoing: bool,
    pub call_id: String,
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
    /// An UPDATE with an offer of ours is open.
    pub(super) updating: bool,
    /// What was said before the offer that is open, if that fails (RFC 3264 §8).
    pub(super) before: Option<Said>,
    /// Hung up here, and BYE is not allowed yet (RFC 3261 §15).
    pub(super) leaving: bool,
    /// CANCEL as soon as something provisional has come.
    pub(super) cancelling: bool,
    /// We made the offer that is open: SDP that comes is its answer.
    pub(super) offered: bool,
    /// After a 491 (RFC 3261 §14.1).
    pub(super) retry_at: Option<Instant>,
}

/// What a phone's SDP said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    lines: Vec<(Kind, SocketAddr, bool)>,
    direction: Direction,
    zero: bool,
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
            self.streams().filter_map(Rtp::next_timeout).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// By `m=` line.
    pub fn streams(&self) -> impl Iterator<Item = &Rtp> {
        std::iter::once(&self.rtp).chain(&self.more)
    }

    /// The same, to be changed.
    pub fn streams_mut(&mut self) -> impl Iterator<Item = &mut Rtp> {
        std::iter::once(&mut self.rtp).chain(&mut self.more)
    }

    /// Media goes while both sides want it.
    pub(super) fn settle(&mut self, now: Instant) {
        let talking = matches!(self.state, State::Up | State::Calling | State::Ringing);
        let sends = talking && self.direction.sends() && !self.zero;
        let theirs: Vec<bool> = match &self.remote_sdp {
            Some(sdp) => {
                let lines = sdp.lines.iter();
                let wanted = lines.map(|l| {
                    l.at.port() > 0 && l.direction.receives() && !l.at.ip().is_unspecified()
                });
                wanted.collect()
            }
            None => Vec::new(),
        };
        let theirs = theirs.into_iter().chain(std::iter::repeat(false));
        for (stream, heard) in self.streams_mut().zip(theirs) {
            stream.set(sends && heard && stream.on, now);
        }
    }

    pub(super) fn over(&mut self, now: Instant) {
        self.state = State::Over;
        self.ring_at = None;
        self.answer_at = None;
        self.retry_at = None;
        self.settle(now);
    }

    /// Where the other side is, by its SDP.
    fn aim(&mut self, sdp: &Description) {
        for (stream, line) in self.streams_mut().zip(&sdp.lines) {
            if line.at.port() > 0 && !line.at.ip().is_unspecified() {
                stream.remote = Some(line.at);
            }
        }
        self.remote_sdp = Some(sdp.clone());
    }

    /// Takes in the answer to our offer; lines it lacks are rejected.
    pub(super) fn learn_answer(&mut self, sdp: &Description, now: Instant) {
        let ports = sdp.lines.iter().map(|line| line.at.port());
        let ports: Vec<u16> = ports.chain(std::iter::repeat(0)).take(16).collect();
        for (stream, port) in self.streams_mut().zip(ports) {
            stream.on &= port > 0;
        }
        self.aim(sdp);
        self.settle(now);
    }

    /// Our 2xx was an offer whose answer has not come.
    pub(super) fn offered_in_success(&self) -> bool {
        self.success.is_some() && self.offered
    }

    /// Remembers what is agreed before an offer is made.
    pub(super) fn keep(&mut self) {
        let lines = self.streams().map(|s| (s.kind, s.local, s.on)).collect();
        self.before = Some(Said {
            lines,
            direction: self.direction,
            zero: self.zero,
        });
    }

    /// The offer failed: what was agreed before holds.
    pub(super) fn restore(&mut self, now: Instant) {
        let Some(said) = self.before.take() else {
            return;
        };
        self.more.truncate(said.lines.len().saturating_sub(1));
        for (stream, (kind, mut local, on)) in self.streams_mut().zip(said.lines) {
            // It may have moved meanwhile.
            local.set_ip(stream.local.ip());
            stream.move_to(local);
            (stream.kind, stream.on) = (kind, on);
        }
        (self.direction, self.zero) = (said.direction, said.zero);
        self.settle(now);
    }
}

impl Phone {
    pub(super) fn new_call(&mut self, outgoing: bool, now: Instant) -> Call {
        let mut rtp = self.new_stream(Kind::Audio);
        rtp.set(false, now);
        let more = if outgoing {
            self.manner.extras.kinds()
        } else {
            &[]
        };
        let more = more.iter().map(|kind| self.new_stream(*kind)).collect();
        let tag = self.token();
        Call {
            state: if outgoing {
                State::Calling
            } else {
                State::Ringing
            },
            status: 0,
            restatus: 0,
            rtp,
            more,
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
            updating: false,
            before: None,
            leaving: false,
            cancelling: false,
            offered: false,
            retry_at: None,
        }
    }

    /// A stream on ports of its own.
    pub(super) fn new_stream(&mut self, kind: Kind) -> Rtp {
        let ssrc = u32::try_from(self.names.number() >> 32).unwrap_or(1);
        Rtp::new(kind, self.new_port(), ssrc, self.pace)
    }

    pub(super) fn new_port(&mut self) -> SocketAddr {
        let port = self.next_port;
        self.next_port += 2;
        SocketAddr::new(self.id.media.unwrap_or(self.id.at.ip()), port)
    }

    /// Our SDP for a call as it is now.
    pub(super) fn sdp(&self, index: usize) -> Vec<u8> {
        if let Some(says) = &self.says {
            return says.clone();
        }
        let call = self.call(index);
        let line = |stream: &Rtp| {
            let mut at = stream.local;
            if let Some(ip) = self.id.claims {
                at.set_ip(ip);
            }
            if call.zero {
                at.set_ip([0, 0, 0, 0].into());
            }
            if !stream.on {
                at.set_port(0);
            }
            let direction = if stream.kind.is_rtp() {
                call.direction
            } else {
                Direction::SendRecv
            };
            let named = self.manner.names_sources && stream.kind.is_rtp();
            Line {
                kind: stream.kind,
                at,
                direction,
                ssrc: named.then_some(stream.ssrc),
            }
        };
        let mut lines: Vec<Line> = call.streams().map(line).collect();
        if let (Some(at), Some(first)) = (self.id.points_at, lines.first_mut()) {
            // Also where the offer rejected the line.
            first.at = at;
        }
        Description {
            lines,
            version: call.version,
            apart: self.manner.apart,
        }
        .write()
    }

    /// Nobody offered anything: we shall, everything we can.
    pub(super) fn make_offer(&mut self, index: usize) {
        for kind in self.manner.extras.kinds() {
            let stream = self.new_stream(*kind);
            self.call_mut(index).more.push(stream);
        }
    }

    /// Takes in the other side's offer: lines we do not want are rejected, new ones get ports.
    pub(super) fn learn_offer(&mut self, index: usize, sdp: &Description, now: Instant) {
        let accepts = self.manner.extras;
        for (at, line) in sdp.lines.iter().enumerate() {
            let wanted = line.at.port() > 0 && accepts.accepts(line.kind);
            let known = self.call(index).streams().nth(at);
            let fits = known.is_some_and(|s| s.kind == line.kind && (s.on || !wanted));
            if fits || known.is_some_and(|s| s.kind == line.kind && s.remote.is_none()) {
                let call = self.call_mut(index);
                if let Some(stream) = call.streams_mut().nth(at) {
                    stream.on = wanted;
                }
                continue;
            }
            let mut stream = self.new_stream(line.kind);
            stream.on = wanted;
            let call = self.call_mut(index);
            if let Some(old) = call.streams_mut().nth(at) {
                // The same stream for whoever judges it: its source stays.
                stream.ssrc = old.ssrc;
                stream.ports.append(&mut old.ports);
                stream.sent = old.sent;
                stream.received = std::mem::take(&mut old.received);
                *old = stream;
            } else {
                call.more.push(stream);
            }
        }
        let call = self.call_mut(index);
        // Our answer says what holds now; an offer of ours that failed waits to be made again.
        call.before = None;
        call.aim(sdp);
        call.settle(now);
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
        for stream in call.streams_mut() {
            stream.expire(now, out);
        }
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
            let call = self.call_mut(index);
            call.retry_at = None;
            // RFC 3261 §14.1: unless something else is on its way.
            if call.invited.is_none() && !call.updating && call.success.is_none() {
                if call.before.is_none() {
                    call.keep();
                }
                self.reinvite(index, true, now, out);
            } else {
                call.restore(now);
            }
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
