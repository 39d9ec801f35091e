//! Requests a phone receives, and how it answers (RFC 3261 §17.2, §13.3, §14.2).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::index::{Message, Name};

use super::{Out, PATIENCE, Phone, State, T1, T2, description};
use crate::sim::sdp::{Description, Direction};
use crate::sim::wire::{self, Draft};

/// A request that is not answered is forgotten after this.
const RINGING_MAX: Duration = Duration::from_secs(600);

/// An answered request: repeats are answered alike, failures of an INVITE are repeated until ACK.
pub(super) struct Server {
    branch: Vec<u8>,
    method: Vec<u8>,
    to: SocketAddr,
    last: Option<Bytes>,
    resend: Option<(Instant, Duration)>,
    until: Instant,
}

impl Server {
    pub(super) fn next_timeout(&self) -> Instant {
        self.resend.map_or(self.until, |(at, _)| at.min(self.until))
    }
}

impl Phone {
    pub(super) fn expire_servers(&mut self, now: Instant, out: &mut Out) {
        self.servers.retain(|server| server.until > now);
        for server in &mut self.servers {
            if let Some((_, interval)) = server.resend.filter(|(at, _)| *at <= now) {
                let interval = (interval * 2).min(T2);
                server.resend = Some((now + interval, interval));
                if let Some(bytes) = server.last.clone() {
                    let (from, to) = (self.id.at, server.to);
                    out.push(crate::sim::Packet { from, to, bytes });
                }
            }
        }
    }

    pub(super) fn receive_request(
        &mut self,
        message: &Message,
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) {
        let (_, method) = message.cseq();
        if method == b"ACK" {
            return self.receive_ack(message, now, out);
        }
        let branch = message.top_via().branch.unwrap_or_default();
        let same = |s: &&Server| s.branch == branch && s.method == method;
        if let Some(server) = self.servers.iter().find(same) {
            if let Some(last) = server.last.clone() {
                self.send(&last, from, out);
            }
            return;
        }
        self.servers.push(Server {
            branch: branch.to_vec(),
            method: method.to_vec(),
            to: from,
            last: None,
            resend: None,
            until: now + RINGING_MAX,
        });
        match (method, self.find_call(message)) {
            (b"INVITE", None) if message.to_tag().is_none() => {
                self.invited(message, from, now, out)
            }
            (b"INVITE", Some(index)) => self.reinvited(index, message, from, now, out),
            (b"CANCEL", _) => self.cancelled(message, from, now, out),
            (b"BYE", Some(index)) => self.cut(index, message, from, now, out),
            (_, Some(index)) => self.inside(index, message, from, now, out),
            (b"OPTIONS" | b"MESSAGE", None) if message.to_tag().is_none() => {
                self.reply(message, from, 200, None, now, out);
            }
            (_, None) => {
                self.reply(message, from, 481, None, now, out);
            }
        }
    }

    /// A call comes in.
    fn invited(&mut self, message: &Message, from: SocketAddr, now: Instant, out: &mut Out) {
        let mut call = self.new_call(false, now);
        call.call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        let value = |name| message.get(name).unwrap_or_default().to_vec();
        call.remote = value(Name::From);
        call.local = value(Name::To);
        call.local.extend(format!(";tag={}", call.tag).into_bytes());
        call.target = wire::contact(message);
        call.invited = Some((message.clone(), from));
        call.ring_at = self.manner.ring.map(|wait| now + wait);
        call.answer_at = self.manner.answer.map(|wait| now + wait);
        let index = self.calls.len();
        self.calls.push(call);
        match description(message) {
            Some(sdp) => self.learn_offer(index, &sdp, now),
            None => self.make_offer(index),
        }
        for stream in self.call_mut(index).streams_mut() {
            stream.set(false, now);
        }
        if self.manner.ring.is_some() {
            self.reply(message, from, 100, None, now, out);
        }
    }

    pub(super) fn ring(&mut self, index: usize, now: Instant, out: &mut Out) {
        let Some((message, from)) = self.call(index).invited.clone() else {
            return;
        };
        if self.manner.early && self.call(index).remote_sdp.is_some() {
            let sdp = self.sdp(index);
            self.reply(
                &message,
                from,
                183,
                Some(("application/sdp", &sdp)),
                now,
                out,
            );
            self.call_mut(index).settle(now);
        } else {
            self.reply(&message, from, 180, None, now, out);
        }
    }

    /// The final answer to the INVITE that is open.
    pub(super) fn answer(&mut self, index: usize, code: u16, now: Instant, out: &mut Out) {
        let Some((message, from)) = self.call(index).invited.clone() else {
            return;
        };
        let first = self.call(index).state == State::Ringing;
        let call = self.call_mut(index);
        call.ring_at = None;
        call.answer_at = None;
        if first {
            call.status = code;
        }
        if code >= 300 {
            self.reply(&message, from, code, None, now, out);
            let call = self.call_mut(index);
            call.invited = None;
            if first {
                call.over(now);
            }
            return;
        }
        let sdp = self.sdp(index);
        call_offers(self, index, &message);
        let bytes = self.reply(
            &message,
            from,
            code,
            Some(("application/sdp", &sdp)),
            now,
            out,
        );
        self.succeed(index, bytes, from, now);
        let call = self.call_mut(index);
        call.invited = None;
        call.state = State::Up;
        call.settle(now);
    }

    fn reinvited(
        &mut self,
        index: usize,
        message: &Message,
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) {
        let call = self.call_mut(index);
        if call.state != State::Up {
            self.reply(message, from, 481, None, now, out);
            return;
        }
        // RFC 3261 §14.2.
        let busy = call.inviting || call.updating;
        if busy || call.invited.is_some() {
            self.reply(message, from, 491, None, now, out);
            return;
        }
        call.invited = Some((message.clone(), from));
        if let Some(target) = wire::contact(message) {
            call.target = Some(target);
        }
        if !self.manner.renegotiates {
            self.reply(message, from, 180, None, now, out);
            return;
        }
        let call = self.call_mut(index);
        call.version += 1;
        if let Some(sdp) = description(message) {
            call.zero = false;
            call.direction = direction_of(&sdp).mirrored();
            self.learn_offer(index, &sdp, now);
        }
        self.answer(index, 200, now, out);
    }

    fn receive_ack(&mut self, message: &Message, now: Instant, out: &mut Out) {
        let branch = message.top_via().branch.unwrap_or_default();
        let ours = |s: &&mut Server| s.branch == branch && s.method == b"INVITE";
        if let Some(server) = self.servers.iter_mut().find(ours) {
            server.resend = None;
        }
        let Some(index) = self.find_call(message) else {
            return;
        };
        let call = self.call_mut(index);
        if call
            .success
            .as_ref()
            .is_some_and(|s| s.cseq == message.cseq().0)
        {
            call.success = None;
            if call.offered {
                call.offered = false;
                if let Some(sdp) = description(message) {
                    call.learn_answer(&sdp, now);
                }
            }
            if call.leaving && call.state == State::Up {
                self.bye(index, now, out);
            }
        }
    }

    fn cancelled(&mut self, message: &Message, from: SocketAddr, now: Instant, out: &mut Out) {
        let branch = message.top_via().branch.unwrap_or_default();
        let of = |c: &super::Call| {
            let invited = c.invited.as_ref();
            invited.is_some_and(|(m, _)| m.top_via().branch.unwrap_or_default() == branch)
        };
        let known = self
            .servers
            .iter()
            .any(|s| s.branch == branch && s.method == b"INVITE");
        self.reply(message, from, if known { 200 } else { 481 }, None, now, out);
        if let Some(index) = self.calls.iter().position(of) {
            self.answer(index, 487, now, out);
        }
    }

    fn cut(
        &mut self,
        index: usize,
        message: &Message,
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) {
        self.reply(message, from, 200, None, now, out);
        if self.call(index).invited.is_some() {
            // RFC 3261 §15.1.2.
            self.answer(index, 487, now, out);
        }
        let call = self.call_mut(index);
        call.cut = true;
        call.success = None;
        call.over(now);
    }

    /// INFO, UPDATE, REFER and the like: accepted, its body and our own lines sent back.
    fn inside(
        &mut self,
        index: usize,
        message: &Message,
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) {
        if self.call(index).state == State::Over {
            self.reply(message, from, 481, None, now, out);
            return;
        }
        let kind = wire::text(message, Name::ContentType);
        let body = message.body().to_vec();
        if let Some(sdp) = description(message) {
            let call = self.call_mut(index);
            let refused = if call.inviting || call.updating || call.offered_in_success() {
                491
            } else if call.invited.is_some() {
                500
            } else {
                0
            };
            // RFC 3311 §5.2.
            if refused > 0 {
                self.reply(message, from, refused, None, now, out);
                return;
            }
            call.version += 1;
            call.zero = false;
            call.direction = direction_of(&sdp).mirrored();
            self.learn_offer(index, &sdp, now);
            let sdp = self.sdp(index);
            self.reply(
                message,
                from,
                200,
                Some(("application/sdp", &sdp)),
                now,
                out,
            );
        } else {
            let code = if message.cseq().1 == b"REFER" {
                202
            } else {
                200
            };
            self.reply(message, from, code, Some((&kind, &body)), now, out);
        }
    }

    /// Answers along the path the request came by (RFC 3581), with the `X-` lines it had.
    fn reply(
        &mut self,
        message: &Message,
        to: SocketAddr,
        code: u16,
        body: Option<(&str, &[u8])>,
        now: Instant,
        out: &mut Out,
    ) -> Bytes {
        let tag = self.find_call(message).or_else(|| {
            let id = message.call_id();
            self.calls.iter().rposition(|c| c.call_id.as_bytes() == id)
        });
        let tag = match tag {
            Some(index) => self.call(index).tag.clone(),
            None => self.token(),
        };
        let mut draft = Draft::response(message, code, &tag);
        let invite = message.cseq().1 == b"INVITE";
        if invite && code < 300 && code > 100 {
            draft = draft.with("Contact", self.contact());
        }
        let timed = invite || message.cseq().1 == b"UPDATE";
        if let Some(timer) = self.session_expires.filter(|_| timed && code / 100 == 2) {
            draft = draft.with("Session-Expires", timer);
        }
        for field in message.fields() {
            if message.slice(&field.name_range).starts_with(b"X-") {
                draft = draft.lines(message.slice(&field.line));
            }
        }
        let bytes = draft.body(body);
        let branch = message.top_via().branch.unwrap_or_default();
        let method = message.cseq().1;
        let ours = |s: &&mut Server| s.branch == branch && s.method == method;
        if let Some(server) = self.servers.iter_mut().find(ours) {
            server.last = Some(bytes.clone());
            if code >= 200 {
                server.until = now + PATIENCE;
            }
            if invite && code >= 300 {
                server.resend = Some((now + T1, T1));
            }
        }
        self.send(&bytes, to, out);
        bytes
    }
}

/// Our SDP is an offer if the INVITE had none.
fn call_offers(phone: &mut Phone, index: usize, message: &Message) {
    phone.call_mut(index).offered = message.body().is_empty();
}

/// The direction of the first line that is in use.
fn direction_of(sdp: &Description) -> Direction {
    let lines = sdp.lines.iter();
    let mut used = lines.filter(|line| line.at.port() > 0 && line.kind.is_rtp());
    used.next()
        .map_or(Direction::SendRecv, |line| line.direction)
}
