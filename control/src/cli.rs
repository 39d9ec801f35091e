//! The command line: the daemon itself, and a client of its API.

mod audit;
mod ban;
mod bench;
mod bpf;
mod capture;
mod check;
mod client;
mod conference;
mod config;
mod doctor;
mod drain;
mod event;
mod init;
mod log;
mod output;
mod pages;
mod peer;
mod token;
mod top;
mod trace;
mod version;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::Value;

use crate::shell;
use crate::shell::configuration::{self, Refused};

use client::{Client, Refusal};
use output::Format;

/// A media relay for SIP video conferencing at the network edge
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The daemon's Unix socket [default: /run/towpath/towpath.sock; of `run`: node.socket]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to print data; tables are for people and may change, JSON is stable
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum)]
    #[arg(default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 done, 1 not done, 64 the command line makes no sense
  of `status`: 0 ok, 1 degraded, 2 down, 3 cannot ask
  of `doctor`: 0 well, 1 warnings, 2 failures, 3 nothing worse than unknown
  of `run`: 66 no such file, 69 not to be had (a port, the kernel path), 77 no permission,
            78 configuration refused, 1 anything else
  of `config diff`: 0 no difference, 2 a difference, 1 refused

Environment:
  TOWPATH_LOG  what `run` logs: error, warn, info, debug, trace; or by part:
               info,control::engine=debug [default: info,kernel=warn]
  NO_COLOR     no colour";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    ///
    /// SIGTERM ends it; media in the kernel goes on, and the next start takes it over.
    /// SIGHUP reads the configuration again and applies it, as a whole or not at all.
    Run {
        /// Configuration file; without it: this host's interfaces, and nobody may register
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Kernel program, instead of datapath.object
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
    },
    /// Validate a configuration: every problem at once
    Check(check::Check),
    /// Write a first configuration from what this host looks like, and say what was assumed
    Init(init::Init),
    /// What is wrong with this host, and what to type: 0 well, 1 warnings, 2 failures, 3 unknown
    ///
    /// Works without a daemon, and knows more with one. It reads; it never changes the host.
    Doctor(doctor::Doctor),
    /// One screen: is everything well? Exit code 0 ok, 1 degraded, 2 down, 3 cannot ask
    Status {
        /// Also counters, with their reasons
        #[arg(short, long)]
        verbose: bool,
    },
    /// Live: interfaces, calls with bit rate, loss and jitter, drops, events; ? shows the keys
    ///
    /// Calls are sorted, searched and paged by the daemon, so very many cost no more than a few.
    Top(top::Top),
    /// Calls that are being set up or go on
    #[command(subcommand)]
    Call(CallCommand),
    /// Take no new calls, and wait until those that go on have ended; registrations are kept
    ///
    /// Callers and whoever asks by OPTIONS are answered 503, so that they go elsewhere.
    Drain {
        /// End the calls that are left then: 90s, 10m, 1h [default: they may last]
        #[arg(long, value_name = "TIME", value_parser = span)]
        deadline: Option<u64>,
        /// Come back at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Take new calls again
    Undrain,
    /// The SIP messages of a call as a ladder, also after its end; --pcap: its media in a file
    ///
    /// Secrets are never shown, names and numbers only with --numbers. With --pcap the call's media
    /// goes through userspace meanwhile, where both sides of a packet are seen.
    Trace(trace::Trace),
    /// Registered phones
    #[command(subcommand)]
    Reg(RegCommand),
    /// Networks of the configuration, as they are used
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Trusted SIP systems: their addresses, and whether they answer
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Sources that are not heard: scanners, guessers, and who you say
    #[command(subcommand)]
    Ban(ban::BanCommand),
    /// Clients of the MQTT edge
    #[command(subcommand)]
    Mqtt(MqttCommand),
    /// Conferences: who is in them, who may speak, what is seen
    #[command(subcommand)]
    Conf(conference::ConfCommand),
    /// Every address decision behind something, the rule, and where it is written
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Who may ask over TCP: tokens for the API, the dashboard and /metrics
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Who changed what, and whether that record is whole
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The configuration in force: show, compare, replace, go back
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// What happened: registrations, calls, sources, networks
    Events {
        /// Go on as they happen
        #[arg(short, long)]
        follow: bool,
        /// Only those after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        since: u64,
        /// Only of these kinds, with commas: call,media.silent
        #[arg(long, value_name = "KINDS")]
        kind: Option<String>,
        /// Only about this call, account or network
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
    },
    /// What is logged: less, more, or everything about one call, until the next start
    #[command(subcommand)]
    Log(log::LogCommand),
    /// The kernel program
    #[command(subcommand)]
    Bpf(BpfCommand),
    /// Try both paths on this host and take their time, beside whatever runs; needs root
    ///
    /// The kernel program is loaded over maps of its own and attached nowhere; the userspace path
    /// works in a network namespace of its own. Calls are not touched, but the processor is used.
    Bench {
        /// Kernel program, instead of the one that is built in
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
        /// How long userspace is measured
        #[arg(long, value_name = "N", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// Which Towpath this is, and which kernel program it has with it
    Version,
    /// What a shell reads to complete the command line: `towpath completions bash`
    Completions {
        #[arg(value_enum)]
        shell: pages::Shell,
    },
    /// Manual pages, for `man -l -` or as files
    Man(pages::Manual),
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Calls, one line each
    List,
    /// One call: its parties and every flow
    Show {
        /// Its number in `call list`
        id: u64,
    },
    /// Say where a party's media is sent, for this call and at once
    Media {
        /// Its number in `call list`
        id: u64,
        party: Party,
        mode: MediaMode,
    },
    /// Tell both parties once more where we are, by a re-INVITE
    Refresh {
        /// Its number in `call list`
        id: u64,
    },
    /// End a call: BYE to both parties
    Kill {
        /// Its number in `call list`
        id: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Party {
    Caller,
    Callee,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MediaMode {
    /// Where its SDP says, and taken from there only
    Sdp,
    /// Back to where its packets come from
    Symmetric,
    /// SDP for a party that is where it says it is, symmetric for the others
    Auto,
    /// As its network is configured
    Default,
}

#[derive(Debug, Subcommand)]
enum RegCommand {
    /// Who is registered, from where
    List,
    /// Everything one account is registered with
    Show {
        /// USER@DOMAIN, as in `reg list`
        aor: String,
    },
    /// Forget where someone is registered; the phone may register again
    Drop {
        /// USER@DOMAIN, as in `reg list`
        aor: String,
    },
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Networks: addresses, ports, who uses them, what is wrong with them
    List,
}

#[derive(Debug, Subcommand)]
enum MqttCommand {
    /// Who is connected or may come back, where it reached us, what waits for it
    List,
}

#[derive(Debug, Subcommand)]
enum ExplainCommand {
    /// With which address is an account registered, and why?
    Reg {
        /// USER@DOMAIN, as in `reg list`
        aor: String,
    },
    /// Where does each stream of a call go, and why?
    Call {
        /// Its number in `call list`
        id: u64,
    },
    /// What happens to a peer at this address, seen before or not?
    Peer {
        ip: IpAddr,
        /// Only at this address of ours
        #[arg(long, value_name = "IP")]
        local: Option<IpAddr>,
    },
}

#[derive(Debug, Subcommand)]
enum BpfCommand {
    /// The program, and on which interfaces it runs; if not, why not
    Status,
    /// How full the maps are
    Maps,
    /// What became of packets, by verdict, and how many a second
    Drops,
    /// Take the kernel program and its maps away; media that goes through the kernel stops
    Detach {
        /// datapath.pin_dir of the configuration
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/towpath")]
        pin_dir: PathBuf,
    },
}

/// What `node.socket` is unless the configuration says otherwise.
const SOCKET: &str = "/run/towpath/towpath.sock";

/// Exit code of `status` when the daemon does not answer.
const CANNOT_ASK: u8 = 3;
/// EX_USAGE of sysexits.h: clap's own 2 would mean *down* after `status`.
const USAGE: u8 = 64;

/// Reads the command line of this process and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Without standard error there is nobody to tell; the exit code still does.
            drop(error.print());
            ExitCode::from(code)
        }
    }
}

impl Cli {
    fn run(self) -> ExitCode {
        let cannot_ask = matches!(self.command, Command::Status { .. } | Command::Doctor(_));
        let starts = matches!(self.command, Command::Run { .. });
        match self.dispatch() {
            Ok(code) => code,
            Err(error) => {
                let problems = match error.downcast_ref::<Refused>() {
                    Some(refused) => refused.problems.clone(),
                    None => match error.downcast_ref::<Refusal>() {
                        Some(Refusal(document)) => output::problems(document, None),
                        None => Vec::new(),
                    },
                };
                output::error(&error, &problems);
                ExitCode::from(match (cannot_ask, starts) {
                    (true, _) => CANNOT_ASK,
                    (_, true) => configuration::exit(&error),
                    _ => 1,
                })
            }
        }
    }

    fn dispatch(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(self.socket.as_deref().unwrap_or(Path::new(SOCKET)));
        let show = |value: &Value, kind| output::print(value, kind, self.output);
        let done = |value: &Value, what: &str| output::done(value, what, self.output);
        match self.command {
            Command::Run { config, object } => run(shell::Options {
                config,
                socket: self.socket,
                object,
            }),
            Command::Check(what) => check::run(&what, self.output),
            Command::Init(what) => init::run(&what),
            Command::Doctor(what) => doctor::run(&what, &client, self.output),
            Command::Status { verbose } => {
                let status = client.get(&["status"])?;
                show(&status, output::Kind::Status { verbose })?;
                Ok(ExitCode::from(health(&status)))
            }
            Command::Top(what) => top::top(&client, &what, self.output),
            Command::Call(command) => call(command, &client, self.output),
            Command::Bench { object, seconds } => {
                let time = Duration::from_secs(seconds);
                show(&shell::bench(object.as_deref(), time)?, output::Kind::Bench)
            }
            Command::Version => show(&shell::version(), output::Kind::Version),
            Command::Completions { shell } => pages::completions(shell),
            Command::Man(what) => pages::manual(&what),
            Command::Drain { deadline, no_wait } => {
                drain::begin(&client, deadline, !no_wait, self.output)
            }
            Command::Undrain => drain::end(&client, self.output),
            Command::Trace(what) => trace::trace(&client, &what, self.output),
            Command::Reg(RegCommand::List) => show(
                &client.get(&["registrations"])?,
                output::Kind::Registrations,
            ),
            Command::Reg(RegCommand::Show { aor }) => show(
                &client.get(&["registrations", name(&aor)])?,
                output::Kind::Registration,
            ),
            Command::Reg(RegCommand::Drop { aor }) => {
                let name = name(&aor);
                let answer = client.delete(&["registrations", name])?;
                done(&answer, &format!("{name}: no longer registered"))
            }
            Command::Network(NetworkCommand::List) => {
                show(&client.get(&["networks"])?, output::Kind::Networks)
            }
            Command::Peer(command) => peer::run(command, &client, self.output),
            Command::Mqtt(MqttCommand::List) => mqtt(&client, self.output),
            Command::Ban(command) => ban::run(command, &client, self.output),
            Command::Conf(command) => conference::run(command, &client, self.output),
            Command::Token(command) => token::run(command, &client, self.output),
            Command::Audit(command) => audit::run(command, &client, self.output),
            Command::Bpf(command) => kernel_path(command, &client, self.output),
            Command::Explain(what) => show(&explain(&client, what)?, output::Kind::Explained),
            Command::Config(command) => config::run(command, &client, self.output),
            Command::Events {
                follow,
                since,
                kind,
                subject,
            } => {
                let filter = [("kind", kind), ("subject", subject)];
                event::events(&client, since, filter, follow, self.output)
            }
            Command::Log(command) => log::run(command, &client, self.output),
        }
    }
}

/// Seconds of a time such as `90s`, `10m`, `1h` or `30d`.
fn span(text: &str) -> Result<u64, String> {
    let refused = || format!("`{text}` is not a time: write 90s, 10m, 1h or 30d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        _ => return Err(refused()),
    };
    let count: u32 = digits.parse().map_err(|_| refused())?;
    Ok(u64::from(count) * unit)
}

/// The same of what is to last: no time at all is none.
fn lasting(text: &str) -> Result<u64, String> {
    match span(text)? {
        0 => Err(format!("`{text}` would be over at once: write 1s or more")),
        time => Ok(time),
    }
}

/// An address, or a prefix.
fn prefix(text: &str) -> Result<String, String> {
    let is_address = text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
    let wrong = || format!("`{text}` is no address or prefix: write 192.0.2.1 or 192.0.2.0/24");
    is_address.then(|| text.to_owned()).ok_or_else(wrong)
}

/// What to do where a file cannot be.
fn cannot_write(file: &Path) -> String {
    let file = file.display();
    format!(
        "cannot write {file}: name a file in a directory that this user may write, \
         on a disk with room"
    )
}

/// An address-of-record may be pasted as a URI.
fn name(aor: &str) -> &str {
    aor.strip_prefix("sip:").unwrap_or(aor)
}

/// As it is written on the command line and in documents.
fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn call(command: CallCommand, client: &Client<'_>, format: Format) -> anyhow::Result<ExitCode> {
    let show = |value: &Value, kind| output::print(value, kind, format);
    let done = |value: &Value, what: &str| output::done(value, what, format);
    match command {
        CallCommand::List => show(&client.get(&["calls"])?, output::Kind::Calls),
        CallCommand::Show { id } => show(
            &client.get(&["calls", &id.to_string()])?,
            output::Kind::Call,
        ),
        CallCommand::Media { id, party, mode } => {
            let answer = set_media(client, id, party, mode)?;
            let (party, mode) = (word(party), word(mode));
            done(&answer, &format!("call {id}: media of the {party}: {mode}"))
        }
        CallCommand::Refresh { id } => {
            let parts = ["calls", &id.to_string(), "refresh"];
            let answer = client.send(Method::POST, &parts, String::new(), None)?;
            done(&answer, &format!("call {id}: both parties are told"))
        }
        CallCommand::Kill { id } => {
            let answer = client.delete(&["calls", &id.to_string()])?;
            done(&answer, &format!("call {id}: ended"))
        }
    }
}

fn set_media(client: &Client<'_>, id: u64, party: Party, mode: MediaMode) -> anyhow::Result<Value> {
    let order = serde_json::json!({ "leg": word(party), "media": word(mode) });
    let parts = ["calls", &id.to_string()];
    client.send(Method::PATCH, &parts, order.to_string(), None)
}

fn explain(client: &Client<'_>, what: ExplainCommand) -> anyhow::Result<Value> {
    match what {
        ExplainCommand::Reg { aor } => client.get(&["registrations", name(&aor), "explain"]),
        ExplainCommand::Call { id } => client.get(&["calls", &id.to_string(), "explain"]),
        ExplainCommand::Peer { ip, local } => {
            let local = local.map(|local| ("local", local.to_string()));
            let query: Vec<_> = [Some(("ip", ip.to_string())), local]
                .into_iter()
                .flatten()
                .collect();
            client.query(&["networks", "explain"], &query)
        }
    }
}

/// The exit code of `status`.
fn health(status: &Value) -> u8 {
    match status.get("state").and_then(Value::as_str) {
        Some("ok") => 0,
        Some("degraded") => 1,
        _ => 2,
    }
}

fn run(options: shell::Options) -> anyhow::Result<ExitCode> {
    shell::log::start()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    // As a task of the runtime: the thread that waits here would have to be woken for every event.
    let served = runtime.spawn(shell::run(options));
    runtime.block_on(served).context("the daemon broke")??;
    Ok(ExitCode::SUCCESS)
}

fn mqtt(client: &Client<'_>, format: Format) -> anyhow::Result<ExitCode> {
    let clients = client.get(&["mqtt", "clients"])?;
    output::print(&clients, output::Kind::MqttClients, format)
}

fn kernel_path(
    command: BpfCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let kind = match command {
        BpfCommand::Status => output::Kind::BpfStatus,
        BpfCommand::Maps => output::Kind::BpfMaps,
        BpfCommand::Drops => output::Kind::BpfDrops,
        BpfCommand::Detach { pin_dir } => return detach(client, &pin_dir, format),
    };
    output::print(&client.get(&["bpf"])?, kind, format)
}

fn detach(client: &Client<'_>, pin_dir: &Path, format: Format) -> anyhow::Result<ExitCode> {
    // A daemon that does not answer holds nothing that could be taken away from it.
    if let Ok(status) = client.get(&["status"])
        && status.pointer("/datapath/pin_dir").and_then(Value::as_str) == pin_dir.to_str()
        && status.pointer("/datapath/why") == Some(&Value::Null)
    {
        bail!(
            "the daemon (process {}) works with what is pinned in {}: stop it first",
            status.get("pid").unwrap_or(&Value::Null),
            pin_dir.display()
        );
    }
    let removed = shell::detach(pin_dir)?;
    let text = format!(
        "{}: {removed} pins removed; no interface runs the program any more",
        pin_dir.display()
    );
    output::done(&serde_json::json!({ "removed": removed }), &text, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn states_have_exit_codes() {
        let check = |state: &str, code| {
            assert_eq!(health(&serde_json::json!({ "state": state })), code);
        };
        check("ok", 0);
        check("degraded", 1);
        check("down", 2);
        check("", 2);
        assert_eq!(health(&Value::Null), 2);
    }
}
