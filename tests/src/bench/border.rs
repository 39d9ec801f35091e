//! What bans cost those who are not banned: nanoseconds of packets to SIP's port that go on to the
//! stack, above a program that does nothing.

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::maps::lpm_trie::{Key, LpmTrie};
use common::map::{self, BANNED, Guarded, Settings, ban_prefix};
use common::wire::Ip;

use super::cost::{DROP, PASS, nop, run};
use super::median;
use super::path;
use super::stand::{Programs, loaded};
use crate::frame::Datagram;
use crate::netns::{Namespace, stale};

/// Bans that do not concern the sender.
pub const BANS: u32 = 10_000;

#[derive(Clone, Copy, Debug)]
pub struct Border {
    /// Nobody is banned.
    pub without_ns: f64,
    /// Others are.
    pub others_ns: f64,
    /// The sender is: its packet goes no further.
    pub banned_ns: f64,
}

const SOURCE: &str = "198.51.100.77:5060";
const LOCAL: &str = "10.80.1.1:5060";

pub(super) fn measure(programs: &Programs, runs: u32) -> Result<Border> {
    let host = Namespace::create(&stale::unique_name())?;
    let peer = Namespace::create(&stale::unique_name())?;
    host.veth("b0", &peer, "b1")?;
    host.veth("c0", &peer, "c1")?;
    host.enter(|| {
        path::pin(nix::unistd::Pid::from_raw(0), &[path::CORE])?;
        let source: std::net::SocketAddr = SOURCE.parse()?;
        let local: std::net::SocketAddr = LOCAL.parse()?;
        let frame = Datagram::new(source, local, b"OPTIONS".to_vec()).build();
        let own = Key::new(ban_prefix(true, 32), Ip::from(source.ip()).0);
        let mut idle = nop(programs)?;
        let _idle = path::attach(&mut idle, "nop", "c0")?;
        let mut nanoseconds = [0.0; 3];
        for (bans, what) in (0..).zip(&mut nanoseconds) {
            let mut relay = loaded(programs, 16)?;
            let map = relay.map_mut(map::BANS).context("no BANS")?;
            let mut trie: LpmTrie<_, [u32; 4], u32> = map.try_into()?;
            if bans > 0 {
                for index in 0..BANS {
                    let other = Ip::from(std::net::Ipv4Addr::from(0x0b00_0000 + index * 7));
                    trie.insert(&Key::new(ban_prefix(true, 32), other.0), BANNED, 0)?;
                }
            }
            if bans == 2 {
                trie.insert(&own, BANNED, 0)?;
            }
            let mut settings = Settings::new(&[local.ip().into()]);
            (settings.bans, settings.guarded_used) = (bans, 1);
            settings.guarded = [Guarded {
                first: 5060,
                last: 5060,
            }; _];
            let map = relay.map_mut(map::SETTINGS).context("no SETTINGS")?;
            Array::<_, Settings>::try_from(map)?.set(0, settings, 0)?;
            let _link = path::attach(&mut relay, map::PROGRAM, "b0")?;
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                let verdict = if bans == 2 { DROP } else { PASS };
                with.push(run(&mut relay, map::PROGRAM, &frame, verdict)?);
                without.push(run(&mut idle, "nop", &frame, PASS)?);
            }
            *what = median(&mut with) - median(&mut without);
        }
        let [without_ns, others_ns, banned_ns] = nanoseconds;
        Ok(Border {
            without_ns,
            others_ns,
            banned_ns,
        })
    })?
}
