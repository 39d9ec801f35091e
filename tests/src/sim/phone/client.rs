//! Requests a phone sends, and what becomes of them (RFC 3261 §17.1, §13.2, §14.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::digest::{self, Attempt, Secret};
use control::sip::edit::Edit;
use control::sip::index::{Message, Name};

use super::{Dial, Out, PATIENCE, Phone, State, T1, T2, description};
use crate::sim::wire::{self, Draft};

pub(super) struct Client {
    branch: Vec<u8>,
    request: Message,
    to: SocketAddr,
    purpose: Purpose,
    state: Progress,
    resend: Option<(Instant, Duration)>,
    until: Option<Instant>,
    /// Credentials were given already.
    tried: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Register { expires: u32 },
    Invite { call: usize, first: bool },
    Cancel,
    Bye { call: usize },
    Update { call: usize },
    Other { call: usize },
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Progress {
    Trying,
    Proceeding,
    /// A failure of an INVITE: repeats get this ACK.
    Completed(Bytes),
}

impl Client {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let resend = self.resend.map(|(at, _)| at);
        [resend, self.until].into_iter().flatten().min()
    }

    fn is_invite(&self) -> bool {
        self.request.cseq().1 == b"INVITE"
    }

    pub(super) fn is_open_invite(&self) -> bool {
        self.is_invite() && !matches!(self.state, Progress::Completed(_))
    }
}

impl Phone {
    pub(super) fn launch(
        &mut self,
        bytes: Bytes,
        to: SocketAddr,
        purpose: Purpose,
        now: Instant,
        out: &mut Out,
    ) {
        let request = Message::parse(bytes.clone()).expect("a phone writes whole messages");
        self.send(&bytes, to, out);
        self.clients.push(Client {
            branch: request.top_via().branch.unwrap_or_default().to_vec(),
            request,
            to,
            purpose,
            state: Progress::Trying,
            resend: Some((now + T1, T1)),
            until: Some(now + PATIENCE),
            tried: false,
        });
    }

    pub(super) fn invite(&mut self, index: usize, dial: &Dial, now: Instant, out: &mut Out) {
        let (domain, user) = (self.id.domain.clone(), self.name().to_owned());
        let mut uri = dial.uri.clone();
        if uri.is_empty() {
            uri = format!("sip:{}@{domain}", dial.user);
        }
        if dial.delayed {
            // An answer has the lines of its offer (RFC 3264 §6).
            self.call_mut(index).more.clear();
        }
        let (via, contact) = (self.via(), self.contact());
        let body = match &dial.body {
            Some((kind, bytes)) => Some((kind.clone(), bytes.clone())),
            None if dial.delayed => None,
            None => Some(("application/sdp".to_owned(), self.sdp(index))),
        };
        let call = self.call_mut(index);
        call.cseq += 1;
        call.inviting = true;
        call.offered = !dial.delayed;
        call.local = format!("\"{user}\" <sip:{user}@{domain}>;tag={}", call.tag).into_bytes();
        call.remote = format!("<{uri}>").into_bytes();
        let draft = Draft::request("INVITE", &uri)
            .with("Via", via)
            .with("From", &call.local)
            .with("To", &call.remote)
            .with("Call-ID", &call.call_id)
            .with("CSeq", format!("{} INVITE", call.cseq))
            .with("Max-Forwards", dial.max_forwards.unwrap_or(70).to_string())
            .with("Contact", contact)
            .lines(&dial.lines);
        let body = body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), &bytes[..]));
        let purpose = Purpose::Invite {
            call: index,
            first: true,
        };
        let to = self.id.proxy;
        self.launch(draft.body(body), to, purpose, now, out);
    }

    pub(super) fn reinvite(&mut self, index: usize, offers: bool, now: Instant, out: &mut Out) {
        let (draft, to) = self.within(index, "INVITE");
        let draft = draft.with("Contact", self.contact());
        let sdp = offers.then(|| self.sdp(index));
        let call = self.call_mut(index);
        call.inviting = true;
        call.offered = offers;
        call.settle(now);
        let purpose = Purpose::Invite {
            call: index,
            first: false,
        };
        let body = sdp.as_ref().map(|sdp| ("application/sdp", &sdp[..]));
        self.launch(draft.body(body), to, purpose, now, out);
    }

    /// RFC 3311.
    pub(super) fn update(&mut self, index: usize, now: Instant, out: &mut Out) {
        let (draft, to) = self.within(index, "UPDATE");
        let draft = draft.with("Contact", self.contact());
        let sdp = self.sdp(index);
        let call = self.call_mut(index);
        call.updating = true;
        call.settle(now);
        let body = draft.body(Some(("application/sdp", &sdp)));
        self.launch(body, to, Purpose::Update { call: index }, now, out);
    }

    pub(super) fn bye(&mut self, index: usize, now: Instant, out: &mut Out) {
        let (draft, to) = self.within(index, "BYE");
        self.call_mut(index).over(now);
        self.launch(draft.body(None), to, Purpose::Bye { call: index }, now, out);
    }

    /// CANCEL, or the wish for one: it waits for a provisional response (RFC 3261 §9.1).
    pub fn cancel(&mut self, index: usize, now: Instant, out: &mut Out) {
        self.call_mut(index).cancelling = true;
        let of = |c: &&Client| matches!(c.purpose, Purpose::Invite { call, .. } if call == index);
        let Some(client) = self.clients.iter().rfind(of) else {
            return;
        };
        if client.state != Progress::Proceeding {
            return;
        }
        let request = client.request.clone();
        let bytes = wire::same_transaction(
            &request,
            "CANCEL",
            request.get(Name::To).unwrap_or_default(),
        );
        let to = client.to;
        self.call_mut(index).cancelling = false;
        self.launch(bytes, to, Purpose::Cancel, now, out);
    }

    pub(super) fn expire_clients(&mut self, now: Instant, out: &mut Out) {
        let mut over = Vec::new();
        let mut resend = Vec::new();
        self.clients.retain_mut(|client| {
            if client.until.is_some_and(|until| until <= now) {
                over.push((client.purpose, client.state.clone()));
                return false;
            }
            if let Some((at, interval)) = client.resend.filter(|(at, _)| *at <= now) {
                let interval = interval * 2;
                let interval = if client.is_invite() {
                    interval
                } else {
                    interval.min(T2)
                };
                client.resend = Some((at.max(now) + interval, interval));
                resend.push((client.request.bytes().clone(), client.to));
            }
            true
        });
        for (bytes, to) in resend {
            self.send(&bytes, to, out);
        }
        for (purpose, state) in over {
            if state == Progress::Trying || state == Progress::Proceeding {
                self.ended(purpose, 408, None, now, out);
            }
        }
    }

    pub(super) fn receive_response(&mut self, message: &Message, now: Instant, out: &mut Out) {
        let code = message.code().unwrap_or_default();
        let branch = message.top_via().branch.unwrap_or_default();
        let method = message.cseq().1;
        let position = self
            .clients
            .iter()
            .position(|c| c.branch == branch && c.request.cseq().1 == method);
        if let Some((first, tag)) = self.finals.get(branch)
            && method == b"INVITE"
            && code >= 200
            && (*first, &tag[..]) != (code, message.to_tag().unwrap_or_default())
        {
            let fault = format!("an INVITE was answered {first}, then {code}");
            self.faults.push(fault);
        }
        let Some(position) = position else {
            return self.repeated_success(message, code, out);
        };
        let client = self.clients.get_mut(position).expect("just found");
        if let Progress::Completed(ack) = &client.state {
            let (ack, to) = (ack.clone(), client.to);
            return self.send(&ack, to, out);
        }
        if code < 200 {
            client.state = Progress::Proceeding;
            if client.is_invite() {
                client.resend = None;
                client.until = None;
            }
            let purpose = client.purpose;
            return self.provisional(purpose, message, now, out);
        }
        let (purpose, to, tried) = (client.purpose, client.to, client.tried);
        let request = client.request.clone();
        if client.is_invite() {
            let tag = message.to_tag().unwrap_or_default().to_vec();
            self.finals.insert(branch.to_vec(), (code, tag));
        }
        let client = self.clients.get_mut(position).expect("just found");
        if client.is_invite() && code >= 300 {
            let value = message.get(Name::To).unwrap_or_default();
            let ack = wire::same_transaction(&request, "ACK", value);
            client.state = Progress::Completed(ack.clone());
            client.resend = None;
            client.until = Some(now + PATIENCE);
            self.send(&ack, to, out);
        } else {
            self.clients.remove(position);
        }
        if matches!(code, 401 | 407) && !tried {
            return self.authenticate(&request, message, to, purpose, now, out);
        }
        self.ended(purpose, code, Some(message), now, out);
    }

    /// Once more, with credentials (RFC 3261 §22.2).
    fn authenticate(
        &mut self,
        request: &Message,
        challenge: &Message,
        to: SocketAddr,
        purpose: Purpose,
        now: Instant,
        out: &mut Out,
    ) {
        let (from, name, field) = match challenge.code() {
            Some(401) => (Name::WwwAuthenticate, "Authorization", "WWW"),
            _ => (Name::ProxyAuthenticate, "Proxy-Authorization", "Proxy"),
        };
        self.nonce_count += 1;
        let uri = request.uri_range().map(|uri| request.slice(&uri));
        let uri = String::from_utf8_lossy(uri.unwrap_or_default()).into_owned();
        let (cnonce, user, password) =
            (self.token(), self.id.user.clone(), self.id.password.clone());
        let (cseq, method) = request.cseq();
        let attempt = Attempt {
            user: &user,
            secret: Secret::Password(&password),
            method,
            uri: &uri,
            body: request.body(),
            count: 1,
            cnonce: &cnonce,
        };
        let answer = digest::answer(challenge.get(from).unwrap_or_default(), &attempt);
        let answer = answer.unwrap_or_else(|| unreachable!("no {field} challenge to answer"));
        let mut edit = Edit::new(request);
        edit.replace(request.top_via_range(), self.via());
        let method = String::from_utf8_lossy(method);
        edit.set(Name::CSeq, format!("{} {method}", cseq + 1).as_bytes());
        edit.append(name, answer);
        match purpose {
            Purpose::Register { .. } => self.registration.1 = cseq + 1,
            Purpose::Invite { call, .. }
            | Purpose::Bye { call }
            | Purpose::Update { call }
            | Purpose::Other { call } => {
                self.call_mut(call).cseq = cseq + 1;
            }
            Purpose::Cancel => {}
        }
        self.launch(edit.finish(), to, purpose, now, out);
        if let Some(client) = self.clients.last_mut() {
            client.tried = true;
        }
    }

    fn provisional(&mut self, purpose: Purpose, message: &Message, now: Instant, out: &mut Out) {
        let Purpose::Invite { call: index, .. } = purpose else {
            return;
        };
        let call = self.call_mut(index);
        if let Some(sdp) = description(message).filter(|_| call.offered) {
            call.learn_answer(&sdp, now);
        }
        if call.cancelling {
            self.cancel(index, now, out);
        }
    }

    /// A final response, or none in time.
    fn ended(
        &mut self,
        purpose: Purpose,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        out: &mut Out,
    ) {
        match purpose {
            Purpose::Register { expires } => {
                self.registered = code;
                if code == 200 && expires > 0 {
                    let contact = message
                        .map(|m| wire::text(m, Name::Contact))
                        .unwrap_or_default();
                    let granted = contact
                        .rsplit_once("expires=")
                        .and_then(|(_, s)| s.parse().ok());
                    self.granted = granted.unwrap_or(expires);
                    let early = u64::from(self.granted) * 3 / 4;
                    let again = now + Duration::from_secs(early);
                    self.refresh = Some(again).filter(|_| !self.resting);
                }
            }
            Purpose::Invite { call, first } => {
                self.invited_ended(call, first, code, message, now, out)
            }
            Purpose::Update { call } => {
                let call = self.call_mut(call);
                call.updating = false;
                let sdp = message.filter(|_| (200..300).contains(&code));
                match sdp.and_then(description) {
                    Some(sdp) => {
                        call.before = None;
                        call.learn_answer(&sdp, now);
                    }
                    None => call.restore(now),
                }
            }
            Purpose::Bye { .. } | Purpose::Cancel | Purpose::Other { .. } => {}
        }
    }

    fn invited_ended(
        &mut self,
        index: usize,
        first: bool,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        out: &mut Out,
    ) {
        let call = self.call_mut(index);
        call.inviting = false;
        call.cancelling = false;
        if first {
            call.status = code;
        } else {
            call.restatus = code;
        }
        let Some(message) = message.filter(|_| (200..300).contains(&code)) else {
            if first {
                call.over(now);
            } else if code != 491 {
                call.restore(now);
            } else {
                let wait = if call.outgoing { 2100..4000 } else { 0..2000 };
                let wait = wait.start + self.names.below(wait.end - wait.start);
                self.call_mut(index).retry_at = Some(now + Duration::from_millis(wait));
            }
            return;
        };
        if let Some(target) = wire::contact(message) {
            call.target = Some(target);
        }
        if first {
            call.remote = message.get(Name::To).unwrap_or_default().to_vec();
            call.state = State::Up;
        }
        call.before = None;
        let offered = call.offered;
        match description(message) {
            Some(sdp) if offered => {
                call.learn_answer(&sdp, now);
                self.acknowledge(index, false, out);
            }
            Some(sdp) => {
                self.learn_offer(index, &sdp, now);
                self.acknowledge(index, true, out);
            }
            None => self.acknowledge(index, false, out),
        }
        let call = self.call_mut(index);
        call.settle(now);
        if call.leaving && call.state == State::Up {
            self.bye(index, now, out);
        }
    }

    /// ACK for a 2xx; with our answer if the 2xx was an offer.
    fn acknowledge(&mut self, index: usize, answer: bool, out: &mut Out) {
        let sdp = answer.then(|| self.sdp(index));
        let (draft, to) = self.within(index, "ACK");
        let body = sdp.as_ref().map(|sdp| ("application/sdp", &sdp[..]));
        let bytes = draft.body(body);
        let call = self.call_mut(index);
        call.ack = Some((call.cseq, bytes.clone(), to));
        self.send(&bytes, to, out);
    }

    /// The last ACK for a 2xx that we sent in a call.
    #[must_use]
    pub fn last_ack(&self, index: usize) -> Option<Bytes> {
        let ack = self.call(index).ack.as_ref();
        ack.map(|(_, bytes, _)| bytes.clone())
    }

    /// A 2xx again: its ACK was lost (RFC 3261 §13.2.2.4).
    fn repeated_success(&mut self, message: &Message, code: u16, out: &mut Out) {
        let (cseq, method) = message.cseq();
        if method != b"INVITE" || !(200..300).contains(&code) {
            return;
        }
        let Some(index) = self.find_call(message) else {
            return;
        };
        if let Some((number, bytes, to)) = self.call(index).ack.clone()
            && number == cseq
        {
            self.send(&bytes, to, out);
        }
    }
}
