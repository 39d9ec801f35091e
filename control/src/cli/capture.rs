//! `towpath trace --pcap`: the media of one call in a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::cannot_write;
use super::client::Client;

pub(super) fn capture(
    client: &Client<'_>,
    call: &str,
    pcap: &Path,
    packets: u32,
    seconds: u32,
) -> anyhow::Result<ExitCode> {
    // A file that cannot be written is found out before anything is moved.
    let mut to: Box<dyn Write> = if pcap == Path::new("-") {
        Box::new(std::io::stdout())
    } else {
        let file = File::create(pcap).with_context(|| cannot_write(pcap))?;
        Box::new(file)
    };
    let time = Duration::from_secs(u64::from(seconds));
    let query = format!("packets={packets}&seconds={seconds}");
    let file = client.file(&["calls", call, "capture"], &query, time)?;
    to.write_all(&file).with_context(|| cannot_write(pcap))?;
    Ok(ExitCode::SUCCESS)
}
