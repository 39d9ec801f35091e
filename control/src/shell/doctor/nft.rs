//! `nft -j list ruleset` (libnftables-json(5)) in the form of `doctor::firewall`. What is not
//! understood becomes a condition that cannot be told, never one that is left out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde_json::Value;

use crate::doctor::firewall::{
    Action, Backend, Chain, Condition, Family, Hook, Rule, Ruleset, Test,
};

/// Reads the document. `foreign` names tables (family, table) that another program shows better.
pub(super) fn read(
    document: &Value,
    foreign: &dyn Fn(Family, &str) -> bool,
) -> Result<Ruleset, String> {
    let listed = document.get("nftables").and_then(Value::as_array);
    let listed = listed.ok_or("nft printed no `nftables`")?;
    let mut rules = Ruleset {
        backend: Backend::Nft,
        chains: Vec::new(),
        remarks: Vec::new(),
    };
    let objects = |kind: &'static str| listed.iter().filter_map(move |object| object.get(kind));
    let mut sets: Sets<'_> = BTreeMap::new();
    for kind in ["set", "map"] {
        for set in objects(kind) {
            let elements = set.get("elem").and_then(Value::as_array);
            if let Some(key) = place(set, "name") {
                sets.insert(key, elements.map(Vec::as_slice).unwrap_or_default());
            }
        }
    }
    for chain in objects("chain") {
        match read_chain(chain) {
            Some(chain) if foreign(chain.family, &chain.table) => {}
            Some(chain) => rules.chains.push(chain),
            None => rules.remarks.push(format!("not understood: {chain}")),
        }
    }
    for rule in objects("rule") {
        add(rule, &sets, &mut rules);
    }
    Ok(rules)
}

/// Elements of named sets and maps: family, table, name.
type Sets<'a> = BTreeMap<(String, String, String), &'a [Value]>;

fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn place(object: &Value, name: &str) -> Option<(String, String, String)> {
    let part = |key| text(object, key).map(str::to_owned);
    Some((part("family")?, part("table")?, part(name)?))
}

fn family(name: &str) -> Option<Family> {
    match name {
        "ip" => Some(Family::Ip),
        "ip6" => Some(Family::Ip6),
        "inet" => Some(Family::Inet),
        "netdev" => Some(Family::Netdev),
        _ => None,
    }
}

fn read_chain(chain: &Value) -> Option<Chain> {
    let family = family(text(chain, "family")?)?;
    let hook = match text(chain, "hook") {
        None => None,
        Some("ingress") => Some(Hook::Ingress),
        Some("prerouting") => Some(Hook::Prerouting),
        Some("input") => Some(Hook::Input),
        Some("forward") => Some(Hook::Forward),
        Some("output") => Some(Hook::Output),
        Some("postrouting") => Some(Hook::Postrouting),
        // `egress`: after everything that could still say no.
        Some(_) => None,
    };
    let priority = chain.get("prio").and_then(Value::as_i64).unwrap_or(0);
    let mut rules = Vec::new();
    if hook == Some(Hook::Ingress) {
        rules.extend(other_devices(chain));
    }
    Some(Chain {
        family,
        table: text(chain, "table")?.to_owned(),
        name: text(chain, "name")?.to_owned(),
        hook: hook.map(|hook| (hook, priority)),
        drops_by_default: text(chain, "policy") == Some("drop"),
        rules,
    })
}

/// An ingress chain sees the packets of its devices only.
fn other_devices(chain: &Value) -> Option<Rule> {
    let devices: Vec<String> = match chain.get("dev") {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        // Older programs do not print it.
        _ => return Some(bare(Test::Unknown("device of the chain".to_owned()))),
    };
    let mut rule = bare(Test::ArrivesAt(devices));
    for condition in &mut rule.conditions {
        condition.negated = true;
    }
    Some(rule)
}

fn bare(test: Test) -> Rule {
    Rule {
        conditions: vec![Condition::is(test)],
        action: Action::Accept,
        number: 0,
        text: "its device".to_owned(),
        handle: None,
    }
}

fn add(rule: &Value, sets: &Sets<'_>, rules: &mut Ruleset) {
    let Some((family_name, table, name)) = place(rule, "chain") else {
        return;
    };
    let wanted = family(&family_name);
    let chain = rules
        .chains
        .iter_mut()
        .find(|chain| Some(chain.family) == wanted && chain.table == table && chain.name == name);
    let Some(chain) = chain else { return };
    let last = chain.rules.last().map_or(0, |rule| rule.number);
    let expressions = rule.get("expr").and_then(Value::as_array);
    let reader = Reader {
        sets,
        family: family_name,
        table,
    };
    let read = reader.rule(expressions.map(Vec::as_slice).unwrap_or_default());
    let comment = text(rule, "comment").map(|comment| format!(" comment \"{comment}\""));
    for (conditions, action) in read.cases {
        chain.rules.push(Rule {
            conditions,
            action,
            number: last + 1,
            text: format!(
                "{}{}",
                read.text.join(" "),
                comment.clone().unwrap_or_default()
            ),
            handle: rule.get("handle").and_then(Value::as_u64),
        });
    }
}

struct Reader<'a> {
    sets: &'a Sets<'a>,
    family: String,
    table: String,
}

/// A rule, taken apart: a verdict map has a case for each of its elements.
struct Read {
    cases: Vec<(Vec<Condition>, Action)>,
    text: Vec<String>,
}

impl Reader<'_> {
    fn rule(&self, expressions: &[Value]) -> Read {
        let mut conditions = Vec::new();
        let mut cases = Vec::new();
        let mut words = Vec::new();
        for expression in expressions {
            let Some((kind, value)) = expression.as_object().and_then(|o| o.iter().next()) else {
                continue;
            };
            match kind.as_str() {
                "match" => {
                    conditions.extend(value.get("left").map(implied).unwrap_or_default());
                    conditions.push(self.condition(value));
                    words.push(spell_match(value));
                }
                "vmap" => {
                    words.push(spell_vmap(value));
                    for (mut own, action) in self.cases(value) {
                        own.splice(0..0, conditions.iter().cloned());
                        cases.push((own, action));
                    }
                }
                "limit" => {
                    conditions.push(Condition::is(Test::Unknown("limit rate".to_owned())));
                    words.push("limit rate …".to_owned());
                }
                // What these do to a packet is not whether it passes.
                "counter" | "log" | "mangle" | "ct timeout" | "ct helper" | "notrack" | "set"
                | "meter" | "quota" | "flow" | "dup" | "masquerade" | "snat" | "map" => {
                    if kind != "counter" {
                        words.push(kind.clone());
                    }
                }
                _ => {
                    let (action, word) = action(kind, value);
                    words.push(word);
                    cases.push((conditions.clone(), action));
                }
            }
        }
        Read { cases, text: words }
    }

    fn condition(&self, value: &Value) -> Condition {
        let none = Value::Null;
        let (left, right) = (
            value.get("left").unwrap_or(&none),
            value.get("right").unwrap_or(&none),
        );
        let op = text(value, "op").unwrap_or("==");
        let test = match op {
            "==" | "!=" | "in" => self.test(left, right),
            _ => ordered(left, op, right),
        };
        Condition {
            negated: op == "!=",
            test: test.unwrap_or_else(|| Test::Unknown(spell_match(value))),
        }
    }

    /// What is compared with what; none if we do not know one of them.
    fn test(&self, left: &Value, right: &Value) -> Option<Test> {
        let elements = self.elements(right)?;
        if let Some(parts) = left.get("concat").and_then(Value::as_array) {
            let group = |element: &Value| {
                let values = element.get("concat")?.as_array()?;
                let pairs = parts.iter().zip(values);
                let tests: Option<Vec<Condition>> = pairs
                    .map(|(left, right)| Some(Condition::is(self.test(left, right)?)))
                    .collect();
                tests
            };
            let groups: Option<Vec<Vec<Condition>>> = elements.iter().map(group).collect();
            return Some(Test::Any(groups?));
        }
        single(left, &elements)
    }

    /// One value, the values of a set in place, or those of a named one.
    fn elements(&self, right: &Value) -> Option<Vec<Value>> {
        if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
            let key = (self.family.clone(), self.table.clone(), name.to_owned());
            let elements = self.sets.get(&key)?;
            return Some(elements.iter().map(plain).collect());
        }
        match right.get("set") {
            Some(Value::Array(elements)) => Some(elements.iter().map(plain).collect()),
            Some(one) => Some(vec![plain(one)]),
            None => Some(vec![right.clone()]),
        }
    }

    fn cases(&self, vmap: &Value) -> Vec<(Vec<Condition>, Action)> {
        let unknown = || {
            let test = Test::Unknown(spell_vmap(vmap));
            vec![(vec![Condition::is(test)], Action::Drop)]
        };
        let (Some(key), Some(data)) = (vmap.get("key"), vmap.get("data")) else {
            return unknown();
        };
        let Some(pairs) = self.elements(data) else {
            return unknown();
        };
        let implied = implied(key);
        let case = |pair: &Value| {
            let pair = pair.as_array()?;
            let (element, verdict) = (plain(pair.first()?), pair.get(1)?);
            let test = self.test(key, &element);
            let test = test.unwrap_or_else(|| Test::Unknown(spell_vmap(vmap)));
            let (kind, value) = verdict.as_object()?.iter().next()?;
            let mut conditions = implied.clone();
            conditions.push(Condition::is(test));
            Some((conditions, action(kind, value).0))
        };
        pairs.iter().filter_map(case).collect()
    }
}

/// An element without its counter, time-out and comment.
fn plain(element: &Value) -> Value {
    let inner = element.pointer("/elem/val");
    inner.unwrap_or(element).clone()
}

/// What a rule does to whom it holds for, and how nft spells it.
fn action(kind: &str, value: &Value) -> (Action, String) {
    let target = || text(value, "target").unwrap_or_default().to_owned();
    match kind {
        "accept" => (Action::Accept, "accept".to_owned()),
        "continue" => (Action::None, "continue".to_owned()),
        "drop" => (Action::Drop, "drop".to_owned()),
        "return" => (Action::Return, "return".to_owned()),
        "reject" => {
            let with = value.get("expr").and_then(Value::as_str);
            let kind = text(value, "type").unwrap_or_default();
            let with = with.map(|with| format!(" with {kind} {with}"));
            (
                Action::Reject,
                format!("reject{}", with.unwrap_or_default()),
            )
        }
        "jump" => (Action::Jump(target()), format!("jump {}", target())),
        "goto" => (Action::Goto(target()), format!("goto {}", target())),
        "dnat" | "redirect" | "tproxy" => {
            let to = text(value, "addr").unwrap_or_default();
            let port = value.get("port").map(spell_value);
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let word = format!("{kind} to {to}{port}");
            (Action::Divert(word.clone()), word)
        }
        other => {
            let what = match text(value, "name") {
                Some(name) => format!("{other} {name}"),
                None => other.to_owned(),
            };
            (Action::Unknown(what.clone()), what)
        }
    }
}

/// One property of a packet against values.
fn single(left: &Value, elements: &[Value]) -> Option<Test> {
    if let Some(payload) = left.get("payload") {
        let (protocol, field) = (text(payload, "protocol")?, text(payload, "field")?);
        return of_header(protocol, field, elements);
    }
    if let Some(key) = left.pointer("/meta/key").and_then(Value::as_str) {
        return of_packet(key, elements);
    }
    if let Some("state") = left.pointer("/ct/key").and_then(Value::as_str) {
        let is_new = |state: &Value| state.as_str() == Some("new");
        let has_new = |element: &Value| match element.as_array() {
            Some(several) => several.iter().any(is_new),
            None => is_new(element),
        };
        return Some(Test::New(elements.iter().any(has_new)));
    }
    let fib = left.get("fib")?;
    let flags = fib.get("flags").map(spell_value).unwrap_or_default();
    if text(fib, "result") == Some("type") && flags == "daddr" {
        let is_local = |element: &Value| element.as_str() == Some("local");
        let local = elements.iter().any(is_local);
        return Some(if local { Test::ForUs(true) } else { never() });
    }
    None
}

fn never() -> Test {
    Test::Any(Vec::new())
}

/// A rule that looks into a header holds for packets that have it, whatever it looks for.
fn implied(left: &Value) -> Vec<Condition> {
    let parts = match left.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().collect(),
        None => vec![left],
    };
    let header = |part: &&Value| match part.pointer("/payload/protocol")?.as_str()? {
        "udp" => Some(Test::Protocol(vec![17])),
        "tcp" => Some(Test::Protocol(vec![6])),
        "ip" => Some(Test::Ipv4),
        "ip6" => Some(Test::Ipv6),
        "th" | "ether" => None,
        _ => Some(never()),
    };
    parts.iter().filter_map(header).map(Condition::is).collect()
}

fn of_header(protocol: &str, field: &str, elements: &[Value]) -> Option<Test> {
    let addresses = || elements.iter().map(address).collect::<Option<Vec<_>>>();
    let ports = || elements.iter().map(port).collect::<Option<Vec<_>>>();
    match (protocol, field) {
        ("ip" | "ip6", "saddr") => Some(Test::Source(addresses()?)),
        ("ip" | "ip6", "daddr") => Some(Test::Target(addresses()?)),
        ("ip", "protocol") | ("ip6", "nexthdr") => protocols(elements),
        ("udp" | "tcp" | "th", "dport") => Some(Test::TargetPort(ports()?)),
        ("udp" | "tcp" | "th", "sport") => Some(Test::SourcePort(ports()?)),
        // Of protocols that none of our packets has: `implied` says so.
        ("icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "arp", _) => {
            Some(Test::Always)
        }
        _ => None,
    }
}

fn of_packet(key: &str, elements: &[Value]) -> Option<Test> {
    let names = || {
        let name = |element: &Value| element.as_str().map(str::to_owned);
        elements.iter().map(name).collect::<Option<Vec<_>>>()
    };
    match key {
        "iif" | "iifname" => Some(Test::ArrivesAt(names()?)),
        "oif" | "oifname" => Some(Test::LeavesBy(names()?)),
        "l4proto" => protocols(elements),
        "nfproto" | "protocol" => {
            let family = |element: &Value| match element.as_str() {
                Some("ipv4" | "ip") => Some(vec![Condition::is(Test::Ipv4)]),
                Some("ipv6" | "ip6") => Some(vec![Condition::is(Test::Ipv6)]),
                _ => None,
            };
            let groups: Option<Vec<_>> = elements.iter().map(family).collect();
            Some(Test::Any(groups?))
        }
        "pkttype" => {
            let ours = |element: &Value| matches!(element.as_str(), Some("host" | "unicast"));
            Some(if elements.iter().any(ours) {
                Test::Always
            } else {
                never()
            })
        }
        _ => None,
    }
}

fn protocols(elements: &[Value]) -> Option<Test> {
    let number = |element: &Value| match element.as_str() {
        Some("udp") => Some(17),
        Some("tcp") => Some(6),
        Some("icmp") => Some(1),
        Some("igmp") => Some(2),
        Some("ipv6-icmp" | "icmpv6") => Some(58),
        Some("sctp") => Some(132),
        Some("gre") => Some(47),
        Some("esp") => Some(50),
        Some("ah") => Some(51),
        Some("udplite") => Some(136),
        Some("dccp") => Some(33),
        Some(other) => other.parse().ok(),
        None => u8::try_from(element.as_u64()?).ok(),
    };
    let numbers: Option<Vec<u8>> = elements.iter().map(number).collect();
    Some(Test::Protocol(numbers?))
}

/// `dport > 1023`
fn ordered(left: &Value, op: &str, right: &Value) -> Option<Test> {
    let bound = u16::try_from(right.as_u64()?).ok()?;
    let range = match op {
        "<" => 0..=bound.checked_sub(1)?,
        "<=" => 0..=bound,
        ">" => bound.checked_add(1)?..=u16::MAX,
        ">=" => bound..=u16::MAX,
        _ => return None,
    };
    let range = serde_json::json!({ "range": [range.start(), range.end()] });
    let field = left.pointer("/payload/field")?.as_str()?;
    matches!(field, "dport" | "sport")
        .then(|| single(left, &[range]))
        .flatten()
}

fn address(element: &Value) -> Option<RangeInclusive<IpAddr>> {
    if let Some(text) = element.as_str() {
        let ip: IpAddr = text.parse().ok()?;
        return Some(ip..=ip);
    }
    if let Some(prefix) = element.get("prefix") {
        let ip: IpAddr = text(prefix, "addr")?.parse().ok()?;
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let net = IpNet::new(ip, length).ok()?;
        let last = match net {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        return Some(net.network()..=last);
    }
    let (first, last) = range(element)?;
    Some(first.as_str()?.parse().ok()?..=last.as_str()?.parse().ok()?)
}

fn port(element: &Value) -> Option<RangeInclusive<u16>> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    if let Some(port) = number(element) {
        return Some(port..=port);
    }
    if let Some(service) = element.as_str() {
        let port = match service {
            "sip" => 5060,
            "sips" | "sip-tls" => 5061,
            other => other.parse().ok()?,
        };
        return Some(port..=port);
    }
    let (first, last) = range(element)?;
    Some(number(first)?..=number(last)?)
}

fn range(element: &Value) -> Option<(&Value, &Value)> {
    match element.get("range")?.as_array()?.as_slice() {
        [first, last] => Some((first, last)),
        _ => None,
    }
}

fn spell_match(value: &Value) -> String {
    let side = |name| value.get(name).map(spell_value).unwrap_or_default();
    match text(value, "op") {
        Some("==" | "in") | None => format!("{} {}", side("left"), side("right")),
        Some(op) => format!("{} {op} {}", side("left"), side("right")),
    }
}

fn spell_vmap(value: &Value) -> String {
    let side = |name| value.get(name).map(spell_value).unwrap_or_default();
    format!("{} vmap {}", side("key"), side("data"))
}

/// Longer sets are cut where they are shown.
const SHOWN_MAX: usize = 6;

/// As nft would write it, near enough to be found.
fn spell_value(value: &Value) -> String {
    let both = |a: Option<&Value>, b: Option<&Value>| {
        let [a, b] = [a, b].map(|v| v.map(spell_value).unwrap_or_default());
        format!("{a} {b}").trim().to_owned()
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => spell_list(items, " : "),
        Value::Object(object) => {
            let Some((kind, inner)) = object.iter().next() else {
                return String::new();
            };
            match kind.as_str() {
                "payload" => both(inner.get("protocol"), inner.get("field")),
                "meta" => both(None, inner.get("key")),
                "ct" => format!("ct {}", both(None, inner.get("key"))),
                "fib" => format!("fib {}", both(inner.get("flags"), inner.get("result"))),
                "prefix" => {
                    let [ip, length] = ["addr", "len"].map(|k| inner.get(k).map(spell_value));
                    format!("{}/{}", ip.unwrap_or_default(), length.unwrap_or_default())
                }
                "range" => match inner.as_array().map(Vec::as_slice) {
                    Some([a, b]) => format!("{}-{}", spell_value(a), spell_value(b)),
                    _ => inner.to_string(),
                },
                "set" => match inner.as_array() {
                    Some(items) => format!("{{ {} }}", spell_list(items, ", ")),
                    None => spell_value(inner),
                },
                "concat" => match inner.as_array() {
                    Some(items) => spell_list(items, " . "),
                    None => spell_value(inner),
                },
                "elem" => inner.get("val").map(spell_value).unwrap_or_default(),
                "jump" | "goto" => format!("{kind} {}", text(inner, "target").unwrap_or_default()),
                "accept" | "drop" | "return" | "continue" => kind.clone(),
                _ => value.to_string(),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn spell_list(items: &[Value], between: &str) -> String {
    let mut shown: Vec<String> = items.iter().take(SHOWN_MAX).map(spell_value).collect();
    if items.len() > SHOWN_MAX {
        shown.push("…".to_owned());
    }
    shown.join(between)
}

#[cfg(test)]
mod tests;
