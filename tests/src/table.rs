//! The maps on the host: `Flows` over ordinary memory, and around `forward` what the program does
//! around it. The differential test and the simulator drive it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use common::event::{Event, EventKind};
use common::flow::{Endpoint, Flow};
use common::forward::{Action, Flows, Reason, Verdict, forward, forward_plain};
use common::map::{BANNED, Port, SLOT_NONE, Settings};
use common::media::Media;
use common::rtp::Rtp;
use common::stats::FlowStats;
use common::wire::{Buffer, Ip};

/// One CPU's view of the maps.
#[derive(Default)]
pub struct Table {
    pub settings: Settings,
    pub ports: BTreeMap<u32, Port>,
    pub flows: BTreeMap<u32, Flow>,
    pub egress: BTreeSet<u32>,
    /// Prefixes, as bits and address, and whether they are banned.
    pub bans: BTreeMap<(u32, [u32; 4]), u32>,
    pub reasons: [u64; Reason::COUNT as usize],
    stats: RefCell<BTreeMap<u32, FlowStats>>,
    media: RefCell<BTreeMap<u32, Media>>,
    /// Strangers that were shown, and how their packets began.
    pub shown: RefCell<Vec<Event>>,
}

impl Table {
    /// What becomes of a frame, accounted for; the short way if it is enough, as in the kernel.
    pub fn run(&mut self, frame: &mut Vec<u8>, ingress: u32, now_ns: u64) -> Verdict {
        let settings = &self.settings;
        let mut buffer = Buffer::new(frame, 0);
        match forward_plain(&mut buffer, ingress, settings, self, now_ns) {
            Some(verdict) => self.account(verdict, now_ns),
            None => self.run_whole(frame, ingress, now_ns),
        }
    }

    /// The same without the short way.
    pub fn run_whole(&mut self, frame: &mut Vec<u8>, ingress: u32, now_ns: u64) -> Verdict {
        let mut room = vec![0; HEADROOM];
        room.append(frame);
        let mut buffer = Buffer::new(&mut room, HEADROOM);
        let verdict = forward(&mut buffer, ingress, &self.settings, self, now_ns);
        frame.extend_from_slice(buffer.frame());
        self.account(verdict, now_ns)
    }

    fn account(&mut self, verdict: Verdict, now_ns: u64) -> Verdict {
        let mut verdict = verdict;
        if verdict.action == Action::Redirect && !self.egress.contains(&verdict.egress) {
            verdict = verdict.without_egress();
        }
        if let Some(counter) = self.reasons.get_mut(verdict.reason as usize) {
            *counter += 1;
        }
        if verdict.stats != SLOT_NONE {
            let mut stats = self.stats.borrow_mut();
            let silence_ns = self.settings.silence_ns;
            stats
                .entry(verdict.stats)
                .or_default()
                .count(&verdict, now_ns, silence_ns);
        }
        verdict
    }

    /// The account at a stats slot.
    #[must_use]
    pub fn stats(&self, slot: u32) -> FlowStats {
        self.stats.borrow().get(&slot).copied().unwrap_or_default()
    }

    /// The account of the stream at a stats slot.
    #[must_use]
    pub fn media(&self, slot: u32) -> Media {
        self.media.borrow().get(&slot).copied().unwrap_or_default()
    }
}

/// What a driver leaves at least (linux/bpf.h, `XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

impl Flows for Table {
    fn port(&self, index: u32) -> Port {
        self.ports.get(&index).copied().unwrap_or_default()
    }

    fn flow(&self, port: Port) -> Option<&Flow> {
        self.flows.get(&port.flow)
    }

    fn is_banned(&self, source: Ip) -> bool {
        let holds = |bits: u32, net: [u32; 4]| {
            let number = |words: [u32; 4]| {
                words.iter().fold(0, |all, word| {
                    all << 32 | u128::from(u32::from_be_bytes(word.to_ne_bytes()))
                })
            };
            let rest = u128::MAX.checked_shr(bits).unwrap_or_default();
            number(source.0) | rest == number(net) | rest
        };
        let mut matching = self
            .bans
            .iter()
            .filter(|((bits, net), _)| holds(*bits, *net));
        // In order of their bits.
        let longest = matching.next_back();
        longest.is_some_and(|(_, found)| *found == BANNED)
    }

    fn show_stranger(&self, flow: &Flow, settings: &Settings, now_ns: u64) -> bool {
        let mut stats = self.stats.borrow_mut();
        let own = stats.entry(flow.stats).or_default();
        own.turn_to(flow.generation);
        own.show(now_ns, settings.stranger_flow_ns)
            && stats
                .entry(SLOT_NONE)
                .or_default()
                .show(now_ns, settings.stranger_all_ns)
    }
    fn stranger(&self, flow: &Flow, from: Endpoint, head: Option<&Rtp>, now_ns: u64) {
        let event = Event::stranger(now_ns, flow, from, head);
        self.shown.borrow_mut().push(event);
    }

    fn measure(&self, flow: &Flow, rtp: &Rtp, now_ns: u64) -> EventKind {
        let mut media = self.media.borrow_mut();
        let account = media.entry(flow.stats).or_default();
        let (generation, clock_hz) = (flow.generation, flow.clock_hz);
        account.receive(generation, clock_hz, rtp, now_ns, || now_ns)
    }
}
