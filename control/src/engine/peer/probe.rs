//! OPTIONS to peers (RFC 3261 §11): whoever answers, with whatever it may be, is there. The first
//! shard asks, so that nobody is asked more often than is configured.

use std::time::{Duration, Instant};

use crate::config::PeerAddress;
use crate::effect::Effects;
use crate::engine::admin::Refused;
use crate::engine::relay::Purpose;
use crate::engine::{Engine, MAX_FORWARDS};
use crate::sip::transaction::ClientKey;
use crate::sip::vocabulary::{Method, NewRequest};

/// A probe that is not answered for so long has failed.
const PROBE_WAIT: Duration = Duration::from_secs(4);
/// So many that one of them is this shard's, however many shards there are.
const CALL_IDS_TRIED: usize = 4096;

impl Engine {
    pub(super) fn sweep_probes(&mut self, now: Instant, effects: &mut Effects) {
        let probes = self.peers.probes.iter();
        let silent: Vec<ClientKey> = probes
            .filter(|(_, (_, sent))| now >= *sent + PROBE_WAIT)
            .map(|(key, _)| key.clone())
            .collect();
        for key in silent {
            if let Some((path, _)) = self.peers.probes.remove(&key) {
                self.transactions.forget_client(&key);
                self.relays.remove(&key);
                self.peer_failed(path, "no answer to OPTIONS", now, effects);
            }
        }
        let each = self.config.sip.addresses();
        let probed = each.filter(|(peer, _)| !peer.probe.is_zero());
        let probed: Vec<_> = probed.map(|(peer, found)| (found, peer.probe)).collect();
        for (found, every) in probed {
            let health = self.peers.health.entry(found.address).or_default();
            if health.next_probe.is_none_or(|at| now >= at) {
                health.next_probe = Some(now + every);
                self.probe(&found, now, effects);
            }
        }
    }

    fn probe(&mut self, found: &PeerAddress, now: Instant, effects: &mut Effects) {
        let address = found.address;
        let Some(network) = self.config.network_to(address.ip()) else {
            return;
        };
        let Some(path) = self.way_to_address(found) else {
            return;
        };
        let branch = self.names.branch();
        let Some(via) = self.via(network, path, &branch) else {
            return;
        };
        let (tag, call_id) = (self.names.token(), self.own_call_id());
        let domain = &self.config.sip.domain;
        let param = path.on.transport.param();
        let bytes = NewRequest {
            method: Method::Options,
            uri: format!("sip:{address}{param}").as_bytes(),
            via: via.as_bytes(),
            from: format!("<sip:{domain}>;tag={tag}").as_bytes(),
            to: format!("<sip:{address}>").as_bytes(),
            call_id: call_id.as_bytes(),
            cseq: 1,
            max_forwards: MAX_FORWARDS,
            contact: None,
            routes: &[],
            extra: &[],
            body: None,
        }
        .build();
        self.counters.count("peer", "probed");
        if let Some(key) = self.launch(branch, bytes, path, Purpose::Own, now, effects) {
            self.peers.probes.insert(key, (path, now));
        }
    }

    /// A Call-ID for a request outside dialogs: one with which the answer finds this shard.
    pub(in crate::engine) fn own_call_id(&mut self) -> String {
        let mut call_id = String::new();
        for _ in 0..CALL_IDS_TRIED {
            call_id = format!("{}@{}", self.names.token(), self.config.sip.domain);
            if self.whose.of_call_id(call_id.as_bytes()) == self.shard.index() {
                break;
            }
        }
        call_id
    }

    /// # Errors
    /// There is no such peer.
    pub(in crate::engine) fn probe_now(
        &mut self,
        name: &str,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let peer = self.config.sip.peers.iter().find(|p| p.name == name);
        let addresses = peer.ok_or(Refused::NoSuchPeer)?.addresses.clone();
        for address in addresses {
            self.probe(&address, now, effects);
        }
        Ok(())
    }
}
