//! `towpath peer`: trusted SIP systems, and links to other servers.

use std::process::ExitCode;

use clap::Subcommand;
use hyper::Method;

use super::client::Client;
use super::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(super) enum PeerCommand {
    /// Peers, one line for each address, and links to other servers
    List,
    /// Send OPTIONS to every address of a peer now, or ask the upper server; `peer list` shows
    /// what came of it
    Probe {
        /// Its name
        name: String,
    },
}

pub(super) fn run(
    command: PeerCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        PeerCommand::List => {
            let (mut peers, mut links) = (client.get(&["peers"])?, client.get(&["links"])?);
            if let (Some(links), Some(peers)) = (links.get_mut("links"), peers.as_object_mut()) {
                peers.insert("links".to_owned(), links.take());
            }
            output::print(&peers, output::Kind::Peers, format)
        }
        PeerCommand::Probe { name } => {
            let parts = ["peers", &name, "probe"];
            let answer = client.send(Method::POST, &parts, String::new(), None)?;
            output::done(&answer, &format!("{name}: asked"), format)
        }
    }
}
