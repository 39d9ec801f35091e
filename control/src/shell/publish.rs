//! Where what this server publishes goes: to the clients of our edge, and to the broker behind us.

use crate::bus::Publication;
use crate::shell::mqtt::Edge;
use crate::shell::outbox::Outbox;

/// Everybody who takes publications.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) edge: Edge,
    pub(crate) outbox: Outbox,
}

impl Publisher {
    pub(crate) fn publish(&self, publication: Publication) {
        if self.outbox.push(publication.clone()).is_err() {
            tracing::debug!(
                topic = publication.topic,
                "the outbox is full, and counts it"
            );
        }
        self.edge.publish(publication);
    }

    /// The retained word about this server: the broker gets it anew with each connection.
    pub(crate) fn announce(&self, state: Publication) {
        self.outbox.announce(state.clone());
        self.edge.publish(state);
    }
}
