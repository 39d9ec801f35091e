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
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use common::forward::{Action, forward};

    use crate::maps::{self, EGRESS, Maps};
    use crate::packet::Packet;
    use crate::{account, report};

    /// Verdict → action, account, report.
    #[xdp]
    pub(crate) fn relay(ctx: XdpContext) -> u32 {
        let (now_ns, silence_ns) = maps::time();
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a word widened by the context"
        )]
        let ingress = ctx.ingress_ifindex() as u32;
        let mut verdict = forward(&mut Packet::new(&ctx), ingress, &Maps, now_ns);
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
        let change = account::count(&verdict, now_ns, silence_ns);
        report::changes(&ctx, &verdict, change, now_ns);
        action
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
