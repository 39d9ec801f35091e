//! The command line: the daemon itself, and a client of its API.

mod client;
mod output;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::config::check;
use crate::shell;

use client::Client;
use output::Format;

/// A media relay for SIP video conferencing at the network edge.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// The daemon's Unix socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/towpath/towpath.sock"
    )]
    socket: PathBuf,
    /// How to print data
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run {
        /// Configuration file; without it, defaults for the interfaces this host has
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Kernel object, instead of datapath.object
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
    },
    /// Validate a configuration: every problem at once
    Check {
        #[arg(default_value = "/etc/towpath/towpath.toml")]
        file: PathBuf,
        /// Do not compare with the interfaces of this host
        #[arg(long)]
        no_host: bool,
    },
    /// One screen: is everything well? Exit code 0 ok, 1 degraded, 2 down, 3 cannot ask
    Status {
        /// Also counters, with their reasons
        #[arg(short, long)]
        verbose: bool,
    },
    /// Calls
    #[command(subcommand)]
    Call(CallCommand),
    /// Registrations
    #[command(subcommand)]
    Reg(RegCommand),
    /// Networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// The kernel program
    #[command(subcommand)]
    Bpf(BpfCommand),
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Calls, their legs and flows
    List,
    /// End a call: BYE to both parties
    Kill { id: u64 },
}

#[derive(Debug, Subcommand)]
enum RegCommand {
    /// Who is registered, from where
    List,
    /// Forget every binding of user@domain
    Drop { aor: String },
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Networks, their addresses and ports
    List,
}

#[derive(Debug, Subcommand)]
enum BpfCommand {
    /// Remove a pinned program and its maps. Running calls fall back to nothing: stop them first
    Detach {
        /// datapath.pin_dir of the configuration
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/towpath")]
        pin_dir: PathBuf,
    },
}

/// Exit code of `status` when the daemon does not answer.
const CANNOT_ASK: u8 = 3;

impl Cli {
    /// Does what the command line says.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let cannot_ask = matches!(self.command, Command::Status { .. });
        match self.dispatch() {
            Ok(code) => code,
            Err(error) => {
                output::error(&error);
                ExitCode::from(if cannot_ask { CANNOT_ASK } else { 1 })
            }
        }
    }

    fn dispatch(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.socket);
        let show = |value: &Value, kind| output::print(value, kind, self.output);
        match self.command {
            Command::Run { config, object } => {
                let socket = std::env::args_os()
                    .any(|arg| arg.to_string_lossy().starts_with("--socket"))
                    .then(|| self.socket.clone());
                run(shell::Options {
                    config,
                    socket,
                    object,
                })
            }
            Command::Check { file, no_host } => check_file(&file, no_host),
            Command::Status { verbose } => {
                let status = client.get("/api/v1/status")?;
                show(&status, output::Kind::Status { verbose })?;
                Ok(ExitCode::from(
                    match status.get("state").and_then(Value::as_str) {
                        Some("ok") => 0,
                        Some("degraded") => 1,
                        _ => 2,
                    },
                ))
            }
            Command::Call(CallCommand::List) => {
                show(&client.get("/api/v1/calls")?, output::Kind::Calls)
            }
            Command::Call(CallCommand::Kill { id }) => {
                client.delete(&format!("/api/v1/calls/{id}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Reg(RegCommand::List) => show(
                &client.get("/api/v1/registrations")?,
                output::Kind::Registrations,
            ),
            Command::Reg(RegCommand::Drop { aor }) => {
                client.delete(&format!("/api/v1/registrations/{aor}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Network(NetworkCommand::List) => {
                show(&client.get("/api/v1/networks")?, output::Kind::Networks)
            }
            Command::Bpf(BpfCommand::Detach { pin_dir }) => detach(&pin_dir),
        }
    }
}

fn run(options: shell::Options) -> anyhow::Result<ExitCode> {
    shell::log::start()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(shell::run(options))?;
    Ok(ExitCode::SUCCESS)
}

fn check_file(file: &Path, no_host: bool) -> anyhow::Result<ExitCode> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let host = if no_host {
        None
    } else {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        Some(runtime.block_on(shell::host_interfaces())?)
    };
    let name = file.display().to_string();
    let checked = check::check(&name, &text, host.as_deref(), &mut |path| {
        fs::read_to_string(path)
    });
    match checked {
        Ok(config) => {
            let networks = config.networks.len();
            writeln!(std::io::stdout(), "{name}: ok, {networks} network(s)")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in &problems {
                writeln!(std::io::stderr(), "{problem}\n")?;
            }
            anyhow::bail!("{name}: {} problem(s)", problems.len())
        }
    }
}

fn detach(pin_dir: &Path) -> anyhow::Result<ExitCode> {
    let removed = shell::detach(pin_dir)?;
    writeln!(std::io::stdout(), "{removed} pinned object(s) removed")?;
    Ok(ExitCode::SUCCESS)
}
