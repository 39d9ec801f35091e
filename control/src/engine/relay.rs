//! Requests that cross the edge, and the responses that come back for them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Peer;
use crate::effect::Effects;
use crate::engine::outside::Outside;
use crate::engine::register::forward::Forwarded;
use crate::engine::{CallKey, Engine, Request, forwards_left};
use crate::id::{NetworkId, Path};
use crate::media::session::Side;
use crate::sip::b2bua::{self, Onward};
use crate::sip::identity::Told;
use crate::sip::index::{Message, Name};
use crate::sip::transaction::{ClientKey, Kind, Response, ServerKey};
use crate::sip::vocabulary::{self, Method};

/// How long a 2xx may be repeated: 64·T1 (RFC 6026 §8.4, timer M).
pub(super) const REPEATS: Duration = Duration::from_secs(32);

/// A request we sent on behalf of someone (or of ourselves), waiting for its final response.
pub(super) struct Relay {
    pub(super) purpose: Purpose,
    /// What we sent, for CANCEL and ACK.
    pub(super) sent: Message,
    pub(super) path: Path,
    /// The ACK for its 2xx and where it went, of an INVITE.
    pub(super) ack: Option<(Path, Bytes)>,
    /// Set once the final response is in: kept to recognise repeats.
    pub(super) until: Option<Instant>,
}

pub(super) enum Purpose {
    /// An INVITE of a call, the first or a later one.
    Invite { origin: Origin, call: CallKey },
    /// Any other request inside a dialog.
    InDialog {
        origin: Origin,
        call: CallKey,
        from: Side,
        /// Its body was an offer: the 2xx carries the answer.
        offered: bool,
    },
    /// A request outside any call.
    Outside(Box<Outside>),
    /// An INVITE of our own inside a call.
    Refresh { call: CallKey, side: Side },
    /// A REGISTER that a peer is to judge.
    Register {
        origin: Origin,
        forwarded: Box<Forwarded>,
    },
    /// An OPTIONS of our own inside a call: is that party still there?
    Probe { call: CallKey, side: Side },
    /// Sent by ourselves: nobody waits for the answer.
    Own,
}

/// Where a relayed request came from.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) key: ServerKey,
    pub(super) request: Message,
}

impl Engine {
    /// Sends a request on with our own Via. None: no room for another transaction.
    pub(super) fn send_on(
        &mut self,
        message: &Message,
        hop: Hop<'_>,
        purpose: Purpose,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let branch = self.names.branch();
        let via = self.via(hop.network, hop.path, &branch)?;
        let asserted = hop.speaker.and_then(|user| self.asserted(user, hop.path));
        let told = asserted.as_deref().map(Told::Asserted);
        let told = told.unwrap_or_else(|| self.told(hop.path.to.ip()));
        self.count_told(message, told);
        let bytes = b2bua::request(
            message,
            Onward {
                uri: hop.uri,
                via: &via,
                contact: hop.contact,
                routes: hop.routes,
                max_forwards: forwards_left(message),
                realm: self.realm_kept(hop.path),
                cseq: hop.cseq,
                invite_cseq: hop.invite_cseq,
                told,
                body: hop.body,
            },
        );
        self.launch(branch, bytes, hop.path, purpose, now, effects)
    }

    /// The realm whose credentials are for us and go no further; what a peer judges goes there.
    pub(super) fn realm_kept(&self, path: Path) -> &str {
        let judges = |peer: &Peer| peer.addresses.iter().any(|a| a.address == path.to);
        match self.registrar_peer().is_some_and(judges) {
            true => "",
            false => &self.config.sip.domain,
        }
    }

    /// Starts a client transaction for a finished request.
    pub(super) fn launch(
        &mut self,
        branch: String,
        bytes: Bytes,
        path: Path,
        purpose: Purpose,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let Ok(sent) = Message::parse(bytes.clone()) else {
            self.counters.count("sip_refused", "too_large_to_forward");
            return None;
        };
        let method = Bytes::copy_from_slice(sent.cseq().1);
        let kind = Kind::of(&method);
        let key = ClientKey {
            branch: branch.into(),
            method,
        };
        if !self
            .transactions
            .start(key.clone(), kind, path, bytes, now, effects)
        {
            self.counters.count("sip_refused", "overload");
            return None;
        }
        let origin = match &purpose {
            Purpose::Invite { origin, .. }
            | Purpose::InDialog { origin, .. }
            | Purpose::Register { origin, .. } => Some(origin.key.clone()),
            Purpose::Outside(outside) => Some(outside.origin.key.clone()),
            Purpose::Refresh { .. } | Purpose::Probe { .. } | Purpose::Own => None,
        };
        if let Some(origin) = origin {
            self.relayed.insert(origin, key.clone());
        }
        self.relays.insert(
            key.clone(),
            Box::new(Relay {
                purpose,
                sent,
                path,
                ack: None,
                until: None,
            }),
        );
        Some(key)
    }

    /// Our Via towards a network; None if it has no SIP socket any more.
    pub(super) fn via(&self, network: NetworkId, path: Path, branch: &str) -> Option<String> {
        let network = self.network(network)?;
        let sent_by = self.advertised(network, path.on);
        let transport = path.on.transport.token();
        Some(format!(
            "SIP/2.0/{transport} {sent_by};branch={branch};rport"
        ))
    }

    pub(super) fn response(&mut self, message: &Message, now: Instant, effects: &mut Effects) {
        let Some(code) = message.code() else { return };
        let Some(key) = client_key(message) else {
            return self.counters.count("sip_malformed", "via_without_branch");
        };
        // RFC 3261 §8.1.3.3: what we asked had one Via; this has gone astray.
        if message.values(Name::Via).len() > 1 {
            return self.counters.count("sip_malformed", "via_of_somebody_else");
        }
        let Some(asked) = self.relays.get(&key).map(|relay| relay.path) else {
            return self.counters.count("sip_transaction", "stray_response");
        };
        let believed = self.believed(message, asked.to.ip());
        let message = believed.as_ref().unwrap_or(message);
        let Some(relay) = self.relays.get(&key) else {
            return;
        };
        let ack = || vocabulary::ack_non2xx(&relay.sent, message);
        match self
            .transactions
            .receive_response(&key, code, ack, now, effects)
        {
            Response::Up => {}
            Response::Absorbed => {
                return self.counters.count("sip_transaction", "absorbed");
            }
            Response::Stray => {
                return self.counters.count("sip_transaction", "stray_response");
            }
        }
        self.counters
            .count("sip_response_received", super::class_label(code));
        self.peer_answered(&key, asked, code, message, now, effects);
        self.relayed_response(&key, code, message, now, effects);
    }

    fn relayed_response(
        &mut self,
        key: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(relay) = self.relays.get(key) else {
            return;
        };
        if let Purpose::Invite { call, .. } = relay.purpose {
            return self.invite_response(call, key, code, message, now, effects);
        }
        if let Purpose::Refresh { .. } = relay.purpose {
            return self.refresh_response(key, code, message, now, effects);
        }
        if code < 200 {
            // RFC 4320 §4.1: provisional responses to non-INVITE requests are not forwarded early.
            return;
        }
        let Some(relay) = self.relays.remove(key) else {
            return;
        };
        match relay.purpose {
            Purpose::InDialog {
                origin,
                call,
                from,
                offered,
            } => {
                self.relayed.remove(&origin.key);
                self.in_dialog_response(&origin, call, from, offered, code, message, now, effects);
            }
            Purpose::Outside(outside) => {
                self.outside_answered(*outside, code, message, now, effects);
            }
            Purpose::Register { origin, forwarded } => {
                self.relayed.remove(&origin.key);
                self.registrar_answered(&origin, *forwarded, code, message, now, effects);
            }
            Purpose::Probe { call, side } => self.probed(call, side, code, now, effects),
            Purpose::Invite { .. } | Purpose::Refresh { .. } | Purpose::Own => {}
        }
    }

    /// Timer B or F fired: nobody answered.
    pub(super) fn timed_out(&mut self, key: &ClientKey, now: Instant, effects: &mut Effects) {
        self.counters.count("sip_transaction", "timed_out");
        let Some(relay) = self.relays.remove(key) else {
            return;
        };
        // Of an INVITE it was noticed before.
        if !matches!(relay.purpose, Purpose::Invite { .. }) {
            self.peer_failed(relay.path, "no answer", now, effects);
        }
        match relay.purpose {
            Purpose::Invite { call, .. } => self.invite_unanswered(call, key, 408, now, effects),
            Purpose::InDialog {
                origin,
                call,
                offered,
                ..
            } => {
                // RFC 4320 §4.2: no 408 for anything but INVITE.
                self.in_dialog_unanswered(&origin, call, offered, None, now, effects);
            }
            Purpose::Outside(outside) => {
                self.relayed.remove(&outside.origin.key);
            }
            Purpose::Register { origin, forwarded } => {
                self.relayed.remove(&origin.key);
                self.registrar_silent(&forwarded, now);
            }
            Purpose::Refresh { call, side } => {
                self.refreshed(call, key, side, 408, None, now, effects);
            }
            Purpose::Probe { call, side } => self.probed(call, side, 408, now, effects),
            Purpose::Own => {}
        }
    }

    /// No answer for a request inside a dialog: this one in its place, if any is to be given.
    pub(super) fn in_dialog_unanswered(
        &mut self,
        origin: &Origin,
        call: CallKey,
        offered: bool,
        code: Option<u16>,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.relayed.remove(&origin.key);
        if offered {
            self.withdraw_offer(call, &origin.request, now, effects);
        }
        // The dialog is over whether or not the other side heard of it.
        let bye = origin.request.method() == Some(Method::Bye);
        let code = if bye { Some(200) } else { code };
        if let Some(code) = code {
            let bytes = vocabulary::response(&origin.request, code, None, None, &[], None);
            self.respond(&origin.key, code, bytes, now, effects);
        }
    }

    /// No answer at all for an INVITE (timer B), or none after its CANCEL, or it did not get out.
    pub(super) fn invite_unanswered(
        &mut self,
        key: CallKey,
        client: &ClientKey,
        code: u16,
        now: Instant,
        effects: &mut Effects,
    ) {
        let setup = self.calls.get_mut(&key).and_then(|c| c.setup.as_mut());
        let Some(setup) = setup else { return };
        if setup.asking(client).is_none() {
            return;
        }
        let code = if setup.cancelled { 487 } else { code };
        let call = self.calls.remove(&key);
        let kept = call.and_then(|c| self.failure(key, c, client, code, None, now, effects));
        if let Some(call) = kept {
            self.calls.insert(key, call);
        }
    }

    /// Whoever is still asked in a call never closed its INVITE: nothing more to wait for.
    pub(super) fn invite_failed(&mut self, key: CallKey, now: Instant, effects: &mut Effects) {
        let setup = self.calls.get(&key).and_then(|call| call.setup.as_ref());
        for client in setup.map(|setup| setup.open()).unwrap_or_default() {
            self.invite_unanswered(key, &client, 408, now, effects);
        }
    }

    /// CANCEL (RFC 3261 §9.2): answered at once, and passed to whoever is being asked.
    pub(super) fn cancel(&mut self, request: &Request, now: Instant, effects: &mut Effects) {
        let invite = request.key.of_invite();
        let call = self
            .relayed
            .get(&invite)
            .and_then(|key| self.relays.get(key));
        let call = call.and_then(|relay| match relay.purpose {
            Purpose::Invite { call, .. } => Some(call),
            Purpose::InDialog { .. }
            | Purpose::Outside(_)
            | Purpose::Register { .. }
            | Purpose::Refresh { .. }
            | Purpose::Probe { .. }
            | Purpose::Own => None,
        });
        // A branch that is long over leaves no trace; others may still be asked.
        let keys = self.dialogs.get(request.message.call_id());
        let mut keys = keys.into_iter().flatten().copied();
        let open = |key: &CallKey| {
            let setup = self.calls.get(key).and_then(|call| call.setup.as_ref());
            setup.is_some_and(|setup| setup.origin.key == invite)
        };
        let Some(call) = call.or_else(|| keys.find(open)) else {
            return self.answer(request, 481, now, effects);
        };
        self.answer(request, 200, now, effects);
        self.give_up(call, 487, "caller", now, effects);
    }

    /// Cancels the INVITE in progress: the caller gets `code` now, the callee a CANCEL as soon as
    /// it may be sent (§9.1: not before a provisional response).
    pub(super) fn give_up(
        &mut self,
        call: CallKey,
        code: u16,
        who: &'static str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(setup) = self.calls.get_mut(&call).and_then(|c| c.setup.as_mut()) else {
            return;
        };
        if setup.cancelled {
            return;
        }
        setup.cancelled = true;
        setup.targets.clear();
        setup.give_up_at = now + REPEATS;
        let origin = setup.origin.clone();
        let (open, first) = (setup.open(), setup.first);
        for client in open {
            self.cancel_if_proceeding(Some(client), now, effects);
        }
        if !first {
            // RFC 3261 §14.1: the call goes on. Which SDP is in force is for the answer to say.
            return;
        }
        if let Some(call) = self.calls.get_mut(&call) {
            call.ended_by = Some(who);
            call.status = code;
        }
        let tag = self.names.token();
        let bytes = vocabulary::response(&origin.request, code, None, Some(&tag), &[], None);
        self.respond(&origin.key, code, bytes, now, effects);
    }

    pub(super) fn cancel_if_proceeding(
        &mut self,
        client: Option<ClientKey>,
        now: Instant,
        effects: &mut Effects,
    ) {
        if let Some(client) = client
            && self.transactions.is_proceeding(&client)
        {
            self.send_cancel(&client, now, effects);
        }
    }

    pub(super) fn send_cancel(&mut self, key: &ClientKey, now: Instant, effects: &mut Effects) {
        let Some(relay) = self.relays.get(key) else {
            return;
        };
        let cancel = ClientKey {
            branch: key.branch.clone(),
            method: Bytes::from_static(b"CANCEL"),
        };
        // Once is enough: its transaction repeats it.
        if self.transactions.has_client(&cancel) || !self.transactions.cancel(key, now) {
            return;
        }
        let bytes = vocabulary::cancel(&relay.sent);
        let path = relay.path;
        let Ok(branch) = String::from_utf8(key.branch.to_vec()) else {
            return;
        };
        self.launch(branch, bytes, path, Purpose::Own, now, effects);
    }
}

/// Where a request goes on to, and with what.
pub(super) struct Hop<'a> {
    pub(super) uri: &'a [u8],
    pub(super) path: Path,
    pub(super) network: NetworkId,
    pub(super) contact: Option<&'a str>,
    pub(super) routes: &'a [Bytes],
    pub(super) cseq: u32,
    /// Of the INVITE a PRACK speaks of.
    pub(super) invite_cseq: Option<u32>,
    /// The account that has proved to be the sender.
    pub(super) speaker: Option<&'a str>,
    pub(super) body: Option<Vec<u8>>,
}

/// What we understand, for Allow (RFC 3261 §20.5).
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, UPDATE, PRACK, INFO, \
     REFER, SUBSCRIBE, NOTIFY, MESSAGE, PUBLISH";

/// RFC 3261 §17.2.3; without the magic cookie, the fields RFC 2543 compares stand in.
pub(super) fn server_key(message: &Message) -> ServerKey {
    let via = message.top_via();
    let (cseq, method) = message.cseq();
    let method = Bytes::copy_from_slice(method);
    let port = via.port.map(|port| format!(":{port}")).unwrap_or_default();
    let sent_by = [via.host, port.as_bytes()].concat();
    match via.branch {
        Some(branch) if via.is_rfc3261() => {
            ServerKey::new(Bytes::copy_from_slice(branch), &sent_by, method)
        }
        _ => {
            let uri = message
                .uri_range()
                .map(|r| message.slice(&r))
                .unwrap_or_default();
            let from = message.from_tag().unwrap_or_default();
            let cseq = cseq.to_string();
            let fields = [uri, from, message.call_id(), cseq.as_bytes()];
            ServerKey::without_cookie(&fields, &sent_by, method)
        }
    }
}

/// RFC 3261 §17.1.3.
pub(super) fn client_key(message: &Message) -> Option<ClientKey> {
    let branch = Bytes::copy_from_slice(message.top_via().branch?);
    let method = Bytes::copy_from_slice(message.cseq().1);
    Some(ClientKey { branch, method })
}
