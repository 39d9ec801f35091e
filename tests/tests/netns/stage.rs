//! The stage of every scenario: a lab, a daemon in its edge, and people who call each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use towpath_tests::calls::{Call, Flow};
use towpath_tests::clock;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::process::{self, Refusal, Towpath};
use towpath_tests::talk::{End, Heard, ReportsHeard, Talk};
use towpath_tests::ua::{Dialog, Ua};

/// How long anything may take that should be a matter of milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// 250 packets a second each way.
pub(crate) const EVERY: Duration = Duration::from_millis(4);

/// What a scenario runs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// The program attached.
    Xdp,
    /// Without it.
    Userspace,
}

impl Mode {
    /// The path of a flow that has found its peer.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Userspace => "user",
        }
    }
}

/// The configuration's variables.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) mode: &'static str,
    pub(crate) object: Option<PathBuf>,
    pub(crate) pin_dir: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) media_timeout: &'static str,
    pub(crate) flows: u32,
    pub(crate) networks: Vec<Net>,
    pub(crate) sip_port: u16,
    /// Certificate and key: TCP and TLS are listened for too.
    pub(crate) streams: Option<(PathBuf, PathBuf)>,
    /// `[sip.protection]`, and what else follows `[sip]`.
    pub(crate) sip: &'static str,
}

/// One `[[network]]`.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) name: &'static str,
    pub(crate) interface: &'static str,
    pub(crate) address: &'static str,
    pub(crate) peers: &'static str,
    /// First and last.
    pub(crate) ports: (u16, u16),
    /// Further lines.
    pub(crate) more: &'static str,
}

const fn net(
    interface: &'static str,
    address: &'static str,
    peers: &'static str,
    ports: (u16, u16),
) -> Net {
    Net {
        name: interface,
        interface,
        address,
        peers,
        ports,
        more: "",
    }
}

pub(crate) const WAN: Net = net("wan", plan::EDGE_WAN, "0.0.0.0/0", (30_000, 30_199));
pub(crate) const LAN: Net = net("lan", plan::EDGE_LAN, "10.1.0.0/24", (20_000, 20_199));
pub(crate) const CORE: Net = net("core", plan::EDGE_CORE, "10.9.0.0/24", (40_000, 40_199));
pub(crate) const WAN_V6: Net = Net {
    name: "wan6",
    ..net("wan", plan::EDGE_WAN_V6, "::/0", (30_000, 30_199))
};
pub(crate) const LAN_V6: Net = Net {
    name: "lan6",
    ..net(
        "lan",
        plan::EDGE_LAN_V6,
        "2001:db8:a::/64",
        (20_000, 20_199),
    )
};

impl Config {
    pub(crate) fn new(lab: &Lab, mode: Mode) -> Self {
        Self {
            mode: match mode {
                Mode::Xdp => "xdp",
                Mode::Userspace => "userspace",
            },
            object: Some(process::object().unwrap()),
            pin_dir: lab.bpffs().join("towpath"),
            store: lab.directory("towpath").unwrap().join("state.redb"),
            media_timeout: "60s",
            flows: 1024,
            networks: vec![WAN, LAN, CORE],
            sip_port: 5060,
            streams: None,
            sip: "",
        }
    }

    pub(crate) fn toml(&self) -> String {
        let port = self.sip_port;
        let listen: Vec<_> = self.networks.iter().map(|n| n.listen(port)).collect();
        let mut listen = listen;
        listen.dedup();
        let mut tls = String::new();
        if let Some((certificate, key)) = &self.streams {
            listen.push("\"tcp:0.0.0.0:5060\", \"tls:0.0.0.0:5061\"".to_owned());
            tls = format!("[sip.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        }
        let listen = listen.join(", ");
        let networks: String = self.networks.iter().map(Net::toml).collect();
        let object = match &self.object {
            Some(object) => format!("object = {object:?}\n"),
            None => String::new(),
        };
        let Self {
            mode,
            pin_dir,
            store,
            media_timeout,
            flows,
            sip,
            ..
        } = self;
        let state_dir = store.parent().unwrap();
        format!(
            "[node]\nid = \"lab\"\nstate_dir = {state_dir:?}\n\n\
             [sip]\ndomain = \"{DOMAIN}\"\nauth = \"none\"\n\
             listen = [{listen}]\n{tls}\n{sip}[[sip.peer]]\nname = \"mcu\"\n\
             uri = \"sip:{mcu}:5060\"\n\
             routes = [\"9*\"]\n\n{networks}[datapath]\nmode = \"{mode}\"\n\
             pin_dir = {pin_dir:?}\nflows = {flows}\nmedia_timeout = \"{media_timeout}\"\n\
             {object}\n\
             [store]\npath = {store:?}\n",
            mcu = plan::ip(plan::MCU_V4),
        )
    }
}

impl Net {
    fn listen(&self, port: u16) -> String {
        let at = std::net::SocketAddr::new(self.address.parse().unwrap(), port);
        format!("\"udp:{at}\"")
    }

    fn toml(&self) -> String {
        let Self {
            name,
            interface,
            address,
            peers,
            ports: (first, last),
            more,
        } = self;
        format!(
            "[[network]]\nname = \"{name}\"\ninterface = \"{interface}\"\n\
             address = \"{address}\"\npeers = [\"{peers}\"]\nmedia_ports = \"{first}-{last}\"\n\
             {more}\n"
        )
    }
}

/// The daemon on its stage.
pub(crate) struct Stage {
    pub(crate) towpath: Towpath,
    pub(crate) lab: Lab,
    pub(crate) mode: Mode,
    pub(crate) config: Config,
}

/// A call that stands, between two user agents.
pub(crate) struct Between<'a> {
    pub(crate) caller: &'a Ua,
    pub(crate) callee: &'a Ua,
    pub(crate) dialog: Dialog,
}

impl Stage {
    pub(crate) fn raise(mode: Mode, parts: &Parts) -> Self {
        Self::with(mode, parts, |_| {})
    }

    /// With another configuration.
    pub(crate) fn with(mode: Mode, parts: &Parts, change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Lab::raise(parts).unwrap(), mode, change)
    }

    /// On a lab that was added to.
    pub(crate) fn on(lab: Lab, mode: Mode, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(&lab, mode);
        change(&mut config);
        let directory = lab.directory("towpath").unwrap();
        let edge = lab.namespace(Role::Edge).unwrap();
        let binary = process::binary().unwrap();
        let towpath = Towpath::start(edge, &binary, &directory, &config.toml()).unwrap();
        Self {
            towpath,
            lab,
            mode,
            config,
        }
    }

    /// Starts the daemon again, which is dead.
    pub(crate) fn restart(&mut self) {
        let edge = self.lab.namespace(Role::Edge).unwrap();
        self.towpath.restart(edge).unwrap();
    }

    /// A phone where that role lives in the lab, registered unless it is the conference peer.
    pub(crate) fn phone(&self, role: Role, user: &str) -> Ua {
        let (ip, edge) = match role {
            Role::C1 => (plan::C1_V4, plan::EDGE_WAN),
            Role::C2 => (plan::C2_V4, plan::EDGE_WAN),
            Role::C3 => (plan::C3_V4, plan::EDGE_LAN),
            Role::Far => (plan::FAR_V4, plan::EDGE_WAN),
            Role::Mcu => (plan::MCU_V4, plan::EDGE_CORE),
            Role::Outside => (plan::OUTSIDE, plan::ip(plan::PORT_MAP_OUT)),
            Role::Attacker => (plan::ATTACKER_V4, plan::EDGE_WAN),
            Role::Edge
            | Role::Nat1
            | Role::Carrier
            | Role::PortMap
            | Role::Delay
            | Role::Switch => {
                panic!("{role:?} has no phone")
            }
        };
        let ua = self.ua(role, user, plan::ip(ip), edge);
        if role != Role::Mcu {
            ua.register().unwrap();
        }
        ua
    }

    /// A registered phone in the LAN beside c3, at another address of its own.
    pub(crate) fn second_lan_phone(&self, user: &str) -> Ua {
        let c3 = self.lab.namespace(Role::C3).unwrap();
        c3.addresses("eth0", &["10.1.0.31/24"]).unwrap();
        let ua = self.ua(Role::C3, user, "10.1.0.31", plan::EDGE_LAN);
        ua.register().unwrap();
        ua
    }

    /// Starts another daemon, which is expected to refuse: at a socket of its own, or at `socket`.
    pub(crate) fn refusal(
        &self,
        config: &Config,
        under: &[&str],
        socket: Option<&Path>,
    ) -> Refusal {
        let directory = self.lab.directory("towpath").unwrap();
        let edge = self.lab.namespace(Role::Edge).unwrap();
        let binary = process::binary().unwrap();
        Towpath::refusal(edge, under, &binary, &directory, &config.toml(), socket).unwrap()
    }

    /// A user agent at an address, not registered.
    pub(crate) fn ua(&self, role: Role, user: &str, ip: &str, edge: &str) -> Ua {
        let namespace = self.lab.namespace(role).unwrap();
        let edge = std::net::SocketAddr::new(edge.parse().unwrap(), 5060);
        Ua::new(namespace, user, DOMAIN, ip.parse().unwrap(), 10_000, edge).unwrap()
    }

    /// One calls the other; returns when every media flow has found its peer and goes the way it
    /// should, `path`.
    pub(crate) fn call<'a>(&self, caller: &'a Ua, callee: &'a Ua, path: &str) -> Between<'a> {
        let call = self.set_up(caller, callee);
        let talk = call.talk();
        self.settled(&call, path);
        talk.hear(5, LIMIT).unwrap();
        talk.hear_reports(2, LIMIT).unwrap();
        talk.finish().unwrap();
        call
    }

    /// One calls the other; whatever becomes of media.
    pub(crate) fn set_up<'a>(&self, caller: &'a Ua, callee: &'a Ua) -> Between<'a> {
        match caller.call(callee) {
            Ok(dialog) => Between {
                caller,
                callee,
                dialog,
            },
            Err(e) => panic!("{e:#}\n{}", self.towpath.tail()),
        }
    }

    /// Waits until all flows of a call, RTP and RTCP both ways, go by `path`; those of RTP.
    pub(crate) fn settled(&self, call: &Between<'_>, path: &str) -> Vec<Flow> {
        let mut settled = self.settle(4, path, || self.all_flows(call));
        settled.retain(Flow::is_media);
        settled
    }

    /// The same for RTP alone.
    pub(crate) fn media_settled(&self, call: &Between<'_>, path: &str) -> Vec<Flow> {
        self.settle(2, path, || self.flows(call))
    }

    fn settle(&self, number: usize, path: &str, flows: impl Fn() -> Vec<Flow>) -> Vec<Flow> {
        let mut last = Vec::new();
        let settled = clock::until("media flows settled", LIMIT, || {
            last = flows();
            let all = last.len() == number && last.iter().all(|f| f.path == path);
            Ok(all.then_some(()))
        });
        if let Err(e) = settled {
            panic!("{e:#}: {last:#?}\n{}", self.towpath.tail());
        }
        last
    }

    /// The RTP flows of a call.
    pub(crate) fn flows(&self, call: &Between<'_>) -> Vec<Flow> {
        let mut flows = self.all_flows(call);
        flows.retain(Flow::is_media);
        flows
    }

    /// The RTP and RTCP flows of a call.
    pub(crate) fn all_flows(&self, call: &Between<'_>) -> Vec<Flow> {
        let calls = self.towpath.calls().unwrap().into_iter();
        let ours = calls.filter(|c: &Call| c.call_id == call.dialog.id);
        ours.flat_map(|c| c.flows).collect()
    }

    /// Streams of calls that the daemon knows, or has taken over: a call of the last second before
    /// a kill is not kept, its media is.
    pub(crate) fn known_flows(&self) -> u64 {
        self.number("calls.now") * 2 + self.number("flows.adopted")
    }

    /// A number from the status: `flows.adopted`.
    pub(crate) fn number(&self, path: &str) -> u64 {
        let status = self.towpath.get("/api/v1/status").unwrap();
        let pointer = format!("/{}", path.replace('.', "/"));
        status
            .pointer(&pointer)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// Events of a kind, for every reason: `sip_malformed.`.
    pub(crate) fn counted(&self, prefix: &str) -> u64 {
        let status = self.towpath.get("/api/v1/status").unwrap();
        let counters = status.get("counters").and_then(Value::as_object).unwrap();
        let of_kind = counters.iter().filter(|(name, _)| name.starts_with(prefix));
        of_kind.filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Waits until a number of the status is what it should be.
    pub(crate) fn becomes(&self, path: &str, expected: u64) {
        let mut last = 0;
        let what = format!("{path} = {expected}");
        let waited = clock::until(&what, LIMIT, || {
            last = self.number(path);
            Ok((last == expected).then_some(()))
        });
        if let Err(e) = waited {
            panic!("{e:#}: it is {last}\n{}", self.towpath.tail());
        }
    }

    /// Waits until peers of a network are told this address.
    pub(crate) fn advertises(&self, network: &str, address: &str) {
        let what = format!("{network} to advertise {address}");
        let told = clock::until(&what, LIMIT, || {
            let answer = self.towpath.get("/api/v1/networks")?;
            let networks = answer["networks"].as_array().unwrap().iter();
            let mut ours = networks.filter(|n| n["name"] == network);
            Ok(ours.any(|n| n["advertise"] == address).then_some(()))
        });
        if let Err(e) = told {
            panic!("{e:#}\n{}", self.towpath.tail());
        }
    }

    /// Nothing of any call is left: calls, flows, media sockets, map entries.
    pub(crate) fn is_empty(&self) {
        for number in ["calls.now", "flows.kernel", "flows.user", "media_sockets"] {
            self.becomes(number, 0);
        }
        if self.mode == Mode::Xdp {
            assert_eq!(super::maps::ports_in_use(&self.config), 0, "PORTS");
        }
    }

    /// Talks through a call for at least `packets` each way and expects every one of them, once,
    /// by the right path.
    pub(crate) fn carries(&self, call: &Between<'_>, packets: u64, path: &str) -> [Heard; 2] {
        let before = totals(&self.flows(call));
        let talk = call.talk();
        talk.hear(packets, Duration::from_secs(60)).unwrap();
        let heard = talk.finish().unwrap();
        let after = totals(&self.flows(call));
        let (xdp, user) = (after.0 - before.0, after.1 - before.1);
        assert_whole(&heard);
        let sent: u64 = heard.iter().map(|h| u64::from(h.sent)).sum();
        assert_eq!(xdp + user, sent, "xdp {xdp}, user {user}");
        let right = if path == "xdp" { xdp } else { user };
        assert!(
            right * 100 > sent * 99,
            "xdp {xdp}, user {user}, wanted {path}"
        );
        eprintln!("{sent} packets: xdp {xdp}, user {user}; 0 lost");
        heard
    }
}

impl<'a> Between<'a> {
    /// Both send and listen, until told to stop.
    pub(crate) fn talk(&self) -> Talk {
        self.talk_every(EVERY)
    }

    pub(crate) fn talk_every(&self, every: Duration) -> Talk {
        let end = |ua: &'a Ua, sends_to| End {
            rtp: &ua.rtp,
            rtcp: &ua.rtcp,
            sends_to,
            ssrc: ua.ssrc,
        };
        let caller = end(self.caller, self.dialog.caller_sends_to);
        let callee = end(self.callee, self.dialog.callee_sends_to);
        Talk::start([caller, callee], every).unwrap()
    }

    pub(crate) fn hang_up(mut self) {
        self.caller.hang_up(self.callee, &mut self.dialog).unwrap();
    }
}

/// Nothing lost, nothing twice, nothing of anybody else: neither of RTP nor of RTCP.
pub(crate) fn assert_whole(heard: &[Heard; 2]) {
    assert_media_whole(heard);
    for h in heard {
        let whole = ReportsHeard {
            sent: h.reports.sent,
            heard: h.reports.sent,
            ..ReportsHeard::default()
        };
        assert_eq!(h.reports, whole, "{h:?}");
    }
}

/// The same of RTP alone.
pub(crate) fn assert_media_whole(heard: &[Heard; 2]) {
    for h in heard {
        // A sender that moves to another CPU overtakes itself; that is not the edge's doing.
        let (j, missing) = (h.judgement, h.missing());
        assert_eq!((j.lost, j.duplicates, missing), (0, 0, 0), "{h:?}");
        assert_eq!((h.arrived(), h.foreign), (h.sent.into(), 0), "{h:?}");
    }
}

/// Packets by xdp and by user.
pub(crate) fn totals(flows: &[Flow]) -> (u64, u64) {
    let xdp = flows.iter().map(|f| f.packets_xdp).sum();
    let user = flows.iter().map(|f| f.packets_user).sum();
    (xdp, user)
}
