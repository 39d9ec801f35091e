//! Bindings: what one is, which one a contact means, and what a REGISTER makes of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Refused;
use super::upstream::Upstream;
use crate::id::{NetworkId, Path};

/// A longer User-Agent is cut.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// The `q` of a contact that names none (RFC 3261 §10.2.1.2), in thousandths.
pub const Q_DEFAULT: u16 = 1_000;

/// One contact of an address-of-record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The Contact URI as sent.
    pub contact: Vec<u8>,
    /// `+sip.instance` (RFC 5626 §4.1).
    pub instance: Option<Vec<u8>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    pub call_id: Vec<u8>,
    pub cseq: u32,
    /// Our listener and where the REGISTER really came from.
    pub path: Path,
    /// The path before it, if the client moved.
    pub moved_from: Option<Path>,
    /// Path values, the nearest to us first (RFC 3327).
    pub route: Vec<Vec<u8>>,
    pub network: NetworkId,
    /// The address in the Contact, as claimed.
    pub claimed: Option<SocketAddr>,
    /// The address in its topmost Via, as claimed.
    pub via: Option<SocketAddr>,
    pub natted: bool,
    pub expires_at: Instant,
    pub user_agent: Option<String>,
    /// When the binding was made.
    pub registered_at: Instant,
    /// When it was last asked for.
    pub refreshed_at: Instant,
    /// Preference in thousandths, 0..=1000.
    pub q: u16,
    /// The same at the registrar it was forwarded to.
    pub upstream: Option<Box<Upstream>>,
}

/// One Contact value of a REGISTER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The URI as sent, without angle brackets and header parameters.
    pub contact: Vec<u8>,
    pub instance: Option<Vec<u8>>,
    pub reg_id: Option<u32>,
    /// Its `expires` parameter; zero removes.
    pub expires: Option<Duration>,
    pub claimed: Option<SocketAddr>,
    /// In thousandths; `Q_DEFAULT` if it names none.
    pub q: u16,
    /// What another registrar granted, and remembers.
    pub granted_max: Option<Duration>,
    pub upstream: Option<Box<Upstream>>,
}

/// What a REGISTER asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// None: the request only asks what there is.
    pub contacts: Vec<Change>,
    /// `Contact: *`
    pub star: bool,
    /// The Expires header.
    pub expires: Option<Duration>,
    pub call_id: Vec<u8>,
    pub cseq: u32,
    pub path: Path,
    /// Path values, the nearest to us first (RFC 3327).
    pub route: Vec<Vec<u8>>,
    pub network: NetworkId,
    /// The address in the topmost Via, as claimed.
    pub via: Option<SocketAddr>,
    pub natted: bool,
    pub user_agent: Option<String>,
}

/// RFC 5626 §6: instance and reg-id name a client's flow, whatever its Contact says today. Where
/// one side names no instance, the Contact URI decides, octet by octet: clients repeat themselves.
pub(super) fn is_same(binding: &Binding, change: &Change) -> bool {
    match (&binding.instance, &change.instance) {
        (Some(a), Some(b)) => a == b && binding.reg_id == change.reg_id,
        (None, None) | (Some(_), None) | (None, Some(_)) => binding.contact == change.contact,
    }
}

/// RFC 3261 §10.3 step 7: within one Call-ID a binding obeys rising CSeq only.
pub(super) fn in_order(binding: &Binding, request: &Registration) -> Result<(), Refused> {
    if binding.call_id == request.call_id && request.cseq <= binding.cseq {
        return Err(Refused::OutOfOrder);
    }
    Ok(())
}

pub(super) fn bound(
    change: &Change,
    request: &Registration,
    known: Option<&Binding>,
    granted: Duration,
    now: Instant,
) -> Binding {
    let moved_from = known.and_then(|binding| {
        if binding.path == request.path {
            binding.moved_from
        } else {
            Some(binding.path)
        }
    });
    let user_agent = request.user_agent.as_ref().map(|text| {
        let end = text.floor_char_boundary(USER_AGENT_BYTES_MAX);
        text.get(..end).unwrap_or_default().to_owned()
    });
    Binding {
        contact: change.contact.clone(),
        instance: change.instance.clone(),
        reg_id: change.reg_id,
        call_id: request.call_id.clone(),
        cseq: request.cseq,
        path: request.path,
        moved_from,
        route: request.route.clone(),
        network: request.network,
        claimed: change.claimed,
        via: request.via,
        natted: request.natted,
        expires_at: now + granted,
        user_agent,
        registered_at: known.map_or(now, |binding| binding.registered_at),
        refreshed_at: now,
        q: change.q.min(Q_DEFAULT),
        upstream: change
            .upstream
            .clone()
            .or_else(|| known.and_then(|binding| binding.upstream.clone())),
    }
}
