//! The maps, and `Flows` over them. Capacities of FLOWS, STATS and MEDIA are set by the loader.
//! Maps of whole cache lines are such as can be mapped: those begin at a page.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::xdp::DevMapHash;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use common::event::{Event, EventKind};
use common::flow::{Endpoint, Flags, Flow};
use common::forward::{Flows, Reason};
use common::map::{
    BANNED, BANS_MAX, EGRESS_MAX, EVENTS_BYTES, FLOWS_DEFAULT, PORTS_MAX, Port, SLOT_NONE, Settings,
};
use common::media::Media;
use common::rtp::Rtp;
use common::stats::FlowStats;
use common::wire::Ip;

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<Port> = Array::with_max_entries(PORTS_MAX, 0);
#[map]
static FLOWS: Array<Flow> = Array::with_max_entries(FLOWS_DEFAULT, BPF_F_MMAPABLE);
#[map]
static STATS: PerCpuArray<FlowStats> = PerCpuArray::with_max_entries(FLOWS_DEFAULT, 0);
#[map]
static MEDIA: Array<Media> = Array::with_max_entries(FLOWS_DEFAULT, BPF_F_MMAPABLE);
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
pub(crate) static EGRESS: DevMapHash = DevMapHash::with_max_entries(EGRESS_MAX, 0);
#[map]
static BANS: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(BANS_MAX, 0);

pub(crate) struct Maps;

impl Flows for Maps {
    #[inline(always)]
    fn port(&self, index: u32) -> Port {
        match PORTS.get(index) {
            Some(port) => *port,
            None => Port {
                flow: SLOT_NONE,
                stats: SLOT_NONE,
            },
        }
    }

    #[inline(always)]
    fn flow(&self, port: Port) -> Option<&Flow> {
        let flow = FLOWS.get(port.flow)?;
        if early(&flow.flags).has(Flags::MEASURE) {
            // With many flows these come from far away, and reading a clock, which is next, waits
            // for every load before it and holds up those after it: asked for now, all come
            // together. Without a clock to wait for, the processor does as well by itself.
            if let Some(media) = MEDIA.get(port.stats) {
                early(&media.generation);
            }
            if let Some(stats) = stats(port.stats) {
                early(&stats.generation);
            }
        }
        Some(flow)
    }

    #[inline(always)]
    fn is_banned(&self, source: Ip) -> bool {
        let [a, b, c, d] = source.0;
        is_banned(a, b, c, d) == 1
    }

    #[inline(always)]
    fn show_stranger(&self, flow: &Flow, settings: &Settings, now_ns: u64) -> bool {
        let (Some(own), Some(all)) = (stats(flow.stats), stats(SLOT_NONE)) else {
            return false;
        };
        own.turn_to(flow.generation);
        own.show(now_ns, settings.stranger_flow_ns) && all.show(now_ns, settings.stranger_all_ns)
    }

    #[inline(always)]
    fn stranger(&self, flow: &Flow, from: Endpoint, head: Option<&Rtp>, now_ns: u64) {
        if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
            entry.write(Event::stranger(now_ns, flow, from, head));
            entry.submit(0);
        }
    }

    #[inline(always)]
    fn measure(&self, flow: &Flow, rtp: &Rtp, now_ns: u64) -> EventKind {
        let Some(media) = MEDIA.get_ptr_mut(flow.stats) else {
            return EventKind::NONE;
        };
        // SAFETY: the entry lies in the map. Another CPU may write to it too: every field is read
        // and written as a whole, and any values are valid.
        let media = unsafe { &mut *media };
        media.receive(flow.generation, flow.clock_hz, rtp, now_ns, || {
            // SAFETY: the helper reads a clock and takes nothing.
            unsafe { bpf_ktime_get_ns() }
        })
    }
}

/// On its own for the verifier, as `packet::is_whole`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_banned(a: u32, b: u32, c: u32, d: u32) -> u32 {
    const BITS: u32 = 128;
    let found = BANS.get(Key::new(BITS, [a, b, c, d]));
    u32::from(found.is_some_and(|found| *found == BANNED))
}

/// Reads now what the compiler would read later.
#[inline(always)]
fn early<T: Copy>(of: &T) -> T {
    // SAFETY: a reference to it.
    unsafe { core::ptr::read_volatile(of) }
}

/// This CPU's account at a stats slot.
#[inline(always)]
pub(crate) fn stats(slot: u32) -> Option<&'static mut FlowStats> {
    // SAFETY: the entry is this CPU's own, and the program does not interrupt itself.
    // `show_stranger` holds two at once; slot 0 is never a flow's.
    STATS.get_ptr_mut(slot).map(|entry| unsafe { &mut *entry })
}

/// This CPU's counter of a reason.
#[inline(always)]
pub(crate) fn reason(reason: Reason) -> Option<&'static mut u64> {
    // SAFETY: as for `stats`.
    REASONS
        .get_ptr_mut(reason as u32)
        .map(|entry| unsafe { &mut *entry })
}

/// What is not a flow's.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// The time, to a timer tick.
#[inline(always)]
pub(crate) fn now_ns(settings: &Settings) -> u64 {
    // SAFETY: the helper reads a counter and takes nothing.
    settings.at_ns(unsafe { bpf_jiffies64() })
}
