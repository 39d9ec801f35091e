//! `towpath trace`: the media of one call in a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::client::Client;

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Its number in `call list`
    call: u64,
    /// Where to write what enters and leaves at its media ports (pcapng); `-`: standard output
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// At most so many packets
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    packets: u32,
    /// At most so long
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u32,
}

pub(super) fn trace(client: &Client<'_>, trace: &Trace) -> anyhow::Result<ExitCode> {
    let Trace {
        call,
        pcap,
        packets,
        seconds,
    } = trace;
    // A file that cannot be written is found out before anything is moved.
    let mut to: Box<dyn Write> = if pcap == Path::new("-") {
        Box::new(std::io::stdout())
    } else {
        let file =
            File::create(pcap).with_context(|| format!("cannot write {}", pcap.display()))?;
        Box::new(file)
    };
    let time = Duration::from_secs(u64::from(*seconds));
    let query = format!("packets={packets}&seconds={seconds}");
    let file = client.file(&["calls", &call.to_string(), "capture"], &query, time)?;
    to.write_all(&file)
        .with_context(|| format!("cannot write {}", pcap.display()))?;
    Ok(ExitCode::SUCCESS)
}
