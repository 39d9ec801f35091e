//! With which address is an account registered, and why?

use std::time::Instant;

use super::words::{self, Said};
use super::{Explanation, Reason, Step, steps};
use crate::config::{Config, KeepAlive, Network};
use crate::engine::Engine;
use crate::engine::admin::RegistrationView;
use crate::engine::gateway::Suspect;
use crate::engine::route::way_to;
use crate::id::Aor;
use crate::sip::registrar::Binding;

/// An account and everything it is registered with.
#[derive(Clone, Debug)]
pub struct RegistrationExplained {
    pub aor: Aor,
    /// The newest first.
    pub bindings: Vec<(RegistrationView, Explanation)>,
}

impl Engine {
    /// The chain of decisions behind each binding; none if nobody is registered under this name.
    #[must_use]
    pub fn explain_registration(&self, aor: &str, now: Instant) -> Option<RegistrationExplained> {
        let (user, domain) = aor.split_once('@')?;
        let aor = Aor::new(user, domain);
        let bindings = self.registrar.fetch(&aor, now).into_iter();
        let bindings: Vec<_> = bindings
            .filter_map(|binding| {
                let network = self.network(binding.network)?;
                let mut explanation = explain(&self.config, network, &aor, binding, now);
                let (local, from) = (binding.path.on.local.ip(), binding.path.to.ip());
                let mut suspects = self.gateways.suspects();
                let suspect = suspects.find(|s| (s.local, s.address) == (local, from));
                explanation.answer.extend(suspect.map(rewrites));
                Some((self.registration_view(&aor, binding, now), explanation))
            })
            .collect();
        (!bindings.is_empty()).then_some(RegistrationExplained { aor, bindings })
    }
}

fn explain(
    config: &Config,
    network: &Network,
    aor: &Aor,
    binding: &Binding,
    now: Instant,
) -> Explanation {
    let path = binding.path;
    let why = nat_words(network, binding);
    let (local, from) = (path.on.local.ip(), path.to.ip());
    let steps = [
        Some(arrived(binding, now)),
        steps::network(config, local, from, Some(binding.network)),
        Some(steps::nat(config, network, binding.natted, why)),
        Some(steps::requests(binding.natted, path, way_to(binding))),
        Some(steps::told(config, network, Some(path.on))),
        Some(steps::media(config, network, Some(binding.natted))),
        Some(expiry(config, network, binding, now)),
    ];
    Explanation {
        answer: answer(network, aor, binding),
        steps: steps.into_iter().flatten().collect(),
    }
}

/// Why a binding is taken to be behind a NAT, or not to be.
pub(in crate::engine) fn nat_words(network: &Network, binding: &Binding) -> String {
    let (via, contact) = (Said::of(binding.via), Said::of(binding.claimed));
    let source = binding.path.to;
    let (via, contact) = if binding.path.on.transport.is_reliable() {
        (via.at_port(source.port()), contact.at_port(source.port()))
    } else {
        (via, contact)
    };
    words::nat(network.nat, binding.natted, source, via, contact)
}

/// The trouble book's question, answered.
fn answer(network: &Network, aor: &Aor, binding: &Binding) -> Vec<String> {
    let seen = binding.path.to;
    let way = way_to(binding).to;
    let claimed = Said::of(binding.claimed);
    let with = match (steps::same(way, seen), claimed) {
        (true, Said::At(at)) if steps::same(at, seen) => format!(
            "{aor} is registered with {seen}: its packets come from there, and its Contact says \
             the same."
        ),
        (true, _) => format!(
            "{aor} is registered with {seen}, where its packets come from. Its Contact says \
             {claimed}; the packets decide."
        ),
        (false, _) => format!(
            "{aor} is registered with {way}, as its Contact says. Its packets come from {seen}."
        ),
    };
    vec![
        with,
        "The address in SDP has no part in registering; it is looked at in calls only.".to_owned(),
        format!(
            "It belongs to network {}, so it is told {}.",
            network.name,
            words::told(network)
        ),
    ]
}

/// It may be told the wrong address.
fn rewrites(suspect: &Suspect) -> String {
    format!(
        "But {} clients come from {} and say they are elsewhere: it looks like a router that \
         rewrites sources. `towpath network list` has the line to write.",
        suspect.clients, suspect.address
    )
}

fn arrived(binding: &Binding, now: Instant) -> Step {
    let ago = now.saturating_duration_since(binding.refreshed_at);
    let mut facts = vec![
        format!(
            "REGISTER arrived at {} from {}, {} ago",
            binding.path.on,
            binding.path.to,
            words::seconds(ago)
        ),
        format!("Via says {}", Said::of(binding.via)),
        format!("Contact says {}", Said::of(binding.claimed)),
    ];
    if let Some(before) = binding.moved_from {
        facts.push(format!("before it came from {}", before.to));
    }
    Step {
        topic: "arrived",
        question: "Where do its requests come from?",
        decision: binding.path.to.to_string(),
        facts,
        reason: Reason::fixed("the packet's source counts, whatever the message says of itself"),
        means: Some("answers go back there, from the address it was sent to".to_owned()),
        ..Step::default()
    }
}

fn expiry(config: &Config, network: &Network, binding: &Binding, now: Instant) -> Step {
    let left = binding.expires_at.saturating_duration_since(now);
    let granted = binding
        .expires_at
        .saturating_duration_since(binding.refreshed_at);
    let since = now.saturating_duration_since(binding.registered_at);
    let most = config.sip.expires_natted_max;
    let (words, key) = if binding.natted && granted >= most {
        let most = words::seconds(most);
        let words = format!("behind a NAT at most {most}: a changed mapping is soon noticed");
        (words, "sip.expires_natted_max")
    } else {
        let most = words::seconds(config.sip.expires_max);
        (
            format!("what it asked for, at most {most}"),
            "sip.expires_max",
        )
    };
    let reason = Reason::of(config, words, key.to_owned());
    let every = words::seconds(network.keepalive_interval);
    let kept = match network.keepalive {
        KeepAlive::Crlf => Some(format!("a packet every {every} keeps the way to it open")),
        KeepAlive::Options => Some(format!("OPTIONS every {every} keeps the way to it open")),
        KeepAlive::Off => None,
    };
    Step {
        topic: "expiry",
        question: "How long?",
        decision: format!("another {}", words::seconds(left)),
        facts: vec![
            format!("it was granted {}", words::seconds(granted)),
            format!("it has been registered for {}", words::seconds(since)),
        ],
        reason,
        means: kept.filter(|_| binding.natted),
        ..Step::default()
    }
}
