//! What looking a flow up costs, and nothing else: to measure beside the relay. Never shipped.
//!
//! It trusts every frame to be IPv4 and UDP without options, finds the flow as the relay does,
//! touches every cache line of it the relay needs, counts, and gives the frame the flow's target,
//! so that the same frame finds the next flow.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
    use aya_ebpf::macros::{map, xdp};
    use aya_ebpf::maps::{Array, PerCpuArray};
    use aya_ebpf::programs::XdpContext;
    use common::flow::Flow;
    use common::map::{FLOWS_DEFAULT, PORTS_MAX, Port, port_index};
    use common::stats::FlowStats;
    use common::wire::Udp4;

    #[map]
    static PORTS: Array<Port> = Array::with_max_entries(PORTS_MAX, 0);
    #[map]
    static FLOWS: Array<Flow> = Array::with_max_entries(FLOWS_DEFAULT, BPF_F_MMAPABLE);
    #[map]
    static STATS: PerCpuArray<FlowStats> = PerCpuArray::with_max_entries(FLOWS_DEFAULT, 0);

    #[xdp]
    pub(crate) fn floor(ctx: XdpContext) -> u32 {
        look_up(&ctx).unwrap_or(XDP_ABORTED)
    }

    #[inline(always)]
    fn look_up(ctx: &XdpContext) -> Option<u32> {
        let start = ctx.data();
        if start + size_of::<Udp4>() > ctx.data_end() {
            return None;
        }
        // SAFETY: the check above; any bytes are valid, and this machine loads words anywhere.
        let frame = unsafe { &mut *(start as *mut Udp4) };
        // Addresses end in 1, 2, …, in the order of their slots.
        let host = u32::from_be(frame.ip.dst).wrapping_sub(1) & 0xf;
        let port = PORTS.get(port_index(host, frame.udp.dst))?;
        let stats = STATS.get_ptr_mut(port.stats)?;
        let flow = FLOWS.get(port.flow)?;
        frame.ip.dst = flow.target.ip.0[3];
        frame.udp.dst = flow.target.port;
        // The other line.
        frame.udp.src = flow.local.port;
        // SAFETY: the entry is this CPU's own.
        let stats = unsafe { &mut *stats };
        stats.packets += 1;
        Some(XDP_PASS)
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
