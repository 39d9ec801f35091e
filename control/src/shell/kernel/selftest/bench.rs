//! What a packet costs in the program, by the kernel's own test runs. A run shows the program one
//! buffer again and again, so the flows here send a packet on as it came.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use common::flow::{Flags, Flow, Hop, Rewrite};
use common::map;

use super::{ELSEWHERE, Table, check, datagram, endpoint, failed, fill, open};
use crate::shell::kernel::{KernelError, adopt};

/// One kind of packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) packet: &'static str,
    /// The median of the runs.
    pub(crate) time: Duration,
}

const HOPS: u8 = 64;
/// RTP of a clock that is not looked at.
const CLOCK_HZ: u32 = 8_000;
const PACKETS: u32 = 10_000;
const RUNS: usize = 51;
/// linux/bpf.h, `xdp_action`.
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Peer, our address.
const V4: [&str; 2] = ["192.0.2.10:4000", "198.51.100.1:20000"];
const V6: [&str; 2] = ["[2001:db8:a::10]:4000", "[2001:db8:a::1]:20000"];
const V4_MEASURED: [&str; 2] = [V4[0], "198.51.100.1:20002"];
const V6_MEASURED: [&str; 2] = [V6[0], "[2001:db8:a::1]:20002"];
const NOBODYS: [&str; 2] = [V4[0], "198.51.100.1:20004"];

/// Lets the program of an object prove itself, then takes its time.
///
/// # Errors
/// That it cannot be loaded, or does otherwise than it should.
pub(crate) fn costs(object: &[u8]) -> Result<Vec<Cost>, KernelError> {
    check(open(object)?)?;
    let mut ebpf = open(object)?;
    adopt::verify(&mut ebpf)?;
    fill(&mut ebpf, &table())?;
    [
        ("IPv4, forwarded", V4, REDIRECT),
        (
            "IPv4, forwarded, loss and jitter kept",
            V4_MEASURED,
            REDIRECT,
        ),
        ("IPv6, forwarded", V6, REDIRECT),
        (
            "IPv6, forwarded, loss and jitter kept",
            V6_MEASURED,
            REDIRECT,
        ),
        ("nobody's", NOBODYS, PASS),
    ]
    .into_iter()
    .map(|(packet, [from, to], verdict)| {
        let mut media = [0; 172];
        media[0] = 0x80;
        let frame = datagram(from, to, HOPS, &media);
        let time = time(&mut ebpf, packet, &frame, verdict)?;
        Ok(Cost { packet, time })
    })
    .collect()
}

fn time(
    ebpf: &mut Ebpf,
    packet: &str,
    frame: &[u8],
    verdict: u32,
) -> Result<Duration, KernelError> {
    let program: &Xdp = ebpf
        .program(map::PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| failed("no program".to_owned()))?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: PACKETS,
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).map_err(KernelError::test_run)?;
        if result.return_value != verdict {
            return Err(failed(format!(
                "{packet}: the last of {PACKETS} came to {}, not {verdict}",
                result.return_value
            )));
        }
        times.push(result.duration);
    }
    times.sort();
    Ok(times.get(RUNS / 2).copied().unwrap_or_default())
}

fn table() -> Table {
    let flow = |number: u32, [peer, local]: [&'static str; 2], measured: bool| {
        let [peer, local] = [peer, local].map(endpoint);
        let rewrite = Rewrite {
            peer,
            source: peer,
            target: local,
            tos: Some(0xb8),
            flags: Flags::NONE,
        };
        let hop = Hop {
            egress: ELSEWHERE,
            mtu: 1_500,
            ..Hop::default()
        };
        let mut flow = Flow::compile(local, rewrite, hop).with_hops(HOPS);
        if measured {
            flow = flow.measured(CLOCK_HZ);
        }
        (flow.stats, flow.generation) = (number, number);
        flow
    };
    let flows = vec![
        flow(1, V4, false),
        flow(2, V4_MEASURED, true),
        flow(3, V6, false),
        flow(4, V6_MEASURED, true),
    ];
    let locals = [V4[1], V6[1]].map(|at| endpoint(at).ip);
    Table {
        settings: map::Settings::new(&locals),
        flows,
    }
}
