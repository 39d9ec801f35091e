//! What an operator may ask and order, and what the engine shows. Plain values: JSON is the
//! shell's business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::effect::{Effects, Rule};
use crate::engine::event::Kind;
use crate::engine::explain::registration::nat_words;
use crate::engine::explain::words::told_sip;
use crate::engine::route::way_to;
use crate::engine::{CallKey, Counters, Engine};
use crate::id::{Aor, NetworkId, Path};
use crate::media::session::Session;
use crate::media::{SideView, StreamView};
use crate::sip::registrar::Binding;

pub use crate::media::session::{Mode, Side};

/// An order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// End a call: BYE to both parties.
    HangUp { call: u64 },
    /// Forget every binding of an address-of-record.
    DropRegistration { aor: String },
    /// Where a party's media is sent, whatever its network says; none goes back to that.
    SetMedia {
        call: u64,
        leg: Side,
        mode: Option<Mode>,
    },
    /// Tell both parties once more where we are, by a re-INVITE.
    Refresh { call: u64 },
    /// Hear nobody from there, for a time or until it is lifted.
    Ban { net: IpNet, time: Option<Duration> },
    /// Ask every address of a peer whether it is well.
    ProbePeer { name: String },
    /// Lift every ban of this prefix.
    Unban { net: IpNet },
    /// Take no new calls; end those that are left after a time, if one is named.
    Drain { deadline: Option<Duration> },
    /// Take calls again.
    Undrain,
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    NoSuchCall,
    NoSuchRegistration,
    /// The call has no callee yet.
    NoMedia,
    /// The call is not up yet.
    NotAnswered,
    NoSuchBan,
    NoSuchPeer,
    TooManyBans,
}

/// One call as it is now.
#[derive(Clone, Debug)]
pub struct CallView {
    pub id: u64,
    pub call_id: String,
    pub from: String,
    pub to: String,
    pub state: &'static str,
    pub age: Duration,
    pub setup: Option<Duration>,
    pub caller: LegView,
    pub callee: Option<LegView>,
    /// Everybody who is being asked or was, until one has answered.
    pub branches: Vec<BranchView>,
    pub flows: Vec<FlowView>,
}

/// One direction of one stream: what arrives at one of our addresses.
#[derive(Clone, Debug)]
pub struct FlowView {
    pub at: SocketAddr,
    pub network: NetworkId,
    /// The party it comes from.
    pub leg: &'static str,
    /// Index of the `m=` line.
    pub media: usize,
    pub kind: String,
    pub component: &'static str,
    pub latch: &'static str,
    /// Which rule chose the address: a name that stays.
    pub code: &'static str,
    /// The same in words.
    pub rule: &'static str,
    /// Why what SDP says is believed, or not.
    pub why: &'static str,
    pub advertised: SocketAddr,
    pub signalled: Option<SocketAddr>,
    /// Where its packets are taken from.
    pub held: Option<SocketAddr>,
    /// Where packets are sent to it.
    pub reached_at: Option<SocketAddr>,
    /// How long that has been so; of RTP only, as all that follows.
    pub since: Option<Duration>,
    /// When it was heard last.
    pub heard: Option<Duration>,
    /// How long it has been silent while the other party is not.
    pub silent: Option<Duration>,
    /// The source on probation: the packets it has shown, and must show.
    pub candidate: Option<(SocketAddr, u8, u8)>,
    /// What may go wrong, in words.
    pub risk: Option<&'static str>,
    /// Packets refused, RTP and RTCP.
    pub strangers: u64,
}

/// Both directions of a stream, RTCP too unless it shares the port.
pub(super) fn flows(
    stream: &StreamView,
    caller: NetworkId,
    callee: Option<NetworkId>,
    now: Instant,
) -> Vec<FlowView> {
    let sides = [
        ("caller", Some(caller), &stream.a),
        ("callee", callee, &stream.b),
    ];
    let mut flows = Vec::new();
    for (leg, network, side) in sides {
        let Some(network) = network else { continue };
        let rtp = rtp(stream, (leg, network), side, now);
        let rtcp = (!stream.mux).then(|| rtcp(&rtp, side));
        flows.push(rtp);
        flows.extend(rtcp);
    }
    flows
}

fn rtp(
    stream: &StreamView,
    (leg, network): (&'static str, NetworkId),
    side: &SideView,
    now: Instant,
) -> FlowView {
    let ago = |at: Instant| now.saturating_duration_since(at);
    FlowView {
        at: side.local,
        network,
        leg,
        media: stream.index,
        kind: stream.kind.clone(),
        component: "rtp",
        latch: side.latch,
        code: side.code,
        rule: side.rule,
        why: side.why,
        advertised: side.advertised,
        signalled: side.signalled,
        held: side.held,
        reached_at: side.target,
        since: Some(ago(side.since)),
        heard: side.heard.map(ago),
        silent: side.silent.map(ago),
        candidate: side.candidate.map(|c| (c.at, c.count, c.needs)),
        risk: side.risk,
        strangers: side.strangers,
    }
}

/// RTCP goes by the odd ports. Its latch is waiting as long as it holds nothing.
fn rtcp(rtp: &FlowView, side: &SideView) -> FlowView {
    let odd = |even: SocketAddr| SocketAddr::new(even.ip(), even.port() | 1);
    let same = side.rtcp_code == side.code;
    FlowView {
        at: odd(side.local),
        component: "rtcp",
        latch: if side.rtcp_held.is_some() {
            "held"
        } else {
            "waiting"
        },
        code: side.rtcp_code,
        rule: if same { side.rule } else { side.rtcp_code },
        advertised: odd(side.advertised),
        held: side.rtcp_held,
        reached_at: side.rtcp_target,
        since: None,
        heard: None,
        silent: None,
        candidate: None,
        risk: None,
        ..rtp.clone()
    }
}

/// One party of a call.
#[derive(Clone, Debug)]
pub struct LegView {
    pub network: NetworkId,
    pub signalling: Path,
    pub natted: bool,
    pub target: String,
    /// Where its media is sent; none before there is any.
    pub media: Option<Mode>,
    /// An operator said so, for this call.
    pub ordered: bool,
}

/// One of those a call was offered to.
#[derive(Clone, Debug)]
pub struct BranchView {
    pub network: NetworkId,
    pub target: String,
    pub signalling: SocketAddr,
    pub state: &'static str,
    /// Its latest response; zero if there was none.
    pub status: u16,
}

/// One binding.
#[derive(Clone, Debug)]
pub struct RegistrationView {
    pub aor: Aor,
    pub contact: String,
    pub instance: Option<String>,
    /// Where the REGISTER really came from.
    pub seen: Path,
    /// The address its Contact names, and the one its Via does.
    pub claimed: Option<SocketAddr>,
    pub via: Option<SocketAddr>,
    pub network: NetworkId,
    pub natted: bool,
    /// Why it is taken to be behind a NAT, or not to be.
    pub nat_why: String,
    /// Where requests to it go.
    pub reached_at: SocketAddr,
    /// It can be reached: by datagrams always, else as long as its connection stands.
    pub reachable: bool,
    /// The SIP address of ours that it is told.
    pub told: Option<SocketAddr>,
    pub age: Duration,
    pub expires_in: Duration,
    pub user_agent: Option<String>,
    /// RFC 5626 §4.2.
    pub reg_id: Option<u32>,
    /// In thousandths.
    pub q: u16,
    /// Where it came from before.
    pub moved_from: Option<SocketAddr>,
    /// The peer that keeps it, and for how long.
    pub upstream: Option<(String, Duration)>,
}

/// The numbers of `status`; registrations are those of the first shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub calls: usize,
    pub calls_answered: usize,
    pub registrations: usize,
    pub transactions: usize,
    pub adopted_flows: usize,
}

impl Engine {
    /// # Errors
    /// Says why nothing was done.
    pub fn command(
        &mut self,
        command: Command,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        match command {
            Command::HangUp { call } => self
                .hang_up_call(CallKey(call), "administrator", now, effects)
                .then_some(())
                .ok_or(Refused::NoSuchCall),
            Command::DropRegistration { aor } => match aor.split_once('@') {
                Some((user, domain))
                    if self.drop_registration(&Aor::new(user, domain), now, effects) > 0 =>
                {
                    let why = vec![("why", "administrator".to_owned())];
                    self.note(now, Kind::RegistrationEnded, aor, why);
                    Ok(())
                }
                _ => Err(Refused::NoSuchRegistration),
            },
            Command::SetMedia { call, leg, mode } => {
                let call = self.calls.get_mut(&CallKey(call));
                let call = call.ok_or(Refused::NoSuchCall)?;
                let session = call.session.as_mut().ok_or(Refused::NoMedia)?;
                session.set_mode(leg, mode, now, effects);
                Ok(())
            }
            Command::Refresh { call } => self.refresh_now(CallKey(call), now, effects),
            Command::Ban { net, time } => self.ban(net, time, now, effects),
            Command::ProbePeer { name } => self.probe_now(&name, now, effects),
            Command::Unban { net } => self.unban(net, now, effects),
            Command::Drain { deadline } => {
                self.begin_drain(deadline, now);
                Ok(())
            }
            Command::Undrain => {
                self.end_drain(now);
                Ok(())
            }
        }
    }

    fn refresh_now(
        &mut self,
        key: CallKey,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let mut call = self.calls.remove(&key).ok_or(Refused::NoSuchCall)?;
        let answered = call.answered.is_some();
        if answered {
            self.schedule(key, &mut call, &Side::BOTH, false, now);
        }
        self.calls.insert(key, call);
        self.run_refreshes(now, effects);
        answered.then_some(()).ok_or(Refused::NotAnswered)
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            calls: self.calls.len(),
            calls_answered: self.calls.values().filter(|c| c.answered.is_some()).count(),
            registrations: if self.shard.is_first() {
                self.registrar.len()
            } else {
                0
            },
            transactions: self.transactions.len(),
            adopted_flows: self.adopted.len(),
        }
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[must_use]
    pub fn calls(&self, now: Instant) -> Vec<CallView> {
        self.calls
            .iter()
            .map(|(key, call)| call.view(key.0, now))
            .collect()
    }

    /// The flows all calls want now: what `Install` and `Remove` add up to.
    #[must_use]
    pub fn flows_wanted(&self) -> BTreeMap<SocketAddr, Rule> {
        let sessions = self.calls.values().filter_map(|c| c.session.as_ref());
        sessions.flat_map(Session::wanted).collect()
    }

    /// The media sockets all calls hold now: what `Open` and `Close` add up to.
    #[must_use]
    pub fn sockets_wanted(&self) -> BTreeSet<SocketAddr> {
        let sessions = self.calls.values().filter_map(|c| c.session.as_ref());
        sessions
            .flat_map(Session::locals)
            .map(|(_, at)| at)
            .collect()
    }

    /// Port pairs of a network that calls hold now.
    #[must_use]
    pub fn ports_used(&self, network: NetworkId, now: Instant) -> usize {
        self.pools
            .usage(now)
            .find(|(id, _)| *id == network)
            .map_or(0, |(_, usage)| usage.taken)
    }

    #[must_use]
    pub fn registrations(&self, now: Instant) -> Vec<RegistrationView> {
        self.registrar
            .iter()
            .map(|(aor, binding)| self.registration_view(aor, binding, now))
            .collect()
    }

    /// Addresses-of-record that have bindings.
    pub fn registered(&self) -> impl Iterator<Item = &Aor> {
        self.registrar.registered()
    }

    /// The bindings of one address-of-record, the newest first.
    #[must_use]
    pub fn registrations_of(&self, aor: &str, now: Instant) -> Vec<RegistrationView> {
        let Some((user, domain)) = aor.split_once('@') else {
            return Vec::new();
        };
        let aor = Aor::new(user, domain);
        let bindings = self.registrar.fetch(&aor, now).into_iter();
        bindings
            .map(|binding| self.registration_view(&aor, binding, now))
            .collect()
    }

    pub(super) fn registration_view(
        &self,
        aor: &Aor,
        binding: &Binding,
        now: Instant,
    ) -> RegistrationView {
        let network = self.network(binding.network);
        RegistrationView {
            aor: aor.clone(),
            contact: text(&binding.contact),
            instance: binding.instance.as_deref().map(text),
            seen: binding.path,
            claimed: binding.claimed,
            via: binding.via,
            network: binding.network,
            natted: binding.natted,
            nat_why: network.map_or_else(String::new, |n| nat_words(n, binding)),
            reached_at: way_to(binding).to,
            reachable: self.is_reachable(binding.path),
            told: network.map(|n| told_sip(n, binding.path.on)),
            age: now.saturating_duration_since(binding.registered_at),
            expires_in: binding.expires_at.saturating_duration_since(now),
            user_agent: binding.user_agent.clone(),
            reg_id: binding.reg_id,
            q: binding.q,
            moved_from: binding.moved_from.map(|path| path.to),
            upstream: binding.upstream.as_ref().map(|upstream| {
                let left = upstream.expires_at.saturating_duration_since(now);
                (upstream.peer.clone(), left)
            }),
        }
    }
}

/// Bytes from the wire for an operator's eyes.
pub(super) fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}
