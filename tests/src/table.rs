//! The maps on the host: `Flows` over ordinary memory, and around `forward` what the program does
//! around it. The differential test and the simulator drive it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use common::event::{Event, EventKind};
use common::flow::{Endpoint, Flow};
use common::forward::{Action, Flows, Reason, Verdict, forward};
use common::map::{SLOT_NONE, Settings};
use common::media::Media;
use common::rtp::Rtp;
use common::stats::FlowStats;

/// One CPU's view of the maps.
#[derive(Default)]
pub struct Table {
    pub settings: Settings,
    pub ports: BTreeMap<u32, u32>,
    pub flows: BTreeMap<u32, Flow>,
    pub egress: BTreeSet<u32>,
    pub reasons: [u64; Reason::COUNT as usize],
    stats: RefCell<BTreeMap<u32, FlowStats>>,
    media: RefCell<BTreeMap<u32, Media>>,
    /// Strangers that were shown, and how their packets began.
    pub shown: RefCell<Vec<Event>>,
    /// When the frame came, by the clock that `Media` is kept by.
    now_ns: Cell<u64>,
}

impl Table {
    /// What becomes of a frame, accounted for.
    pub fn run(&mut self, frame: &mut [u8], ingress: u32, now_ns: u64) -> Verdict {
        self.now_ns.set(now_ns);
        let mut verdict = forward(frame, ingress, self, now_ns);
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

impl Flows for Table {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn port(&self, index: u32) -> u32 {
        self.ports.get(&index).copied().unwrap_or(SLOT_NONE)
    }

    fn flow(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(&slot)
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

    fn measure(&self, flow: &Flow, rtp: &Rtp) -> EventKind {
        let mut media = self.media.borrow_mut();
        let account = media.entry(flow.stats).or_default();
        account.receive(flow.generation, flow.clock_hz, rtp, self.now_ns.get())
    }
}
