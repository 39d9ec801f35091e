//! Where does each stream of a call go, and why?

use std::net::SocketAddr;
use std::time::Instant;

use super::words::{self, Said};
use super::{Reason, Step, steps};
use crate::config::{Config, Network};
use crate::engine::admin::{CallView, FlowView};
use crate::engine::call::Call;
use crate::engine::{CallKey, Engine};
use crate::media::session::{LegSettings, Mode, Side};
use crate::sip::dialog::Leg;
use crate::sip::uri::Uri;

/// A call, the decisions about its parties and about each of its flows.
#[derive(Clone, Debug)]
pub struct CallExplained {
    pub call: CallView,
    pub answer: Vec<String>,
    /// By party: `caller`, `callee`.
    pub legs: Vec<(&'static str, Vec<Step>)>,
    pub flows: Vec<(FlowView, Vec<Step>)>,
}

const PARTIES: [(&str, Side); 2] = [("caller", Side::A), ("callee", Side::B)];

impl Engine {
    #[must_use]
    pub fn call(&self, id: u64, now: Instant) -> Option<CallView> {
        Some(self.calls.get(&CallKey(id))?.view(id, now))
    }

    /// The chain of decisions behind a call; none if there is none of this number.
    #[must_use]
    pub fn explain_call(&self, id: u64, now: Instant) -> Option<CallExplained> {
        let call = self.calls.get(&CallKey(id))?;
        let view = call.view(id, now);
        let legs = PARTIES
            .into_iter()
            .filter_map(|(party, side)| Some((party, self.leg_steps(call.leg(side)?)?)))
            .collect();
        let flows = view.flows.iter().cloned();
        let flows = flows
            .map(|flow| {
                let steps = self.flow_steps(call, &flow).unwrap_or_default();
                (flow, steps)
            })
            .collect();
        Some(CallExplained {
            answer: self.call_answer(call, &view),
            call: view,
            legs,
            flows,
        })
    }

    fn call_answer(&self, call: &Call, view: &CallView) -> Vec<String> {
        let mut answer = Vec::new();
        for (party, side) in PARTIES {
            let network = call
                .leg(side)
                .and_then(|leg| self.config.network(leg.network));
            let Some((leg, network)) = call.leg(side).zip(network) else {
                continue;
            };
            let who = if party == "caller" {
                &view.from
            } else {
                &view.to
            };
            answer.push(format!(
                "The {party}, {who}, is in network {} and is told {}; requests to it go to {}.",
                network.name,
                words::told(network),
                leg.next_hop().to,
            ));
        }
        if view.flows.is_empty() {
            answer.push("No media is agreed yet.".to_owned());
        }
        answer
    }

    fn leg_steps(&self, leg: &Leg) -> Option<Vec<Step>> {
        let config = &self.config;
        let network = config.network(leg.network)?;
        let path = leg.path;
        let (local, from) = (path.on.local.ip(), path.to.ip());
        let contact = Uri::parse(&leg.target)
            .and_then(|uri| Some((uri.host.ip()?, uri.port.unwrap_or(5060))))
            .map(SocketAddr::from);
        let why = words::nat(
            network.nat,
            leg.natted,
            path.to,
            Said::Unknown,
            Said::of(contact),
        );
        let arrived = Step {
            topic: "arrived",
            question: "Where is its signalling?",
            decision: path.to.to_string(),
            facts: vec![
                format!("it reaches us at {}", path.on),
                format!("Contact says {}", Said::of(contact)),
            ],
            reason: Reason::fixed("the packets' source, or where it was registered or configured"),
            ..Step::default()
        };
        let steps = [
            Some(arrived),
            steps::network(config, local, from, Some(leg.network)),
            Some(steps::nat(config, network, leg.natted, why)),
            Some(steps::requests(leg.natted, path, leg.next_hop())),
            Some(steps::told(config, network, Some(path.on))),
        ];
        Some(steps.into_iter().flatten().collect())
    }

    fn flow_steps(&self, call: &Call, flow: &FlowView) -> Option<Vec<Step>> {
        let (_, side) = PARTIES.into_iter().find(|(party, _)| *party == flow.leg)?;
        let leg = call.session.as_ref()?.leg(side);
        let network = self.config.network(leg.network)?;
        let claimed = || claimed(&self.config, network, leg, flow);
        let steps = [
            Some(advertised(&self.config, network, flow)),
            // RTCP goes beside RTP.
            (flow.component == "rtp").then(claimed),
            Some(latched(flow)),
        ];
        Some(steps.into_iter().flatten().collect())
    }
}

/// What the party was told to send to.
fn advertised(config: &Config, network: &Network, flow: &FlowView) -> Step {
    Step {
        topic: "told",
        question: "Where was it told to send?",
        decision: flow.advertised.to_string(),
        facts: vec![format!("it arrives at our {}", flow.at)],
        reason: Reason::of(
            config,
            format!("the media address and ports of network {}", network.name),
            format!("network.{}.advertise", network.name),
        ),
        ..Step::default()
    }
}

/// What its SDP claims, and whether that is believed.
fn claimed(config: &Config, network: &Network, leg: &LegSettings, flow: &FlowView) -> Step {
    let policy = leg.policy(flow.signalled, &network.peers);
    let (believed, why) = words::belief(leg.mode, leg, policy, flow.signalled);
    let says = flow
        .signalled
        .map_or("nothing".to_owned(), |at| at.to_string());
    let mode = match leg.mode {
        Mode::Sdp => "sdp",
        Mode::Symmetric => "symmetric",
        Mode::Auto => "auto",
    };
    Step {
        topic: "claimed",
        question: "Is the address in its SDP believed?",
        decision: believed.to_owned(),
        facts: vec![
            format!("SDP says {says}"),
            format!("its signalling comes from {}", leg.signalled_from),
        ],
        reason: Reason::of(
            config,
            format!("media = \"{mode}\": {why}"),
            format!("network.{}.media", network.name),
        ),
        ..Step::default()
    }
}

/// Where its media is taken from and sent to.
fn latched(flow: &FlowView) -> Step {
    let decision = match flow.held {
        Some(at) => at.to_string(),
        None => "not known yet".to_owned(),
    };
    let refused = (flow.strangers > 0)
        .then(|| format!("{} packets from elsewhere were refused", flow.strangers));
    Step {
        topic: "latch",
        question: "Where is its media taken from and sent to?",
        decision,
        facts: [Some(format!("the latch is {}", flow.latch)), refused]
            .into_iter()
            .flatten()
            .collect(),
        reason: Reason::fixed(flow.rule),
        means: flow
            .held
            .map(|_| "what comes from anywhere else is not let in".to_owned()),
        ..Step::default()
    }
}
