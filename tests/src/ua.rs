//! Scripted SIP: a user agent without a mind of its own, that says what a scenario wants said and
//! shows what it is told. One phone of it: a SIP socket, an RTP socket, one call at a time.

pub mod message;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use message::{Message, sdp};

use crate::netns::Namespace;
use crate::rtp::{RtpSocket, is_quiet};
use crate::{clock, talk};

/// How long an expected message may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Where a user agent's SIP socket is bound.
const SIP_PORT: u16 = 5060;

/// The socket at the port above that of RTP (RFC 3550 §11).
fn bind_rtcp(namespace: &Namespace, rtp: SocketAddr) -> Result<UdpSocket> {
    let at = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    let what = format!("bind {at} in {}", namespace.name());
    namespace
        .enter(|| UdpSocket::bind(at))?
        .with_context(|| what)
}

/// Names are unique within a run.
static NAMES: AtomicU64 = AtomicU64::new(1);

fn name() -> u64 {
    NAMES.fetch_add(1, Ordering::Relaxed)
}

/// A user agent.
#[derive(Debug)]
pub struct Ua {
    pub user: String,
    /// Of everybody's address of record.
    pub domain: String,
    /// Where its media is sent from and expected.
    pub rtp: RtpSocket,
    /// The same for RTCP, at the port above.
    pub rtcp: UdpSocket,
    /// Of its stream, in every call.
    pub ssrc: u32,
    /// Where it says its media is; its RTP socket, unless a scenario lies.
    pub media: SocketAddr,
    /// How often; a refresh goes on in the same sequence (RFC 3261 §10.2).
    registered: AtomicU32,
    socket: UdpSocket,
    at: SocketAddr,
    edge: SocketAddr,
}

/// A call that stands, as both parties see it.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub id: String,
    /// Where the caller and the callee were told to send media.
    pub caller_sends_to: SocketAddr,
    pub callee_sends_to: SocketAddr,
    /// What the callee was offered, and what the caller was answered.
    pub offered: Message,
    pub answered: Message,
    /// From, To and request-URI of what the caller sends; the callee's are its mirror.
    local: String,
    remote: String,
    target: String,
    cseq: u32,
}

impl Ua {
    /// A user agent at `ip`, whose requests go to `edge`; its media port is `media_port`.
    ///
    /// # Errors
    /// A port is taken.
    pub fn new(
        namespace: &Namespace,
        user: &str,
        domain: &str,
        ip: IpAddr,
        media_port: u16,
        edge: SocketAddr,
    ) -> Result<Self> {
        let (at, media) = (
            SocketAddr::new(ip, SIP_PORT),
            SocketAddr::new(ip, media_port),
        );
        let socket = namespace
            .enter(|| UdpSocket::bind(at))?
            .with_context(|| format!("bind {at} in {}", namespace.name()))?;
        Ok(Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            rtp: RtpSocket::bind(namespace, media)?,
            rtcp: bind_rtcp(namespace, media)?,
            ssrc: talk::ssrc(),
            media,
            registered: AtomicU32::new(0),
            socket,
            at,
            edge,
        })
    }

    /// Sends and expects media at another address from now on, and says so in SDP.
    ///
    /// # Errors
    /// A port is taken.
    pub fn move_media(&mut self, namespace: &Namespace, to: SocketAddr) -> Result<()> {
        self.rtp = RtpSocket::bind(namespace, to)?;
        self.rtcp = bind_rtcp(namespace, to)?;
        self.media = to;
        Ok(())
    }

    /// Registers without credentials, or refreshes that.
    ///
    /// # Errors
    /// Any answer but 200.
    pub fn register(&self) -> Result<()> {
        self.registered_with(&[])
    }

    /// The same, with a `User-Agent`.
    ///
    /// # Errors
    /// As `register`.
    pub fn register_as(&self, user_agent: &str) -> Result<()> {
        self.registered_with(&[("User-Agent", user_agent.to_owned())])
    }

    fn registered_with(&self, more: &[(&str, String)]) -> Result<()> {
        let (own, call) = (self.own(), self.ssrc);
        let cseq = self.registered.fetch_add(1, Ordering::Relaxed) + 1;
        let headers = [
            ("Via", self.via()),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<{own}>;tag=r{call}")),
            ("To", format!("<{own}>")),
            ("Call-ID", format!("register-{call}@{}", self.at.ip())),
            ("CSeq", format!("{cseq} REGISTER")),
            ("Contact", self.contact()),
            ("Expires", "300".to_owned()),
        ];
        let headers = [&headers[..], more].concat();
        let start = format!("REGISTER sip:{} SIP/2.0", self.domain);
        self.send(&Message::new(start, &headers, None))?;
        let answer = self.response("REGISTER", cseq)?;
        if answer.status() != Some(200) {
            bail!("{}: REGISTER: {}", self.user, answer.start);
        }
        Ok(())
    }

    /// An INVITE to a user of the domain, as `call` sends it.
    #[must_use]
    pub fn invite(&self, to: &str) -> Message {
        let call = name();
        let headers = [
            ("Via", self.via()),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<{}>;tag=f{call}", self.own())),
            ("To", format!("<sip:{to}@{}>", self.domain)),
            ("Call-ID", format!("{call}@{}", self.at.ip())),
            ("CSeq", "1 INVITE".to_owned()),
            ("Contact", self.contact()),
        ];
        let start = format!("INVITE sip:{to}@{} SIP/2.0", self.domain);
        Message::new(start, &headers, Some(sdp(self.media, "sendrecv")))
    }

    /// Calls `callee`, who answers.
    ///
    /// # Errors
    /// The call is refused, or a message does not come within 8 s.
    pub fn call(&self, callee: &Self) -> Result<Dialog> {
        let invite = self.invite(&callee.user);
        let id = invite.header("Call-ID").to_owned();
        self.send(&invite)?;
        let offered = match callee.request_of("INVITE", &id) {
            Ok(offered) => offered,
            // What the caller was told says more than that nothing came.
            Err(e) => match self.receive(Duration::from_millis(10), |m| m.status() > Some(299)) {
                Ok(refusal) => bail!("{} calls {}: {}", self.user, callee.user, refusal.start),
                Err(_) => return Err(e),
            },
        };
        callee.respond(&offered, "180 Ringing", None)?;
        callee.respond(&offered, "200 OK", Some(sdp(callee.media, "sendrecv")))?;
        let answered = self.response("INVITE", 1)?;
        if answered.status() != Some(200) {
            bail!("{} calls {}: {}", self.user, callee.user, answered.start);
        }
        let media = |m: &Message| m.media().with_context(|| format!("no media in {}", m.body));
        let dialog = Dialog {
            id,
            caller_sends_to: media(&answered)?,
            callee_sends_to: media(&offered)?,
            local: answered.header("From").to_owned(),
            remote: answered.header("To").to_owned(),
            target: answered.uri("Contact"),
            offered,
            answered,
            cseq: 1,
        };
        self.send(&self.within(&dialog, "ACK"))?;
        callee.request_of("ACK", &dialog.id)?;
        Ok(dialog)
    }

    /// The caller ends the call; what the callee is told.
    ///
    /// # Errors
    /// A message does not come, or BYE is refused.
    pub fn hang_up(&self, callee: &Self, dialog: &mut Dialog) -> Result<Message> {
        dialog.cseq += 1;
        self.send(&self.within(dialog, "BYE"))?;
        let bye = callee.request_of("BYE", &dialog.id)?;
        callee.respond(&bye, "200 OK", None)?;
        let answer = self.response("BYE", dialog.cseq)?;
        if answer.status() != Some(200) {
            bail!("{}: BYE: {}", self.user, answer.start);
        }
        Ok(bye)
    }

    /// Waits for an offer within a call and takes it, with its own media as it is; the offer.
    ///
    /// # Errors
    /// It, or the ACK, does not come within 8 s.
    pub fn reoffered(&self, call: &str) -> Result<Message> {
        let offer = self.request_of("INVITE", call)?;
        self.respond(&offer, "200 OK", Some(sdp(self.media, "sendrecv")))?;
        self.request_of("ACK", call)?;
        Ok(offer)
    }

    /// A request of the caller's within a call.
    fn within(&self, dialog: &Dialog, method: &str) -> Message {
        let headers = [
            ("Via", self.via()),
            ("Max-Forwards", "70".to_owned()),
            ("From", dialog.local.clone()),
            ("To", dialog.remote.clone()),
            ("Call-ID", dialog.id.clone()),
            ("CSeq", format!("{} {method}", dialog.cseq)),
        ];
        Message::new(
            format!("{method} {} SIP/2.0", dialog.target),
            &headers,
            None,
        )
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn respond(&self, request: &Message, status: &str, sdp: Option<String>) -> Result<()> {
        let mut headers = Vec::new();
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.all(name) {
                let tag = if name == "To" && !value.contains("tag=") {
                    format!(";tag=t{}", self.user)
                } else {
                    String::new()
                };
                headers.push((name, format!("{value}{tag}")));
            }
        }
        headers.push(("Contact", self.contact()));
        self.send(&Message::new(format!("SIP/2.0 {status}"), &headers, sdp))
    }

    /// Sends a message to the edge.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn send(&self, message: &Message) -> Result<()> {
        self.send_raw(&message.wire())
    }

    /// Sends anything at all to the edge.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn send_raw(&self, datagram: &[u8]) -> Result<()> {
        match self.socket.send_to(datagram, self.edge) {
            // An answer to an earlier one: nobody listened then.
            Err(e) if is_quiet(e.kind()) => Ok(()),
            sent => sent
                .map(drop)
                .with_context(|| format!("send to {}", self.edge)),
        }
    }

    /// Waits for a request.
    ///
    /// # Errors
    /// It does not come within 8 s.
    pub fn request_of(&self, method: &str, call: &str) -> Result<Message> {
        let wanted = |m: &Message| m.method() == method && m.header("Call-ID") == call;
        self.receive(ANSWER_LIMIT, wanted)
            .with_context(|| format!("{} waits for {method}", self.user))
    }

    /// Waits for the final response to a request.
    ///
    /// # Errors
    /// It does not come within 8 s.
    pub fn response(&self, method: &str, cseq: u32) -> Result<Message> {
        let cseq = format!("{cseq} {method}");
        let wanted = |m: &Message| m.status() >= Some(200) && m.header("CSeq") == cseq;
        self.receive(ANSWER_LIMIT, wanted)
            .with_context(|| format!("{} waits for the answer to {method}", self.user))
    }

    /// Waits for a message; others that come meanwhile are forgotten.
    ///
    /// # Errors
    /// It does not come within `limit`; what came instead is in the message.
    pub fn receive(&self, limit: Duration, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        let deadline = clock::now() + limit;
        let mut others = Vec::new();
        while let Some(message) = self.next(deadline)? {
            if wanted(&message) {
                return Ok(message);
            }
            others.push(message.start);
        }
        bail!("not within {} ms; came: {others:?}", limit.as_millis())
    }

    fn next(&self, deadline: Instant) -> Result<Option<Message>> {
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((_, from)) if from != self.edge => {
                    bail!("SIP from {from}, spoken to was {}", self.edge)
                }
                Ok((length, _)) => {
                    if let Some(message) = Message::parse(buffer.get(..length).unwrap_or_default())
                    {
                        return Ok(Some(message));
                    }
                }
                Err(e) if is_quiet(e.kind()) => {}
                Err(e) => return Err(e).context("receive SIP"),
            }
        }
    }

    fn own(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.at)
    }

    fn via(&self) -> String {
        format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.at, name())
    }
}
