//! `sip.shards`, and whether the media ports are enough for them.

use super::network::Draft;
use crate::config::problem::{At, Problems};
use crate::config::{PortRange, SHARDS_MAX, shards_for};

const KEY: &str = "sip.shards";

pub(super) fn read(
    shards: Option<At<i64>>,
    networks: &[Draft],
    problems: &mut Problems<'_>,
) -> Option<u16> {
    let At { value, span } = shards?;
    let Some(shards) = u16::try_from(value)
        .ok()
        .filter(|n| (1..=SHARDS_MAX).contains(n))
    else {
        let message = format!("{value} is not a number of shards");
        let help = format!("1 to {SHARDS_MAX}; without the key: one for each processor");
        problems.add(&span, KEY, message, help);
        return None;
    };
    for draft in networks {
        let Some(ports) = draft.ports.as_ref().map(|ports| ports.value) else {
            continue;
        };
        let most = shards_for(ports);
        if most < shards {
            let PortRange { first, last } = ports;
            let name = draft.name.as_ref().map_or("?", |name| name.value.as_str());
            let message = format!(
                "the media ports of network `{name}` ({first}-{last}) are too few for {shards} \
                 shards"
            );
            let help = format!("shards = {most}, or more media_ports: each shard has its own");
            problems.add(&span, KEY, message, help);
        }
    }
    Some(shards)
}
