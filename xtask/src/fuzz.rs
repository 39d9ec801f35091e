//! `fuzz`: generated packets through `forward` on the host and in the kernel, or whatever libFuzzer
//! thinks of through the readers of SIP and SDP; as much as one has time for.

mod sip;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::run::{cargo, step};
use crate::test::Built;

#[derive(Args)]
pub(crate) struct Options {
    what: What,
    /// How many, of `datapath`
    #[arg(long, default_value_t = 100_000_000)]
    packets: u32,
    /// Which, of `datapath`; another number makes other packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each target of `sip` runs
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// One target of `sip` alone: framing, index, values, editor or sdp
    #[arg(long)]
    target: Option<String>,
    /// Keep what `sip` has learnt in `tests/vectors/fuzz`, where tests replay it
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Valid, mutated, truncated, tagged and fragmented frames: same verdict, bytes, counters
    Datapath,
    /// Framing, index, values, editor and SDP lines, guided by coverage: no panic, none over 10 ms
    Sip,
}

pub(crate) fn fuzz(options: &Options) -> Result<()> {
    match options.what {
        What::Datapath => datapath(options),
        What::Sip => sip::fuzz(options.minutes, options.target.as_deref(), options.keep),
    }
}

fn datapath(options: &Options) -> Result<()> {
    let built = Built::all(&["-p", "towpath"])?;
    let mut test = cargo(&["test", "--release", "-p", "towpath-tests"])?;
    test.args(["--features", "root", "--test", "kernel", "--"])
        .args(["--exact", "host_and_kernel_agree", "--nocapture"])
        .env("TOWPATH_DIFFERENTIAL_FRAMES", options.packets.to_string())
        .env("TOWPATH_DIFFERENTIAL_SEED", options.seed.to_string());
    step("host against kernel", built.tell(&mut test))
}
