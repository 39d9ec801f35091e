//! A ladder: a column for each party and one for us, time downwards.

use serde_json::Value;

/// In front of the first column: the time since the first message.
const TIME: usize = 10;
/// From one column to the next, at least: else there are lines of text.
const GAP_MIN: usize = 18;
/// And at most: the eye must find across.
const GAP_MAX: usize = 36;

/// The whole document of the API in so many columns.
pub(super) fn ladder(document: &Value, width: usize) -> String {
    let parties = list(document, "parties");
    let lanes = Lanes::new(parties, text(document, "node"), width);
    let mut shown = title(document);
    match &lanes {
        Some(lanes) => shown.push_str(&lanes.head()),
        None => shown.push_str(&legend(parties)),
    }
    let messages = list(document, "messages");
    let missing = number(document, "left_out");
    for (index, message) in messages.iter().enumerate() {
        if missing > 0 && document.get("left_out_before") == Some(&index.into()) {
            let many = if missing == 1 {
                "message is"
            } else {
                "messages are"
            };
            shown.push_str(&format!("{:TIME$}… {missing} {many} left out …\n", ""));
        }
        shown.push_str(&match &lanes {
            Some(lanes) => lanes.row(message),
            None => line(message),
        });
        if let Some(full) = message.get("text").and_then(Value::as_str) {
            let lines = full.trim_end().lines().map(|line| format!("    {line}\n"));
            shown.push_str(&format!("\n{}\n", lines.collect::<String>()));
        }
    }
    shown
}

fn title(document: &Value) -> String {
    let calls = list(document, "calls").iter().filter_map(Value::as_u64);
    let calls: Vec<String> = calls.map(|call| call.to_string()).collect();
    let call = match &*calls {
        [] => "never let in".to_owned(),
        [call] => format!("call {call}"),
        calls => format!("calls {}", calls.join(", ")),
    };
    let state = match document.get("live") {
        Some(Value::Bool(true)) => "goes on",
        _ => "over",
    };
    let count = list(document, "messages").len();
    let messages = if count == 1 { "message" } else { "messages" };
    let names = match document.get("numbers") {
        Some(Value::Bool(true)) => "",
        _ => "; names are hidden, --numbers shows them",
    };
    let call_id = text(document, "call_id");
    let first = list(document, "messages").first();
    let began = first.map_or("", |message| text(message, "at"));
    format!("{call}, {state}, Call-ID {call_id}\n{count} {messages} from {began} on{names}\n\n")
}

/// Where columns are.
struct Lanes {
    /// In order from the left: index of a party; none is us.
    order: Vec<Option<usize>>,
    /// What stands above each, line by line.
    heads: Vec<[String; 3]>,
    gap: usize,
}

impl Lanes {
    /// None if they would be too narrow.
    fn new(parties: &[Value], us: &str, width: usize) -> Option<Self> {
        let mut order: Vec<Option<usize>> = (0..parties.len()).map(Some).collect();
        order.insert(parties.len().min(1), None);
        let gap = width.saturating_sub(TIME + 1) / order.len();
        let gap = gap.min(GAP_MAX);
        let heads = order
            .iter()
            .map(|lane| match lane.and_then(|at| parties.get(at)) {
                Some(party) => {
                    let network = party.get("network").and_then(Value::as_str);
                    let way = text(party, "transport");
                    [
                        text(party, "role").to_owned(),
                        text(party, "address").to_owned(),
                        network
                            .map_or_else(|| way.to_owned(), |network| format!("{way}, {network}")),
                    ]
                }
                None => [us.to_owned(), String::new(), String::new()],
            });
        let heads = heads.collect();
        (gap >= GAP_MIN).then_some(Self { order, heads, gap })
    }

    /// The middle of a column.
    fn at(&self, lane: usize) -> usize {
        TIME + self.gap / 2 + lane * self.gap
    }

    fn blank(&self) -> Vec<char> {
        vec![' '; self.at(self.order.len())]
    }

    fn head(&self) -> String {
        let mut shown = String::new();
        for line in 0..3 {
            let mut row = self.blank();
            for (lane, head) in self.heads.iter().enumerate() {
                let text = head.get(line).map_or("", String::as_str);
                let text: String = text.chars().take(self.gap - 1).collect();
                let begin = self.at(lane).saturating_sub(text.chars().count() / 2);
                put(&mut row, begin, &text);
            }
            shown.push_str(&finished(&row));
        }
        shown
    }

    fn row(&self, message: &Value) -> String {
        let mut row = self.blank();
        put(&mut row, 0, &time(message));
        for lane in 0..self.order.len() {
            put(&mut row, self.at(lane), "│");
        }
        let party = usize::try_from(number(message, "party")).unwrap_or_default();
        let find = |wanted| self.order.iter().position(|lane| *lane == wanted);
        let (Some(us), Some(them)) = (find(None), find(Some(party))) else {
            return finished(&row);
        };
        let (left, right) = (self.at(us.min(them)) + 1, self.at(us.max(them)) - 1);
        let rightwards = (us < them) == (text(message, "direction") == "out");
        let label = label(message);
        let room = (right + 1 - left).saturating_sub(6);
        let label: String = match label.chars().count() > room {
            true => label
                .chars()
                .take(room.saturating_sub(1))
                .chain(['…'])
                .collect(),
            false => label,
        };
        for place in left..=right {
            put(&mut row, place, "─");
        }
        let (end, head) = if rightwards {
            (right, "▶")
        } else {
            (left, "◀")
        };
        put(&mut row, end, head);
        let label = format!(" {label} ");
        let begin = left + (right + 1 - left - label.chars().count()) / 2;
        put(&mut row, begin, &label);
        finished(&row)
    }
}

fn put(row: &mut [char], at: usize, text: &str) {
    for (place, c) in row.iter_mut().skip(at).zip(text.chars()) {
        *place = c;
    }
}

fn finished(row: &[char]) -> String {
    let text: String = row.iter().collect();
    format!("{}\n", text.trim_end())
}

fn time(message: &Value) -> String {
    let ms = message.get("after_ms").and_then(Value::as_f64);
    format!("{:>9.3}", ms.unwrap_or_default() / 1000.0)
}

/// `INVITE, SDP`, `200 OK again`.
fn label(message: &Value) -> String {
    let mut label = match message.get("code").and_then(Value::as_u64) {
        Some(code) => format!("{code} {}", text(message, "words")),
        None => match text(message, "method") {
            "" => text(message, "words").to_owned(),
            method => method.to_owned(),
        },
    };
    if message.get("sdp") == Some(&Value::Bool(true)) {
        label.push_str(", SDP");
    }
    if message.get("repeats").is_some_and(Value::is_number) {
        label.push_str(", again");
    }
    if message.get("unsent") == Some(&Value::Bool(true)) {
        label.push_str(", NO CONNECTION");
    }
    label
}

/// Where columns do not fit.
fn legend(parties: &[Value]) -> String {
    let each = parties.iter().enumerate().map(|(index, party)| {
        let network = party.get("network").and_then(Value::as_str);
        let (role, way) = (text(party, "role"), text(party, "transport"));
        let (address, network) = (text(party, "address"), network.unwrap_or("-"));
        format!("  [{}] {role} {way}:{address} {network}\n", index + 1)
    });
    each.chain(["\n".to_owned()]).collect()
}

fn line(message: &Value) -> String {
    let arrow = match text(message, "direction") {
        "out" => "->",
        _ => "<-",
    };
    let party = number(message, "party") + 1;
    format!("{} {arrow} [{party}] {}\n", time(message), label(message))
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(after_ms: f64, direction: &str, party: u64, what: &Value) -> Value {
        json!({
            "at": "2026-11-23T05:00:00.000Z", "after_ms": after_ms, "direction": direction,
            "party": party, "method": what.get("method"), "code": what.get("code"),
            "words": what.get("words"), "sdp": what.get("sdp").is_some(),
            "repeats": what.get("repeats"), "unsent": what.get("unsent").is_some(),
            "text": what.get("text"),
        })
    }

    fn call(parties: &[(&str, &str)]) -> Value {
        let parties = parties.iter().map(|(role, address)| {
            json!({ "role": role, "transport": "udp", "address": address, "network": "lan" })
        });
        json!({
            "call_id": "a@b", "calls": [7], "live": false, "numbers": false, "node": "edge-01",
            "parties": parties.collect::<Vec<_>>(), "left_out": 3, "left_out_before": 2,
            "messages": [
                message(0.0, "in", 0, &json!({ "method": "INVITE", "sdp": 1 })),
                message(0.4, "out", 0, &json!({ "code": 100, "words": "Trying" })),
                message(1.0, "out", 1, &json!({ "method": "INVITE", "unsent": 1 })),
                message(501.0, "in", 1, &json!({ "code": 200, "words": "OK", "repeats": 1 })),
            ],
        })
    }

    const PARTIES: [(&str, &str); 2] = [
        ("caller", "10.0.0.5:5060"),
        ("callee", "[2001:db8::1]:5060"),
    ];

    #[test]
    fn a_call_in_eighty_columns() {
        let expected = "\
call 7, over, Call-ID a@b
4 messages from 2026-11-23T05:00:00.000Z on; names are hidden, --numbers shows them

                  caller                 edge-01                callee
               10.0.0.5:5060                              [2001:db8::1]:5060
                 udp, lan                                      udp, lan
    0.000            │──── INVITE, SDP ────▶│                      │
    0.000            │◀──── 100 Trying ─────│                      │
          … 3 messages are left out …
    0.001            │                      │── INVITE, NO CONN… ─▶│
    0.501            │                      │◀── 200 OK, again ────│
";
        let found = ladder(&call(&PARTIES), 80);
        assert_eq!(found, expected, "\n{found}");
        assert!(found.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn many_parties_become_lines() {
        let mut document = call(&PARTIES);
        document["messages"][1]["text"] = json!("SIP/2.0 100 Trying\nVia: x\n\n");
        let found = ladder(&document, 50);
        let expected = "
  [1] caller udp:10.0.0.5:5060 lan
  [2] callee udp:[2001:db8::1]:5060 lan

    0.000 <- [1] INVITE, SDP
    0.000 -> [1] 100 Trying

    SIP/2.0 100 Trying
    Via: x

          … 3 messages are left out …
    0.001 -> [2] INVITE, NO CONNECTION
    0.501 <- [2] 200 OK, again
";
        assert!(found.ends_with(expected), "\n{found}");
    }

    #[test]
    fn a_document_of_another_kind_does_no_harm() {
        for document in [
            json!(null),
            json!({}),
            json!({ "parties": [1], "messages": [{}, 7] }),
        ] {
            for width in [0, 1, 40, 80, 500] {
                ladder(&document, width);
            }
        }
    }
}
