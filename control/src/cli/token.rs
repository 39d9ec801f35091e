//! `towpath token`: who may ask over TCP.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::table::{Column, text};
use super::output::{self, Format};
use super::{lasting, word};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; it is shown this once, and only its hash is kept
    Create {
        /// What it is for: letters, digits, `-`, `_` and `.`
        name: String,
        /// What whoever has it may do
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// For how long: 12h, 30d [default: until it is revoked]
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        time: Option<u64>,
    },
    /// Tokens that were made, and when they were used last
    List,
    /// Take a token back, at once
    Revoke {
        /// NAME of `token list`
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    /// See everything
    Viewer,
    /// Also end calls, ban sources, drop registrations
    Operator,
    /// Also change the configuration and make tokens
    Admin,
}

const TOKENS: output::Kind = output::Kind::List {
    of: "tokens",
    columns: &COLUMNS,
    none: "no tokens: `towpath token create NAME` makes one",
};

const COLUMNS: [Column; 5] = [
    text("NAME", "/name"),
    text("ROLE", "/role"),
    text("CREATED", "/created"),
    text("EXPIRES", "/expires"),
    text("LAST USED", "/used"),
];

pub(super) fn run(
    command: TokenCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create { name, role, time } => {
            let order = json!({ "name": name, "role": word(role), "seconds": time });
            let answer = client.send(Method::POST, &["tokens"], order.to_string(), None)?;
            // Alone on its line, so that a script can take it.
            let token = answer.get("token").and_then(Value::as_str);
            output::done(&answer, token.unwrap_or_default(), format)
        }
        TokenCommand::List => output::print(&client.get(&["tokens"])?, TOKENS, format),
        TokenCommand::Revoke { name } => {
            let answer = client.delete(&["tokens", &name])?;
            output::done(&answer, &format!("{name}: revoked"), format)
        }
    }
}
