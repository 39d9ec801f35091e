//! What `iptables-save` prints, of either backend and family (iptables-save(8),
//! iptables-extensions(8)).

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{Action, Backend, Chain, Condition, Family, Hook, Rule, Ruleset, Test};

/// Reads the text of one family; lines that make no sense become remarks.
#[must_use]
pub fn read(text: &str, backend: Backend, family: Family) -> Ruleset {
    let mut rules = Ruleset {
        backend,
        chains: Vec::new(),
        remarks: Vec::new(),
    };
    let mut table = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            rules.chains.extend(declared(chain, &table, family));
        } else if line.starts_with("-A ") {
            append(&mut rules.chains, line, &table);
        } else if !(line.is_empty() || line.starts_with('#') || line == "COMMIT") {
            rules.remarks.push(format!("not understood: {line}"));
        }
    }
    rules
}

/// `INPUT ACCEPT [0:0]`
fn declared(text: &str, table: &str, family: Family) -> Option<Chain> {
    let mut words = text.split_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    Some(Chain {
        family,
        table: table.to_owned(),
        name: name.to_owned(),
        hook: hook(name).map(|hook| (hook, priority(table))),
        drops_by_default: policy == "DROP",
        rules: Vec::new(),
    })
}

fn hook(chain: &str) -> Option<Hook> {
    match chain {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "FORWARD" => Some(Hook::Forward),
        "OUTPUT" => Some(Hook::Output),
        "POSTROUTING" => Some(Hook::Postrouting),
        _ => None,
    }
}

/// `enum nf_ip_hook_priorities` of the kernel.
fn priority(table: &str) -> i64 {
    match table {
        "raw" => -300,
        "mangle" => -150,
        "nat" => -100,
        "security" => 50,
        _ => 0,
    }
}

fn append(chains: &mut [Chain], line: &str, table: &str) {
    let words = words(line);
    let Some(name) = words.get(1) else { return };
    let chain = chains
        .iter_mut()
        .find(|chain| chain.table == table && chain.name == *name);
    let Some(chain) = chain else { return };
    let spec = words.get(2..).unwrap_or_default();
    let (conditions, action) = Reader::new(spec).read();
    chain.rules.push(Rule {
        conditions,
        action,
        number: chain.rules.len() + 1,
        text: line.to_owned(),
        handle: None,
    });
}

/// Words, some of them in quotation marks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut escaped, mut any) = (String::new(), false, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Reads the options of one rule from left to right.
struct Reader<'a> {
    words: std::iter::Peekable<std::slice::Iter<'a, String>>,
    conditions: Vec<Condition>,
    /// Matches that were loaded (`-m`) and of which nothing was understood yet.
    module: Option<&'a str>,
    action: Action,
}

impl<'a> Reader<'a> {
    fn new(words: &'a [String]) -> Self {
        Self {
            words: words.iter().peekable(),
            conditions: Vec::new(),
            module: None,
            action: Action::None,
        }
    }

    fn read(mut self) -> (Vec<Condition>, Action) {
        let mut negated = false;
        while let Some(word) = self.words.next() {
            match word.as_str() {
                "!" => {
                    negated = true;
                    continue;
                }
                "-j" | "--jump" => {
                    let target = self.value();
                    self.action = self.target(target);
                }
                "-g" | "--goto" => self.action = Action::Goto(self.value().to_owned()),
                "-m" | "--match" => {
                    let module = self.value();
                    self.module(module);
                }
                option => {
                    let test = self.option(option);
                    self.conditions
                        .extend(test.map(|test| Condition { negated, test }));
                }
            }
            negated = false;
        }
        self.end_module();
        (self.conditions, self.action)
    }

    fn value(&mut self) -> &'a str {
        self.words.next().map_or("", String::as_str)
    }

    /// A match without an option of ours is one we know nothing of.
    fn module(&mut self, name: &'a str) {
        self.end_module();
        self.module = Some(name);
    }

    fn end_module(&mut self) {
        let silent = ["udp", "tcp", "comment", "multiport", "conntrack", "state"];
        if let Some(name) = self.module.take()
            && !silent.contains(&name)
        {
            let what = format!("-m {name}");
            self.conditions.push(Condition::is(Test::Unknown(what)));
        }
    }

    /// None: it is no condition.
    fn option(&mut self, option: &str) -> Option<Test> {
        let understood = match option {
            "-p" | "--protocol" => protocol(self.value()),
            "-s" | "--source" => nets(self.value()).map(Test::Source),
            "-d" | "--destination" => nets(self.value()).map(Test::Target),
            "-i" | "--in-interface" => Some(Test::ArrivesAt(vec![interface(self.value())])),
            "-o" | "--out-interface" => Some(Test::LeavesBy(vec![interface(self.value())])),
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                ports(self.value()).map(Test::TargetPort)
            }
            "--sport" | "--sports" | "--source-port" | "--source-ports" => {
                ports(self.value()).map(Test::SourcePort)
            }
            "--ports" => both(self.value()),
            "--ctstate" | "--state" => Some(state(self.value())),
            "--src-range" => self.understood(range).map(Test::Source),
            "--dst-range" => self.understood(range).map(Test::Target),
            "--dst-type" => self.understood(|kind| match kind {
                "LOCAL" => Some(Test::ForUs(true)),
                "BROADCAST" | "MULTICAST" | "ANYCAST" => Some(never()),
                _ => None,
            }),
            "--pkt-type" => self.understood(|kind| match kind {
                "unicast" | "host" => Some(Test::Always),
                "broadcast" | "multicast" => Some(never()),
                _ => None,
            }),
            "--comment" => {
                self.value();
                return None;
            }
            "-f" | "--fragment" => Some(never()),
            // SYN alone: what opens a connection.
            "--tcp-flags" => {
                let (mask, set) = (self.value(), self.value());
                (mask.contains("SYN") && set == "SYN").then_some(Test::Always)
            }
            "--syn" => Some(Test::Always),
            _ => None,
        };
        if understood.is_some() {
            return understood;
        }
        // The values of what we do not know belong to it.
        let mut what = option.to_owned();
        while let Some(value) = self.words.next_if(|word| !begins_option(word)) {
            what.push(' ');
            what.push_str(value);
        }
        // The match as a whole is what cannot be told.
        if self.module.take().is_none() && self.action != Action::None {
            return None;
        }
        Some(Test::Unknown(what))
    }

    /// An option that says all a match has to say.
    fn understood<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = read(self.words.peek()?)?;
        self.words.next();
        self.module = None;
        Some(found)
    }

    fn target(&mut self, name: &str) -> Action {
        self.end_module();
        match name {
            "ACCEPT" => Action::Accept,
            "DROP" => Action::Drop,
            "REJECT" => Action::Reject,
            "RETURN" => Action::Return,
            "DNAT" | "REDIRECT" | "TPROXY" | "NETMAP" => {
                let rest: Vec<&str> = self.words.by_ref().map(String::as_str).collect();
                Action::Divert(format!("{name} {}", rest.join(" ")))
            }
            "QUEUE" | "NFQUEUE" | "SYNPROXY" => Action::Unknown(format!("-j {name}")),
            name if is_remark(name) => Action::None,
            name => Action::Jump(name.to_owned()),
        }
    }
}

/// Targets after which a packet goes on as it was, or with another source.
fn is_remark(target: &str) -> bool {
    [
        "LOG",
        "NFLOG",
        "ULOG",
        "MARK",
        "CONNMARK",
        "CT",
        "NOTRACK",
        "DSCP",
        "TOS",
        "TTL",
        "HL",
        "CLASSIFY",
        "TCPMSS",
        "TRACE",
        "AUDIT",
        "SECMARK",
        "CONNSECMARK",
        "CHECKSUM",
        "SET",
        "MASQUERADE",
        "SNAT",
        "TEE",
        "RATEEST",
        "LED",
        "IDLETIMER",
    ]
    .contains(&target)
}

fn begins_option(word: &str) -> bool {
    word == "!" || (word.starts_with('-') && word.len() > 1)
}

fn never() -> Test {
    Test::Any(Vec::new())
}

fn protocol(name: &str) -> Option<Test> {
    let number = match name {
        "all" => return Some(Test::Always),
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "sctp" => 132,
        "udplite" => 136,
        other => other.parse().ok()?,
    };
    Some(Test::Protocol(vec![number]))
}

/// `eth+` stands for all that begin so.
fn interface(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(begin) => format!("{begin}*"),
        None => name.to_owned(),
    }
}

fn nets(list: &str) -> Option<Vec<RangeInclusive<IpAddr>>> {
    list.split(',').map(net).collect()
}

fn whole(net: IpNet) -> RangeInclusive<IpAddr> {
    let last = match net {
        IpNet::V4(net) => IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => IpAddr::V6(net.broadcast()),
    };
    net.network()..=last
}

fn net(text: &str) -> Option<RangeInclusive<IpAddr>> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip..=ip);
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(whole(net));
    }
    // 10.0.0.0/255.0.0.0
    let (ip, mask) = text.split_once('/')?;
    let net = IpNet::with_netmask(ip.parse().ok()?, mask.parse().ok()?).ok()?;
    Some(whole(net))
}

fn range(text: &str) -> Option<Vec<RangeInclusive<IpAddr>>> {
    let (first, last) = text.split_once('-')?;
    Some(vec![first.parse().ok()?..=last.parse().ok()?])
}

fn ports(list: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let one = |text: &str| {
        let (first, last) = match text.split_once(':') {
            Some((first, last)) => (
                if first.is_empty() { "0" } else { first },
                if last.is_empty() { "65535" } else { last },
            ),
            None => (text, text),
        };
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').map(one).collect()
}

fn both(list: &str) -> Option<Test> {
    let ranges = ports(list)?;
    let group = |test| vec![Condition::is(test)];
    Some(Test::Any(vec![
        group(Test::SourcePort(ranges.clone())),
        group(Test::TargetPort(ranges)),
    ]))
}

fn state(list: &str) -> Test {
    let new = list.split(',').any(|state| state == "NEW");
    Test::New(new)
}
