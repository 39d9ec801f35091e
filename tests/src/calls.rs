//! What the daemon says about its calls: the one place that knows the shape of that JSON. Missing
//! members read as empty, so that a test fails on what it asserts and not on what it ignores.

use serde_json::Value;

/// A call as `GET /api/v1/calls` tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    pub id: u64,
    pub call_id: String,
    pub from: String,
    pub to: String,
    pub state: String,
    pub setup_ms: Option<u64>,
    pub flows: Vec<Flow>,
}

/// One direction of one stream, named by the local port it arrives at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    pub at: String,
    pub network: String,
    /// `caller` or `callee`: whose packets arrive here.
    pub leg: String,
    /// `audio`, `video`, …
    pub kind: String,
    /// `rtp` or `rtcp`.
    pub component: String,
    pub peer: String,
    pub target: String,
    /// `xdp`, `user` or `none`.
    pub path: String,
    pub why: String,
    pub packets_xdp: u64,
    pub packets_user: u64,
    /// What is known about the peer: `held`, `waiting`, …
    pub latch: String,
    /// Packets that were not the peer's: as the latch counted them, and the kernel.
    pub strangers: u64,
    pub strangers_xdp: u64,
}

impl Flow {
    /// Carries media rather than reports about it.
    #[must_use]
    pub fn is_media(&self) -> bool {
        self.component == "rtp"
    }
}

/// The calls in an answer.
#[must_use]
pub fn calls(answer: &Value) -> Vec<Call> {
    list(answer, "calls").iter().map(call).collect()
}

fn call(value: &Value) -> Call {
    Call {
        id: number(value, "id"),
        call_id: text(value, "call_id"),
        from: text(value, "from"),
        to: text(value, "to"),
        state: text(value, "state"),
        setup_ms: value.get("setup_ms").and_then(Value::as_u64),
        flows: list(value, "flows").iter().map(flow).collect(),
    }
}

fn flow(value: &Value) -> Flow {
    Flow {
        at: text(value, "at"),
        network: text(value, "network"),
        leg: text(value, "leg"),
        kind: text(value, "kind"),
        component: text(value, "component"),
        peer: text(value, "peer"),
        target: text(value, "target"),
        path: text(value, "path"),
        why: text(value, "why"),
        packets_xdp: number(value, "packets_xdp"),
        packets_user: number(value, "packets_user"),
        latch: text(value, "latch"),
        strangers: number(value, "strangers"),
        strangers_xdp: number(value, "strangers_xdp"),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_empty() {
        let answer = json!({ "calls": [
            { "id": 1, "from": "1003", "to": "1001", "state": "established", "setup_ms": 12,
              "flows": [{ "component": "rtp", "kind": "audio", "path": "xdp", "packets_xdp": 9,
                          "packets_user": 2, "peer": null }] },
            {},
        ]});
        let found = calls(&answer);
        let flow = Flow {
            component: "rtp".into(),
            kind: "audio".into(),
            path: "xdp".into(),
            packets_xdp: 9,
            packets_user: 2,
            ..Flow::default()
        };
        let first = Call {
            id: 1,
            from: "1003".into(),
            to: "1001".into(),
            state: "established".into(),
            setup_ms: Some(12),
            flows: vec![flow],
            ..Call::default()
        };
        assert_eq!(found, [first, Call::default()]);
        assert_eq!(calls(&json!(null)), []);
        assert_eq!(calls(&json!({ "calls": 3 })), []);
    }
}
