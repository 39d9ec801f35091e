//! A packet as a `Frame`: the only pointer arithmetic.

use aya_ebpf::programs::XdpContext;
use common::wire::{Frame, View};

pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// Both ends are read once: the verifier tracks a bounds check by the register it was made
    /// with.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
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
}
