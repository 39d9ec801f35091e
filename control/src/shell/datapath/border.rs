//! Bans at the network card: the program drops what userspace would not hear.

use common::map::{BANS_MAX, GUARDED_MAX, Guarded};

use super::Datapath;
use crate::config::Config;
use crate::shell::kernel::Bans;

/// As the program has room for them.
pub(crate) const BORDER_MAX: usize = BANS_MAX as usize;

impl Datapath {
    /// Tells the program who is not heard, and where. Without a program nothing is different:
    /// userspace drops what it gets.
    pub(crate) fn shut_out(&mut self, bans: &Bans, config: &Config) {
        let Ok(kernel) = &mut self.kernel else {
            return;
        };
        let ports = guarded(config);
        match kernel.shut_out(bans, &ports) {
            Ok(()) => self.border_fails = false,
            // Once, not every second.
            Err(error) if !self.border_fails => {
                tracing::warn!(%error, "bans are enforced in userspace only");
                self.border_fails = true;
            }
            Err(_) => {}
        }
    }
}

/// Ports of SIP and of media, SIP's first: of more ranges than the program compares with, the last
/// are left out.
fn guarded(config: &Config) -> Vec<Guarded> {
    let sip = config.sip.listen.iter().map(|listener| {
        let port = listener.local.port();
        (port, port)
    });
    let mut sip: Vec<(u16, u16)> = sip.collect();
    let media = config.networks.iter().map(|network| network.media_ports);
    let mut media: Vec<(u16, u16)> = media.map(|ports| (ports.first, ports.last)).collect();
    for ranges in [&mut sip, &mut media] {
        ranges.sort_unstable();
        ranges.dedup();
    }
    let all = sip.into_iter().chain(media);
    all.map(|(first, last)| Guarded { first, last })
        .take(GUARDED_MAX as usize)
        .collect()
}
