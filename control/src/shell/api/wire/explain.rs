//! Chains of decisions as documents. To what the core decided the shell adds which path each flow
//! takes, and why.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::registration::{registration, rows};
use super::{call, flow, network_name};
use crate::engine::admin::Refused;
use crate::engine::explain::{Explanation, Step};
use crate::shell::Shell;
use crate::shell::api::error::Problem;

pub(in crate::shell::api) fn registration_explained(
    shell: &Shell,
    aor: &str,
    now: Instant,
) -> Result<Value, Problem> {
    let explained = shell.engine.explain_registration(aor, now);
    let explained = explained.ok_or(Refused::NoSuchRegistration)?;
    let bindings: Vec<Value> = explained
        .bindings
        .iter()
        .map(|(view, explanation)| {
            let mut document = chain(explanation);
            document["registration"] = registration(shell, view);
            document
        })
        .collect();
    Ok(json!({ "aor": explained.aor.as_str(), "bindings": bindings }))
}

pub(in crate::shell::api) fn peer_explained(
    shell: &Shell,
    ip: IpAddr,
    local: Option<IpAddr>,
    now: Instant,
) -> Result<Value, Problem> {
    let explained = shell.engine.explain_peer(ip, local, now);
    let explained = explained.ok_or(Problem::NO_SUCH_ADDRESS)?;
    let locals: Vec<Value> = explained
        .locals
        .iter()
        .map(|(local, explanation)| {
            let mut document = chain(explanation);
            document["local"] = local.to_string().into();
            document
        })
        .collect();
    let suspect = explained.suspect.as_ref();
    Ok(json!({
        "ip": explained.ip.to_string(),
        "locals": locals,
        "towards": explained.towards.map(|id| network_name(shell, id)),
        "registrations": rows(shell, &explained.registrations),
        "calls": explained.calls,
        "suspected_gateway": suspect.map(|s| super::network::suspected(shell, s, now)),
    }))
}

pub(in crate::shell::api) fn call_explained(
    shell: &mut Shell,
    id: u64,
    now: Instant,
) -> Result<Value, Problem> {
    let explained = shell.engine.explain_call(id, now);
    let explained = explained.ok_or(Refused::NoSuchCall)?;
    let mut answer = explained.answer;
    let mut flows = Vec::new();
    let mut outside: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (view, decided) in &explained.flows {
        let shown = flow(shell, view);
        if shown["path"] != "xdp" {
            let why = shown["why"].as_str().unwrap_or_default().to_owned();
            let which = format!("{} {} from the {}", view.kind, view.component, view.leg);
            outside.entry(why).or_default().push(which);
        }
        let decided = decided.iter().map(step).chain([path(&shown)]);
        flows.push(json!({
            "leg": view.leg,
            "media": view.media,
            "kind": view.kind,
            "component": view.component,
            "at": shown["at"],
            "steps": decided.collect::<Vec<_>>(),
        }));
    }
    if !flows.is_empty() {
        let outside = outside.values().map(Vec::len).sum();
        let inside = flows.len().saturating_sub(outside);
        answer.push(format!(
            "{inside} of {} flows go through the kernel.",
            flows.len()
        ));
    }
    answer.extend(outside.iter().map(|(why, those)| {
        let which = if those.len() == flows.len() {
            "all of them".to_owned()
        } else {
            those.join(", ")
        };
        format!("Not in the kernel: {which}: {why}.")
    }));
    let leg = |party: &str| {
        let found = explained.legs.iter().find(|(name, _)| *name == party);
        found.map(|(_, steps)| json!({ "steps": steps.iter().map(step).collect::<Vec<_>>() }))
    };
    Ok(json!({
        "answer": answer,
        "caller": leg("caller"),
        "callee": leg("callee"),
        "flows": flows,
        "call": call(shell, &explained.call),
    }))
}

/// Which path a flow takes.
fn path(flow: &Value) -> Value {
    let text = |name: &str| flow[name].as_str().unwrap_or_default();
    let (decision, words) = match text("path") {
        "xdp" => (
            "yes",
            "route and neighbour are known, and the program takes it",
        ),
        "user" => ("no, the daemon forwards it", text("why")),
        _ => ("nothing is forwarded yet", text("why")),
    };
    let count = |name: &str| flow[name].as_u64().unwrap_or_default();
    let mut facts = vec![format!(
        "{} packets in the kernel, {} by the daemon",
        count("packets_xdp"),
        count("packets_user")
    )];
    let strangers = count("strangers_xdp");
    if strangers > 0 {
        facts.push(format!(
            "{strangers} packets of strangers were refused in the kernel"
        ));
    }
    let sent = flow["target"].as_str();
    json!({
        "topic": "path",
        "question": "Does it go through the kernel?",
        "decision": decision,
        "facts": facts,
        "rule": words,
        "key": null,
        "place": null,
        "losers": [],
        "means": sent.map(|to| format!("it is sent to {to} from {}", text("source"))),
    })
}

fn chain(explanation: &Explanation) -> Value {
    json!({
        "answer": explanation.answer,
        "steps": explanation.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &Step) -> Value {
    let losers = step.losers.iter();
    let losers = losers.map(|loser| json!({ "network": loser.network, "why": loser.why }));
    json!({
        "topic": step.topic,
        "question": step.question,
        "decision": step.decision,
        "facts": step.facts,
        "rule": step.reason.words,
        "key": step.reason.key,
        "place": step.reason.place,
        "losers": losers.collect::<Vec<_>>(),
        "means": step.means,
    })
}
