//! One thing at a time, with all that is known of it.

use serde_json::Value;

use super::table::{Show, cell, list};
use super::wrap::{field, wrapped};

/// Where the values of a block begin.
const INDENT: usize = 15;

/// Text at a JSON pointer.
fn at(value: &Value, pointer: &str) -> String {
    cell(value.pointer(pointer), Show::Text)
}

fn spelt(value: &Value, pointer: &str) -> String {
    cell(value.pointer(pointer), Show::Seconds)
}

/// Everything one account is registered with.
pub(super) fn registration(value: &Value) -> String {
    let bindings = list(value, "bindings");
    let blocks = bindings.iter().map(|b| {
        let nat = if b.get("nat") == Some(&Value::Bool(true)) {
            "yes"
        } else {
            "no"
        };
        let reached = match b.pointer("/reachable").and_then(Value::as_bool) {
            Some(false) => format!("{}, when it connects again", at(b, "/reached_at")),
            Some(true) | None => at(b, "/reached_at"),
        };
        let lines = [
            ("network", at(b, "/network")),
            (
                "seen at",
                format!("{}, by {}", at(b, "/seen"), at(b, "/via")),
            ),
            ("Contact says", at(b, "/claimed")),
            ("Via says", at(b, "/claimed_via")),
            ("NAT", format!("{nat}: {}", at(b, "/nat_why"))),
            ("reached at", reached),
            ("is told", at(b, "/told")),
            ("registered", format!("{} ago", spelt(b, "/age_s"))),
            ("expires in", spelt(b, "/expires_s")),
            ("contact", at(b, "/contact")),
            ("instance", at(b, "/instance")),
            ("user agent", at(b, "/user_agent")),
            (
                "reg-id, q",
                format!("{}, {}", at(b, "/reg_id"), at(b, "/q")),
            ),
            ("came before", at(b, "/moved_from")),
            (
                "kept by",
                match b.get("upstream").filter(|upstream| !upstream.is_null()) {
                    None => "us".to_owned(),
                    Some(upstream) => format!(
                        "{}, for another {}",
                        at(upstream, "/peer"),
                        spelt(upstream, "/expires_s")
                    ),
                },
            ),
        ];
        let lines = lines.iter();
        let lines: String = lines
            .map(|(name, text)| field(name, text, INDENT))
            .collect();
        format!("{}\n{lines}", at(b, "/aor"))
    });
    blocks.collect::<Vec<_>>().join("\n")
}

/// A call: its parties, then each flow.
pub(super) fn call(value: &Value) -> String {
    let mut shown = super::table::headline(value);
    shown.push_str(&field("Call-ID", &at(value, "/call_id"), INDENT));
    for party in ["caller", "callee"] {
        let Some(leg) = value.get(party).filter(|leg| !leg.is_null()) else {
            continue;
        };
        let natted = leg.get("nat") == Some(&Value::Bool(true));
        let by = match leg.get("media_by").and_then(Value::as_str) {
            Some("operator") => ", as an operator said",
            _ => "",
        };
        let text = format!(
            "in {}, signalling with {} by {}{}; {}; media {}{by}",
            at(leg, "/network"),
            at(leg, "/signalling"),
            at(leg, "/via"),
            if natted { ", behind a NAT" } else { "" },
            at(leg, "/target"),
            at(leg, "/media"),
        );
        shown.push_str(&field(party, &text, INDENT));
    }
    for branch in list(value, "branches") {
        let status = branch.get("status").and_then(Value::as_u64);
        let status = status.map(|status| format!(" ({status})"));
        let text = format!(
            "{} in {}, at {}: {}{}",
            at(branch, "/target"),
            at(branch, "/network"),
            at(branch, "/signalling"),
            at(branch, "/state"),
            status.unwrap_or_default(),
        );
        shown.push_str(&field("asked", &text, INDENT));
    }
    let flows = list(value, "flows");
    if flows.is_empty() {
        shown.push_str("  no media yet\n");
    }
    for flow in flows {
        shown.push('\n');
        shown.push_str(&one_flow(flow));
    }
    shown
}

fn one_flow(flow: &Value) -> String {
    let path = match flow.get("path").and_then(Value::as_str) {
        Some("xdp") => "the kernel".to_owned(),
        Some("user") => format!("the daemon: {}", at(flow, "/why")),
        _ => format!("none: {}", at(flow, "/why")),
    };
    let packets = format!(
        "{} in the kernel, {} by the daemon; refused: {} and {}",
        at(flow, "/packets_xdp"),
        at(flow, "/packets_user"),
        at(flow, "/strangers_xdp"),
        at(flow, "/strangers"),
    );
    let latch = format!("{}: {}", at(flow, "/latch"), at(flow, "/rule"));
    let lines = [
        ("told to send to", at(flow, "/advertised")),
        ("arrives at", at(flow, "/at")),
        ("SDP says", at(flow, "/signalled")),
        ("held at", at(flow, "/held")),
        ("latch", latch),
        ("sent to", at(flow, "/target")),
        ("path", path),
        ("packets", packets),
        ("stream", stream(flow)),
    ];
    let lines = lines.iter().filter(|(_, text)| !text.is_empty());
    let lines: String = lines
        .map(|(name, text)| field(name, text, INDENT + 4))
        .collect();
    format!(
        "{} {} from the {}\n{lines}",
        at(flow, "/kind"),
        at(flow, "/component"),
        at(flow, "/leg")
    )
}

/// How the RTP of a flow arrives; nothing before it does.
fn stream(flow: &Value) -> String {
    let Some(stream) = flow.get("stream").filter(|stream| !stream.is_null()) else {
        return String::new();
    };
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_f64);
    let kbits = number(flow, "bits_per_s").unwrap_or_default() / 1000.0;
    let lost = number(stream, "lost_ppm").unwrap_or_default() / 10_000.0;
    let jitter = match number(stream, "jitter_us") {
        Some(us) => format!("jitter {:.1} ms", us / 1000.0),
        None => "jitter not known yet".to_owned(),
    };
    let sources = match number(stream, "ssrc_changes") {
        Some(changes) if changes > 0.0 => format!(" after {changes} others"),
        _ => String::new(),
    };
    let silent = match number(flow, "silent_s") {
        Some(silent) => format!("; silent for {silent} s while the other party is not"),
        None => String::new(),
    };
    format!(
        "{kbits:.0} kbit/s, {} lost ({lost:.2} %), {} late or twice, {jitter}; source {}{sources}\
         {silent}",
        at(stream, "/lost"),
        at(stream, "/reordered"),
        at(stream, "/ssrc"),
    )
}

/// Each network: what it is, who uses it, what is wrong with it.
pub(super) fn networks(value: &Value) -> String {
    let blocks = list(value, "networks").iter().map(network);
    blocks.collect::<Vec<_>>().join("\n")
}

fn network(network: &Value) -> String {
    let place = match network.get("place").and_then(Value::as_str) {
        Some(place) => format!(" ({place})"),
        None => String::new(),
    };
    let many = |pointer: &str, one: &str| {
        let count = network.pointer(pointer).and_then(Value::as_u64);
        let plural = if count == Some(1) { "" } else { "s" };
        format!("{} {one}{plural}", at(network, pointer))
    };
    let media = format!(
        "{}, ports {} (ours {}), mode {}",
        at(network, "/advertise_media"),
        at(network, "/advertise_ports"),
        at(network, "/media_ports"),
        at(network, "/media"),
    );
    let pairs = format!(
        "{} in use, {} resting, {} free",
        at(network, "/pairs_used"),
        at(network, "/pairs_resting"),
        at(network, "/pairs_free"),
    );
    let users = format!(
        "{}, {}",
        many("/registrations", "registration"),
        many("/calls", "call")
    );
    let seen = match network.pointer("/peers_seen/count").and_then(Value::as_u64) {
        None | Some(0) => "nobody".to_owned(),
        Some(_) => format!(
            "{} from {}",
            many("/peers_seen/count", "peer"),
            at(network, "/peers_seen/examples")
        ),
    };
    let gateways = match list(network, "source_rewriting_gateways") {
        [] => None,
        _ => Some(at(network, "/source_rewriting_gateways")),
    };
    let lines = [
        ("is told", Some(at(network, "/advertise"))),
        ("media", Some(media)),
        ("peers", Some(at(network, "/peers"))),
        ("gateways", gateways),
        ("port pairs", Some(pairs)),
        ("used by", Some(users)),
        ("seen", Some(seen)),
    ];
    let lines = lines.into_iter();
    let mut shown = format!(
        "{} on {}: {}{place}\n",
        at(network, "/name"),
        at(network, "/interface"),
        at(network, "/address")
    );
    for (name, text) in lines.filter_map(|(name, text)| Some((name, text?))) {
        shown.push_str(&field(name, &text, INDENT));
    }
    for warning in list(network, "warnings") {
        shown.push_str(&field("warning", &lined(warning), INDENT));
    }
    shown
}

/// A warning keeps its own lines; nothing else of a peer's reaches the terminal.
pub(super) fn lined(warning: &Value) -> String {
    let lines = warning.as_str().unwrap_or_default().split('\n');
    let lines: Vec<String> = lines
        .map(|line| line.replace(char::is_control, "�"))
        .collect();
    lines.join("\n")
}

/// A line for each event; fields are named, in the order of their names.
pub(super) fn events(value: &Value) -> String {
    let mut shown = String::new();
    if value.get("forgotten") == Some(&Value::Bool(true)) {
        shown.push_str("(older ones are forgotten)\n");
    }
    for event in list(value, "events") {
        let fields = event.get("fields").and_then(Value::as_object);
        let fields = fields.into_iter().flatten();
        let fields: String = fields
            .map(|(name, value)| format!(" {name}={}", cell(Some(value), Show::Text)))
            .collect();
        let line = format!(
            "{} {} {} {}{fields}",
            at(event, "/seq"),
            at(event, "/at"),
            at(event, "/kind"),
            at(event, "/subject")
        );
        shown.push_str(&format!("{}\n", wrapped(&line, 4)));
    }
    shown
}

/// A chain of decisions, or several.
pub(super) fn explained(value: &Value) -> String {
    let mut shown = answer(value);
    for party in ["caller", "callee"] {
        if let Some(leg) = value.get(party).filter(|leg| !leg.is_null()) {
            shown.push_str(&format!("\n{}\n", party.to_uppercase()));
            shown.push_str(&steps(leg));
        }
    }
    for flow in list(value, "flows") {
        let title = format!(
            "{} {} from the {}",
            at(flow, "/kind"),
            at(flow, "/component"),
            at(flow, "/leg")
        );
        shown.push_str(&format!("\n{}\n", title.to_uppercase()));
        shown.push_str(&steps(flow));
    }
    for one in ["bindings", "locals"]
        .into_iter()
        .flat_map(|key| list(value, key))
    {
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str(&format!("{}\n{}", answer(one), steps(one)));
    }
    if value.get("locals").is_some() {
        shown.push_str(&known(value));
    }
    shown
}

fn answer(value: &Value) -> String {
    let lines = list(value, "answer").iter();
    lines
        .map(|line| format!("{}\n", wrapped(&cell(Some(line), Show::Text), 0)))
        .collect()
}

/// Where the values of a decision begin.
const STEP_INDENT: usize = 11;

fn steps(value: &Value) -> String {
    let steps = list(value, "steps").iter();
    steps.map(step).collect::<Vec<_>>().join("")
}

fn step(step: &Value) -> String {
    let head = format!("{}  {}", at(step, "/question"), at(step, "/decision"));
    let mut shown = format!("{}\n", wrapped(&head, 2));
    let mut label = "seen";
    for fact in list(step, "facts") {
        shown.push_str(&field(label, &cell(Some(fact), Show::Text), STEP_INDENT));
        label = "";
    }
    shown.push_str(&field("because", &at(step, "/rule"), STEP_INDENT));
    let text = |name: &str| step.get(name).and_then(Value::as_str);
    match (text("place"), text("key")) {
        (Some(place), Some(key)) => {
            shown.push_str(&field("written", &format!("{place}, {key}"), STEP_INDENT));
        }
        (None, Some(key)) => {
            shown.push_str(&field(
                "default",
                &format!("{key} is not written"),
                STEP_INDENT,
            ));
        }
        (_, None) => {}
    }
    for loser in list(step, "losers") {
        let why = format!("{}: {}", at(loser, "/network"), at(loser, "/why"));
        shown.push_str(&field("not", &why, STEP_INDENT));
    }
    if text("means").is_some() {
        shown.push_str(&field("so", &at(step, "/means"), STEP_INDENT));
    }
    shown
}

/// Who is at an address already.
fn known(value: &Value) -> String {
    let mut shown = String::new();
    let registrations = list(value, "registrations");
    for registration in registrations {
        let text = format!(
            "{} in {}: seen at {}, Contact says {}",
            at(registration, "/aor"),
            at(registration, "/network"),
            at(registration, "/seen"),
            at(registration, "/claimed"),
        );
        shown.push_str(&field("registered", &text, INDENT));
    }
    if registrations.is_empty() {
        shown.push_str(&field("registered", "nobody from there", INDENT));
    }
    let calls = match list(value, "calls") {
        [] => "none with it".to_owned(),
        _ => at(value, "/calls"),
    };
    shown.push_str(&field("calls", &calls, INDENT));
    let towards = match value.get("towards").and_then(Value::as_str) {
        Some(_) => format!("by network {}", at(value, "/towards")),
        None => "no network holds it".to_owned(),
    };
    shown.push_str(&field("we reach it", &towards, INDENT));
    let suspect = value.get("suspected_gateway").filter(|s| !s.is_null());
    if let Some(suspect) = suspect {
        let text = format!(
            "{} clients come from it and say they are elsewhere: `towpath network list` has the \
             line to write",
            at(suspect, "/clients")
        );
        shown.push_str(&field("rewrites", &text, INDENT));
    }
    format!("\n{shown}")
}

#[cfg(test)]
mod tests;
