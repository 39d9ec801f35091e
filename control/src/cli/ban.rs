//! `towpath ban`: who is not heard.

use std::process::ExitCode;

use clap::Subcommand;
use hyper::Method;
use serde_json::json;

use super::client::Client;
use super::output::{self, Format};
use super::{lasting, prefix};

#[derive(Debug, Subcommand)]
pub(super) enum BanCommand {
    /// Who is banned, why, and for how long still
    List,
    /// Hear nothing from an address or a prefix; peers and exempt prefixes are heard all the same
    Add {
        /// ADDRESS or ADDRESS/LENGTH
        #[arg(value_parser = prefix)]
        source: String,
        /// For how long: 10m, 1h [default: until it is removed, or the daemon ends]
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        time: Option<u64>,
    },
    /// Lift every ban of an address or a prefix
    Remove {
        /// SOURCE of `ban list`
        #[arg(value_parser = prefix)]
        source: String,
    },
}

pub(super) fn run(
    command: BanCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        BanCommand::List => output::print(&client.get(&["bans"])?, output::Kind::Bans, format),
        BanCommand::Add { source, time } => {
            let order = json!({ "source": source, "seconds": time }).to_string();
            let answer = client.send(Method::POST, &["bans"], order, None)?;
            output::done(&answer, &format!("{source}: banned"), format)
        }
        BanCommand::Remove { source } => {
            let answer = client.delete(&["bans", &source])?;
            output::done(&answer, &format!("{source}: heard again"), format)
        }
    }
}
