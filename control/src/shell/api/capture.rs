//! `GET /api/v1/calls/{id}/capture`: answers with the file, when the capture is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::shell::Shell;
use crate::shell::api::error::Problem;
use crate::shell::capture::{
    CAPTURES_MAX, Capture, Limits, PACKETS_DEFAULT, PACKETS_MAX, SECONDS_DEFAULT, SECONDS_MAX, Tap,
};

/// What is asked for, in the query.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    packets: Option<u32>,
    seconds: Option<u32>,
}

impl Query {
    /// None if it is out of bounds.
    pub(super) fn limits(self) -> Option<Limits> {
        let packets = self.packets.unwrap_or(PACKETS_DEFAULT);
        let seconds = self.seconds.unwrap_or(SECONDS_DEFAULT);
        let within = (1..=PACKETS_MAX).contains(&packets) && (1..=SECONDS_MAX).contains(&seconds);
        within.then_some(Limits {
            packets,
            time: Duration::from_secs(seconds.into()),
        })
    }
}

/// Taps every port of a call.
pub(super) async fn start(
    shell: &mut Shell,
    call: u64,
    limits: Limits,
    done: oneshot::Sender<Vec<u8>>,
    now: Instant,
) -> Result<Value, Problem> {
    if shell.datapath.captures() >= CAPTURES_MAX {
        return Err(Problem::TOO_MANY_CAPTURES);
    }
    let calls = shell.engine.calls(now);
    let view = calls.iter().find(|view| view.id == call);
    let view = view.ok_or(Problem::NO_SUCH_CALL)?;
    if view
        .flows
        .iter()
        .any(|flow| shell.datapath.is_tapped(flow.at))
    {
        return Err(Problem::BEING_CAPTURED);
    }
    let config = shell.engine.config();
    let mut interfaces: Vec<String> = Vec::new();
    let mut position = |ip| {
        let network = config.networks.iter().find(|n| n.address == ip);
        let name = network.map_or("?", |n| n.interface.as_str());
        let known = interfaces.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            interfaces.push(name.to_owned());
            interfaces.len() - 1
        });
        u32::try_from(index).unwrap_or_default()
    };
    let mut taps = Vec::new();
    for flow in &view.flows {
        let source = shell.datapath.flow(flow.at).map(|now| now.rule.source.ip());
        let entry = position(flow.at.ip());
        let exit = source.map_or(entry, &mut position);
        let whose = format!("{} {} {}", flow.leg, flow.kind, flow.component);
        taps.push((flow.at, entry, exit, Arc::from(whose)));
    }
    let capture = Arc::new(Capture::new(&interfaces, limits, now, done));
    let count = taps.len();
    for (at, entry, exit, whose) in taps {
        let capture = capture.clone();
        let tap = Tap {
            capture,
            entry,
            exit,
            whose,
        };
        shell.datapath.tap(at, tap).await;
    }
    Ok(json!({ "ports": count }))
}
