//! `towpath trace`: the SIP messages of a call as a ladder, or its media in a file.

mod draw;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::capture;
use super::client::Client;
use super::output::{self, Format, Kind};

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Its number in `call list`, or its Call-ID
    call: String,
    /// Also the messages themselves
    #[arg(long)]
    full: bool,
    /// Names and numbers as they are; else others stand for them
    #[arg(long)]
    numbers: bool,
    /// Instead of messages: what enters and leaves at its media ports (pcapng); `-`: standard
    /// output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["full", "numbers"])]
    pcap: Option<PathBuf>,
    /// Of --pcap: at most so many packets
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "pcap")]
    packets: u32,
    /// Of --pcap: at most so long
    #[arg(long, value_name = "S", default_value_t = 10, requires = "pcap")]
    seconds: u32,
}

pub(super) fn trace(
    client: &Client<'_>,
    trace: &Trace,
    format: Format,
) -> anyhow::Result<ExitCode> {
    if let Some(pcap) = &trace.pcap {
        return capture::capture(client, &trace.call, pcap, trace.packets, trace.seconds);
    }
    let query = [
        ("full", trace.full.to_string()),
        ("numbers", trace.numbers.to_string()),
    ];
    let ladder = client.query(&["calls", &trace.call, "ladder"], &query)?;
    match format {
        Format::Table => output::write(&draw::ladder(&ladder, columns())),
        Format::Json | Format::Jsonl => {
            let of = Kind::List {
                of: "messages",
                columns: &[],
                none: "",
            };
            output::print(&ladder, of, format)
        }
    }
}

/// Of the terminal; of a file as many as the narrowest terminal has.
fn columns() -> usize {
    let size = ratatui::crossterm::terminal::size().ok();
    let columns = size.map(|(columns, _)| usize::from(columns));
    columns.filter(|n| *n > 0).unwrap_or(output::wrap::WIDTH)
}
