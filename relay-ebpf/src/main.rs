//! The XDP program: a shell around `common::forward`, which takes every decision.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod account;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod report;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::EbpfContext as _;
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::bindings::xdp_md;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use common::forward::{Action, Verdict, forward, forward_plain};
    use common::map::{ABI, Settings};

    use crate::maps::{self, EGRESS, Maps};
    use crate::packet::Packet;
    use crate::{account, report};

    #[xdp]
    pub(crate) fn relay(ctx: XdpContext) -> u32 {
        let Some(settings) = maps::settings() else {
            return XDP_PASS;
        };
        let now_ns = maps::now_ns(settings);
        let mut packet = Packet::new(&ctx);
        match forward_plain(&mut packet, ingress(&ctx), settings, &Maps, now_ns) {
            Some(verdict) => perform(verdict, settings, now_ns),
            None => relay_any(ctx.as_ptr().cast()),
        }
    }

    /// What `forward_plain` leaves: on its own, because the verifier goes through such a function
    /// once, whatever led to it.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn relay_any(ctx: *mut xdp_md) -> u32 {
        let Some(settings) = maps::settings() else {
            return XDP_PASS;
        };
        let ctx = XdpContext::new(ctx);
        let now_ns = maps::now_ns(settings);
        let mut packet = Packet::new(&ctx);
        let verdict = forward(&mut packet, ingress(&ctx), settings, &Maps, now_ns);
        perform(verdict, settings, now_ns)
    }

    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a word widened by the context"
    )]
    fn ingress(ctx: &XdpContext) -> u32 {
        ctx.ingress_ifindex() as u32
    }

    /// Verdict → action, account, report.
    #[inline(always)]
    fn perform(verdict: Verdict, settings: &Settings, now_ns: u64) -> u32 {
        let mut verdict = verdict;
        let action = match verdict.action {
            Action::Pass => XDP_PASS,
            Action::Drop => XDP_DROP,
            Action::Transmit => XDP_TX,
            Action::Redirect => match EGRESS.redirect(verdict.egress, XDP_DROP.into()) {
                Ok(redirect) => redirect,
                Err(drop) => {
                    verdict = verdict.without_egress();
                    drop
                }
            },
        };
        let change = account::count(&verdict, now_ns, settings.silence_ns);
        report::changes(&verdict, change, now_ns);
        action
    }

    /// What the maps mean, for those who load this object: its maps may have the sizes of another.
    #[unsafe(link_section = ".rodata.abi")]
    #[unsafe(no_mangle)]
    #[used]
    static TOWPATH_ABI: u32 = ABI;

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
