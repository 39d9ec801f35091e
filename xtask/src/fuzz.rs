//! `fuzz`: the same generated packets through `forward` on the host and in the kernel, as many as
//! one has time for.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::run::{cargo, step};
use crate::test::Built;

#[derive(Args)]
pub(crate) struct Options {
    what: What,
    /// How many
    #[arg(long, default_value_t = 100_000_000)]
    packets: u32,
    /// Which; another number makes other packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Valid, mutated, truncated, tagged and fragmented frames: same verdict, bytes, counters
    Datapath,
}

pub(crate) fn fuzz(options: &Options) -> Result<()> {
    let What::Datapath = options.what;
    let built = Built::all(&["-p", "towpath"])?;
    let mut test = cargo(&["test", "--release", "-p", "towpath-tests"])?;
    test.args(["--features", "root", "--test", "kernel", "--"])
        .args(["--exact", "host_and_kernel_agree", "--nocapture"])
        .env("TOWPATH_DIFFERENTIAL_FRAMES", options.packets.to_string())
        .env("TOWPATH_DIFFERENTIAL_SEED", options.seed.to_string());
    step("host against kernel", built.tell(&mut test))
}
