//! Programs to measure with: a yardstick, a source and a sink of packets. Never shipped.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
    use aya_ebpf::macros::{map, xdp};
    use aya_ebpf::maps::xdp::DevMap;
    use aya_ebpf::maps::{Array, PerCpuArray};
    use aya_ebpf::programs::XdpContext;

    /// Where `redirect` and `generate` send to.
    #[map]
    static OUT: DevMap = DevMap::with_max_entries(1, 0);
    /// Packets `generate` made and `sink` saw, on each CPU.
    #[map]
    static SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
    /// How a frame begins that `generate` sends.
    #[map]
    static HEAD: Array<Head> = Array::with_max_entries(1, 0);
    /// What `sink` does with them (`enum xdp_action`).
    #[map]
    static VERDICT: Array<u32> = Array::with_max_entries(1, 0);

    /// What every program costs that does nothing.
    #[xdp]
    pub(crate) fn nop(_: XdpContext) -> u32 {
        XDP_PASS
    }

    /// The least a forwarder does.
    #[xdp]
    pub(crate) fn redirect(_: XdpContext) -> u32 {
        out()
    }

    /// Counts.
    #[xdp]
    pub(crate) fn sink(_: XdpContext) -> u32 {
        seen();
        match VERDICT.get(0) {
            Some(verdict) => *verdict,
            None => XDP_ABORTED,
        }
    }

    /// Sends a frame that begins as `HEAD` does: the kernel uses frames again as they were left.
    /// RTP in UDP in IPv4 gets the next sequence number, and the first halfword of media is its
    /// complement, so that the checksum stays what it was.
    #[xdp]
    pub(crate) fn generate(ctx: XdpContext) -> u32 {
        let start = ctx.data();
        let Some(head) = HEAD.get(0) else {
            return XDP_ABORTED;
        };
        if start + size_of::<Head>() > ctx.data_end() {
            return XDP_ABORTED;
        }
        #[allow(clippy::cast_possible_truncation, reason = "it wraps")]
        let sequence = (seen() as u16).to_be();
        for (at, word) in head.0.iter().enumerate() {
            // SAFETY: the check above; this machine loads and stores words anywhere.
            unsafe { *((start + at * size_of::<u64>()) as *mut u64) = *word };
        }
        // SAFETY: as above.
        unsafe { *((start + SEQUENCE_AT) as *mut u16) = sequence };
        // SAFETY: as above.
        unsafe { *((start + MEDIA_AT) as *mut u16) = !sequence };
        out()
    }

    /// Headers of Ethernet, IPv4, UDP and RTP, and the first halfword of media.
    struct Head([u64; 7]);
    const SEQUENCE_AT: usize = 14 + 20 + 8 + 2;
    const MEDIA_AT: usize = SEQUENCE_AT + 10;

    #[inline(always)]
    fn out() -> u32 {
        OUT.redirect(0, 0).unwrap_or(XDP_ABORTED)
    }

    /// One more.
    #[inline(always)]
    fn seen() -> u64 {
        let Some(count) = SEEN.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: the entry is this CPU's own.
        let count = unsafe { &mut *count };
        *count += 1;
        *count
    }

    /// Section `license`: what the kernel asks of programs that use its helpers.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    /// Panics are compiled out; if one were not, the verifier would refuse the endless loop.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

/// Lets host-side tools see the whole workspace.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
