//! A packet filter, and what becomes of a packet in it. Three answers: it passes, a rule stops it,
//! or it cannot be told, because a condition is one we do not evaluate.
//!
//! nftables and iptables are brought into one form. Base chains of one hook all have to let a
//! packet pass; an *accept* ends only the chain it stands in.

pub mod iptables;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Which program shows and changes these rules.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Backend {
    Nft,
    /// iptables over nftables: readable only by `iptables-nft-save`.
    Xt,
    /// iptables of old, which nftables does not see.
    Legacy,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ruleset {
    pub backend: Backend,
    pub chains: Vec<Chain>,
    /// What is there and was left out.
    pub remarks: Vec<String>,
}

/// Where in its way a packet meets a base chain.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
    Netdev,
}

impl Family {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }

    fn sees(self, ip: IpAddr) -> bool {
        match self {
            Self::Ip => ip.is_ipv4(),
            Self::Ip6 => ip.is_ipv6(),
            Self::Inet | Self::Netdev => true,
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    pub family: Family,
    pub table: String,
    pub name: String,
    /// Of a base chain: its hook and its priority.
    pub hook: Option<(Hook, i64)>,
    pub drops_by_default: bool,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// All of them have to hold.
    pub conditions: Vec<Condition>,
    pub action: Action,
    /// Its place in the chain, from one.
    pub number: usize,
    /// As its program shows it.
    pub text: String,
    /// What nft calls it by.
    pub handle: Option<u64>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// It counts, logs, marks.
    None,
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Goto(String),
    /// The packet goes elsewhere: another address, another port.
    Divert(String),
    /// Something we do not know the outcome of.
    Unknown(String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    pub negated: bool,
    pub test: Test,
}

impl Condition {
    #[must_use]
    pub fn is(test: Test) -> Self {
        Self {
            negated: false,
            test,
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Test {
    /// A name that ends in `*` stands for all that begin so.
    ArrivesAt(Vec<String>),
    LeavesBy(Vec<String>),
    Source(Vec<RangeInclusive<IpAddr>>),
    Target(Vec<RangeInclusive<IpAddr>>),
    SourcePort(Vec<RangeInclusive<u16>>),
    TargetPort(Vec<RangeInclusive<u16>>),
    /// Numbers of IANA.
    Protocol(Vec<u8>),
    Ipv4,
    Ipv6,
    /// Connections as conntrack calls them; a packet of ours is a new one.
    New(bool),
    /// The packet is for this host.
    ForUs(bool),
    Always,
    /// One of several groups holds.
    Any(Vec<Vec<Condition>>),
    /// It cannot be told, and what it asks.
    Unknown(String),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

/// The first packet of somebody, or our first to them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    pub arrives_at: Option<String>,
    pub leaves_by: Option<String>,
    pub source: IpAddr,
    pub target: IpAddr,
    pub protocol: Protocol,
    pub source_port: u16,
    pub target_port: u16,
}

/// What becomes of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Passes,
    Stopped(Place),
    /// This might stop it, because of something that cannot be told.
    Unknown(Place, String),
}

/// A rule, or the policy of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub backend: Backend,
    pub family: Family,
    pub table: String,
    pub chain: String,
    /// None is the chain's policy.
    pub rule: Option<(usize, String)>,
    pub verb: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, chain, verb) = (&self.table, &self.chain, self.verb);
        let family = match self.backend {
            Backend::Nft => format!("{} ", self.family.name()),
            Backend::Xt | Backend::Legacy if self.family == Family::Ip6 => "ip6tables ".to_owned(),
            Backend::Xt | Backend::Legacy => String::new(),
        };
        match &self.rule {
            None => write!(
                f,
                "table {family}{table}, chain {chain}: its policy is {verb}"
            ),
            Some((number, text)) => {
                write!(
                    f,
                    "table {family}{table}, chain {chain}, rule {number}: {text}"
                )
            }
        }
    }
}

/// Chains that lead into each other deeper than this are given up.
const DEPTH_MAX: usize = 32;
/// Rules looked at for one packet.
const STEPS_MAX: usize = 200_000;

impl Ruleset {
    /// Carries a packet through every base chain it meets.
    #[must_use]
    pub fn judge(&self, packet: &Packet) -> Outcome {
        let hooks: &[Hook] = match packet.arrives_at {
            Some(_) => &[Hook::Ingress, Hook::Prerouting, Hook::Input],
            None => &[Hook::Output, Hook::Postrouting],
        };
        self.through(packet, hooks)
    }

    /// The same for what would be forwarded by the stack.
    #[must_use]
    pub fn forwarded(&self, packet: &Packet) -> Outcome {
        self.through(packet, &[Hook::Forward])
    }

    fn through(&self, packet: &Packet, hooks: &[Hook]) -> Outcome {
        let mut bases: Vec<(Hook, i64, &Chain)> = self
            .chains
            .iter()
            .filter_map(|chain| chain.hook.map(|(hook, priority)| (hook, priority, chain)))
            .filter(|(hook, _, chain)| hooks.contains(hook) && chain.family.sees(packet.target))
            .collect();
        bases.sort_by_key(|(hook, priority, _)| (*hook, *priority));
        let mut first_doubt = None;
        for (_, _, base) in bases {
            let mut walk = Walk::new(self, packet);
            match walk.base(base) {
                Outcome::Passes => {}
                Outcome::Stopped(place) => {
                    // It may never have got here.
                    return match first_doubt {
                        Some(doubt) => doubt,
                        None => Outcome::Stopped(place),
                    };
                }
                doubt @ Outcome::Unknown(..) => {
                    first_doubt.get_or_insert(doubt);
                }
            }
        }
        first_doubt.unwrap_or(Outcome::Passes)
    }

    fn chain(&self, beside: &Chain, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| {
            chain.family == beside.family && chain.table == beside.table && chain.name == name
        })
    }
}

/// How a chain was left.
enum End {
    Accepted,
    Stopped(Place),
    /// Past its last rule, or by *return*.
    Through,
}

struct Walk<'a> {
    rules: &'a Ruleset,
    packet: &'a Packet,
    steps: usize,
    /// What might have stopped it, and why that cannot be told.
    doubt: Option<(Place, String)>,
    /// It may have been accepted before whatever stopped it.
    accepted: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(rules: &'a Ruleset, packet: &'a Packet) -> Self {
        Self {
            rules,
            packet,
            steps: 0,
            doubt: None,
            accepted: None,
        }
    }

    fn base(&mut self, base: &Chain) -> Outcome {
        let stopped = match self.chain(base, 0) {
            End::Accepted => None,
            End::Stopped(place) => Some(place),
            End::Through => base
                .drops_by_default
                .then(|| self.place(base, None, "drop")),
        };
        match (stopped, self.doubt.take(), self.accepted.take()) {
            (Some(place), _, Some(why)) => Outcome::Unknown(place, why),
            (Some(place), _, None) => Outcome::Stopped(place),
            (None, Some((place, why)), _) => Outcome::Unknown(place, why),
            (None, None, _) => Outcome::Passes,
        }
    }

    fn chain(&mut self, chain: &Chain, depth: usize) -> End {
        for rule in &chain.rules {
            self.steps += 1;
            if depth > DEPTH_MAX || self.steps > STEPS_MAX {
                let place = self.place(chain, Some(rule), "drop");
                self.doubt = Some((place, "too many rules".to_owned()));
                return End::Through;
            }
            let end = match all(&rule.conditions, self.packet) {
                Known::No => continue,
                Known::Yes => self.act(chain, rule, depth),
                Known::Unknown(why) => {
                    self.perhaps(chain, rule, depth, why);
                    continue;
                }
            };
            match end {
                Step::On => {}
                Step::End(end) => return end,
            }
        }
        End::Through
    }

    /// A rule that holds.
    fn act(&mut self, chain: &Chain, rule: &Rule, depth: usize) -> Step {
        match &rule.action {
            Action::None => Step::On,
            Action::Accept => Step::End(End::Accepted),
            Action::Return => Step::End(End::Through),
            Action::Drop => Step::End(End::Stopped(self.place(chain, Some(rule), "drop"))),
            Action::Reject => Step::End(End::Stopped(self.place(chain, Some(rule), "reject"))),
            Action::Divert(_) => Step::End(End::Stopped(self.place(chain, Some(rule), "divert"))),
            Action::Unknown(what) => {
                let place = self.place(chain, Some(rule), "drop");
                self.doubt.get_or_insert((place, what.clone()));
                Step::On
            }
            Action::Jump(name) => match self.enter(chain, name, depth) {
                End::Through => Step::On,
                end @ (End::Accepted | End::Stopped(_)) => Step::End(end),
            },
            Action::Goto(name) => Step::End(self.enter(chain, name, depth)),
        }
    }

    fn enter(&mut self, from: &Chain, name: &str, depth: usize) -> End {
        let rules = self.rules;
        match rules.chain(from, name) {
            Some(chain) => self.chain(chain, depth + 1),
            None => {
                let place = self.place(from, None, "drop");
                let why = format!("its chain {name} is not known");
                self.doubt.get_or_insert((place, why));
                End::Through
            }
        }
    }

    /// A rule that may hold or not: the packet goes on, and what could have been is remembered.
    fn perhaps(&mut self, chain: &Chain, rule: &Rule, depth: usize, why: String) {
        match self.act(chain, rule, depth) {
            Step::On | Step::End(End::Through) => {}
            Step::End(End::Accepted) => {
                self.accepted.get_or_insert(why);
            }
            Step::End(End::Stopped(place)) => {
                self.doubt.get_or_insert((place, why));
            }
        }
    }

    fn place(&self, chain: &Chain, rule: Option<&Rule>, verb: &'static str) -> Place {
        Place {
            backend: self.rules.backend,
            family: chain.family,
            table: chain.table.clone(),
            chain: chain.name.clone(),
            rule: rule.map(|rule| (rule.number, rule.text.clone())),
            verb,
        }
    }
}

enum Step {
    On,
    End(End),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Known {
    Yes,
    No,
    Unknown(String),
}

impl From<bool> for Known {
    fn from(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

fn all(conditions: &[Condition], packet: &Packet) -> Known {
    let mut unknown = None;
    for condition in conditions {
        match holds(condition, packet) {
            Known::Yes => {}
            Known::No => return Known::No,
            Known::Unknown(why) => unknown = unknown.or(Some(why)),
        }
    }
    unknown.map_or(Known::Yes, Known::Unknown)
}

fn holds(condition: &Condition, packet: &Packet) -> Known {
    match (test(&condition.test, packet), condition.negated) {
        (Known::Yes, true) => Known::No,
        (Known::No, true) => Known::Yes,
        (known, _) => known,
    }
}

fn test(test: &Test, packet: &Packet) -> Known {
    let named = |names: &[String], name: &Option<String>| -> Known {
        let name = name.as_deref().unwrap_or("");
        names.iter().any(|pattern| matches(pattern, name)).into()
    };
    let port = |ranges: &[RangeInclusive<u16>], port: u16| -> Known {
        ranges.iter().any(|range| range.contains(&port)).into()
    };
    let address = |ranges: &[RangeInclusive<IpAddr>], ip: IpAddr| -> Known {
        let holds = |range: &RangeInclusive<IpAddr>| {
            range.start().is_ipv4() == ip.is_ipv4() && range.contains(&ip)
        };
        ranges.iter().any(holds).into()
    };
    match test {
        Test::ArrivesAt(names) => named(names, &packet.arrives_at),
        Test::LeavesBy(names) => named(names, &packet.leaves_by),
        Test::Source(ranges) => address(ranges, packet.source),
        Test::Target(ranges) => address(ranges, packet.target),
        Test::SourcePort(ranges) => port(ranges, packet.source_port),
        Test::TargetPort(ranges) => port(ranges, packet.target_port),
        Test::Protocol(numbers) => numbers.contains(&packet.protocol.number()).into(),
        Test::Ipv4 => packet.target.is_ipv4().into(),
        Test::Ipv6 => packet.target.is_ipv6().into(),
        Test::New(new) => (*new).into(),
        Test::ForUs(us) => (*us == packet.arrives_at.is_some()).into(),
        Test::Always => Known::Yes,
        Test::Any(groups) => any(groups, packet),
        Test::Unknown(what) => Known::Unknown(what.clone()),
    }
}

fn any(groups: &[Vec<Condition>], packet: &Packet) -> Known {
    let mut found = Known::No;
    for group in groups {
        match all(group, packet) {
            Known::Yes => return Known::Yes,
            Known::No => {}
            unknown @ Known::Unknown(_) => found = unknown,
        }
    }
    found
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests;
