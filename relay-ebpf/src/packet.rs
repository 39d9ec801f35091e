//! A packet as a `Frame`: the only pointer arithmetic.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use common::checksum;
use common::wire::{Be16, Frame, View};

pub(crate) struct Packet {
    ctx: *mut xdp_md,
    start: usize,
    end: usize,
}

impl Packet {
    /// Both ends are read once: the verifier tracks a bounds check by the register it was made
    /// with.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
            ctx: ctx.as_ptr().cast(),
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl Frame for Packet {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn view<T: View>(&mut self, at: usize) -> Option<&mut T> {
        let from = self.start + at;
        if from + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: `from..from + size_of::<T>()` lies in the packet, by the check above; a `View`
        // has no alignment and any bytes are valid; `&mut self` keeps views from overlapping.
        Some(unsafe { &mut *(from as *mut T) })
    }

    #[inline(always)]
    fn shift(&mut self, by: i32) -> bool {
        // SAFETY: the context is this run's own; no view outlives `&mut self`.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx, by) };
        *self = Self::new(&XdpContext::new(self.ctx));
        failed == 0
    }

    #[inline(always)]
    fn is_whole(&mut self, udp: usize, bytes: Be16, pseudo: u16) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "behind some headers")]
        let udp = udp as u32;
        is_whole(self.ctx, udp, bytes.0.into(), pseudo.into()) == 1
    }
}

/// `checksum::is_whole`, on its own: the verifier goes through a function that others may call
/// once, whatever called it, and through the program as if it came to any result.
#[unsafe(no_mangle)]
#[inline(never)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "halfwords, as words for the call"
)]
extern "C" fn is_whole(ctx: *mut xdp_md, udp: u32, bytes: u32, pseudo: u32) -> u32 {
    let mut packet = Packet::new(&XdpContext::new(ctx));
    // No headers are longer; nothing else tells the verifier.
    let udp = udp as usize & 0x7f;
    u32::from(checksum::is_whole(
        &mut packet,
        udp,
        Be16(bytes as u16),
        pseudo as u16,
    ))
}
