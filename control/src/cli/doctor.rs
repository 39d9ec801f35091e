//! `towpath doctor`: what is wrong with this host, and what to type.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::Client;
use super::output::{self, Format, Kind, table::list, wrap::wrapped};
use crate::config::Config;
use crate::doctor::facts::{ConfigFile, Running, Source};
use crate::doctor::{Finding, Status, check, checks};
use crate::shell::configuration::{self, Refused};
use crate::shell::doctor::{Look, Peer, document, examine};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Only these checks and no others: `--check fw.nft,fw.xt`
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    check: Vec<String>,
    /// Print what would mend it, as commands; nothing is ever run
    #[arg(long, requires = "dry_run")]
    fix: bool,
    /// With --fix
    #[arg(long, requires = "fix")]
    dry_run: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Ask this STUN server what we look like from outside; several may be named
    #[arg(long, value_name = "HOST:PORT")]
    stun: Vec<String>,
    /// A second node, outside, by its API socket or its URL: it knocks at our advertised ports and
    /// sends SIP
    #[arg(long, value_name = "PATH|URL")]
    peer: Option<String>,
    /// A file with an operator's token of that node; with a URL
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_token: Option<PathBuf>,
}

const DEFAULT_FILE: &str = "/etc/towpath/towpath.toml";

/// Exit codes: the worst that was found.
const WARNED: u8 = 1;
const FAILED: u8 = 2;
const UNKNOWN: u8 = 3;

pub(super) fn run(
    doctor: &Doctor,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&doctor.check)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (config, file) = runtime.block_on(configured(doctor))?;
    let look = Look {
        wanted,
        config: ConfigFile {
            running: running(client, &file),
            ..file
        },
        stun: doctor.stun.clone(),
        peer: peer(doctor)?,
        cheap: false,
    };
    let findings = runtime.block_on(examine(Arc::new(config), &look, progress(format)));
    if doctor.fix {
        write(&script(&findings))?;
    } else {
        output::print(&document(&findings), Kind::Doctor, format)?;
    }
    Ok(ExitCode::from(code(&findings)))
}

/// `unix:/run/…` is the same as the path.
fn peer(doctor: &Doctor) -> anyhow::Result<Option<Peer>> {
    let Some(named) = &doctor.peer else {
        return Ok(None);
    };
    if !named.starts_with("http://") && !named.starts_with("https://") {
        let path = named.strip_prefix("unix:").unwrap_or(named);
        return Ok(Some(Peer::Socket(path.into())));
    }
    let Some(file) = &doctor.peer_token else {
        bail!(
            "{named} wants a token: `towpath token create NAME --role operator` there, and \
             --peer-token FILE here"
        );
    };
    let token = std::fs::read_to_string(file);
    let token = token.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(Peer::Url {
        base: named.trim_end_matches('/').to_owned(),
        token: token.trim().to_owned(),
    }))
}

fn wanted(named: &[String]) -> anyhow::Result<Option<BTreeSet<&'static str>>> {
    if named.is_empty() {
        return Ok(None);
    }
    let mut wanted = BTreeSet::new();
    for name in named {
        let part = |id: &str| {
            id.strip_prefix(name.as_str())
                .is_some_and(|r| r.starts_with('.'))
        };
        let found: Vec<&str> = match check(name) {
            Some(check) => vec![check.id],
            None => checks()
                .iter()
                .map(|check| check.id)
                .filter(|id| part(id))
                .collect(),
        };
        if found.is_empty() {
            let all: Vec<&str> = checks().iter().map(|check| check.id).collect();
            bail!("there is no check `{name}`: choose of {}", all.join(", "));
        }
        wanted.extend(found);
    }
    Ok(Some(wanted))
}

/// The file, or what `init` would write where there is none; and what is wrong with it.
async fn configured(doctor: &Doctor) -> anyhow::Result<(Config, ConfigFile)> {
    let host = crate::shell::host_interfaces().await?;
    let file = &doctor.config;
    let mut found = ConfigFile {
        path: Some(file.clone()),
        ..ConfigFile::default()
    };
    if !file.exists() && file == Path::new(DEFAULT_FILE) {
        found.path = None;
        return Ok((configuration::assumed(&host)?, found));
    }
    match configuration::read(file, Some(&host)) {
        Ok(config) => Ok((config, found)),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                let line = |p: &crate::config::check::Problem| {
                    format!(
                        "{}:{}:{}: {} ({})",
                        p.file, p.line, p.column, p.message, p.help
                    )
                };
                found.problems = refused.problems.iter().map(line).collect();
                // Without the host's interfaces there may be less wrong with it.
                let config = configuration::read(file, None);
                let config = config.or_else(|_| configuration::assumed(&host));
                Ok((config?, found))
            }
            None => Err(error),
        },
    }
}

/// What the daemon that runs says; none: no daemon, or one that may not be asked.
fn running(client: &Client<'_>, file: &ConfigFile) -> Option<Running> {
    let status = client.get(&["status"]).ok()?;
    let pid = status.get("pid").and_then(Value::as_u64);
    let mut running = Running {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()),
        datapath_off: status
            .pointer("/datapath/why")
            .and_then(Value::as_str)
            .map(str::to_owned),
        ..Running::default()
    };
    if let Ok(bpf) = client.get(&["bpf"]) {
        let programs = list(&bpf, "interfaces")
            .iter()
            .filter_map(|interface| u32::try_from(interface.get("program")?.as_u64()?).ok());
        running.programs = programs.collect();
    }
    let text = file
        .path
        .as_ref()
        .and_then(|path| std::fs::read_to_string(path).ok());
    let plan = text.and_then(|text| {
        client
            .send(Method::POST, &["config", "plan"], text, None)
            .ok()
    });
    if let Some(plan) = plan {
        running.drift = list(&plan, "changes").iter().map(difference).collect();
    }
    Some(running)
}

fn difference(change: &Value) -> String {
    let text = |key: &str| {
        let text = change.get(key).and_then(Value::as_str);
        text.unwrap_or("nothing").to_owned()
    };
    let (key, old, new) = (text("key"), text("old"), text("new"));
    format!("{key}: {old} runs, the file says {new}")
}

/// What is being looked at, on a terminal only.
fn progress(format: Format) -> impl FnMut(Source, usize, usize) {
    let shown = io::stderr().is_terminal() && format == Format::Table;
    move |source, done, all| {
        if shown {
            let end = if done == all { "\r\x1b[K" } else { "" };
            let line = format!("\r\x1b[K[{done}/{all}] {}{end}", source.name());
            // Without standard error nobody waits for it.
            drop(io::stderr().write_all(line.as_bytes()));
        }
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The worst that was found.
fn code(findings: &[Finding]) -> u8 {
    match findings.iter().map(Finding::status).max() {
        Some(Status::Fail) => FAILED,
        Some(Status::Warn) => WARNED,
        Some(Status::Unknown) => UNKNOWN,
        Some(Status::Pass | Status::Skip) | None => 0,
    }
}

/// Commands in the order of the findings, for a person to read and run.
fn script(findings: &[Finding]) -> String {
    let mut text = String::new();
    let wrong = |finding: &&Finding| {
        matches!(finding.status(), Status::Fail | Status::Warn) && !finding.verdict.fix.is_empty()
    };
    for finding in findings.iter().filter(wrong) {
        let Finding { id, verdict, .. } = finding;
        text.push_str(&format!("# {id}: {}\n", verdict.meaning));
        for line in &verdict.fix {
            text.push_str(&format!("{line}\n"));
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("# nothing to mend\n");
    }
    text
}

/// A line for each check; more for those that are not well.
pub(super) fn table(value: &Value) -> String {
    const INDENT: usize = 10;
    let mut text = String::new();
    let get = |check: &Value, key: &str| {
        let found = check.get(key).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    for check in list(value, "checks") {
        let (status, id) = (get(check, "status"), get(check, "id"));
        let meaning = get(check, "meaning");
        text.push_str(&format!("{status:<8}{id:<17}{}\n", get(check, "title")));
        if matches!(status.as_str(), "pass" | "skip") {
            continue;
        }
        text.push_str(&format!("{:INDENT$}{}\n", "", wrapped(&meaning, INDENT)));
        for line in list(check, "evidence").iter().filter_map(Value::as_str) {
            text.push_str(&format!("{:INDENT$}{}\n", "", wrapped(line, INDENT + 2)));
        }
        for line in list(check, "fix").iter().filter_map(Value::as_str) {
            text.push_str(&format!("{:INDENT$}$ {line}\n", ""));
        }
        text.push_str(&format!("{:INDENT$}see {}\n", "", get(check, "docs")));
    }
    let count = |key: &str| {
        let count = value.pointer(&format!("/summary/{key}"));
        count.and_then(Value::as_u64).unwrap_or(0)
    };
    let (fail, warn, unknown) = (count("fail"), count("warn"), count("unknown"));
    let (pass, skip) = (count("pass"), count("skip"));
    text.push_str(&format!(
        "\n{fail} failed, {warn} warnings, {unknown} unknown, {pass} passed, {skip} skipped\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_stands_for_its_group() {
        let check = |named: &[&str], expected: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            let found: Vec<&str> = wanted(&named).unwrap().unwrap().into_iter().collect();
            assert_eq!(found, expected);
        };
        check(&["clock", "kernel.btf"], &["clock", "kernel.btf"]);
        check(&["port"], &["port.busy", "port.range"]);
        let refused = wanted(&["fw.nfs".to_owned()]).unwrap_err().to_string();
        assert!(
            refused.starts_with("there is no check `fw.nfs`: choose of config, "),
            "{refused}"
        );
        assert!(wanted(&[]).unwrap().is_none());
    }

    #[test]
    fn what_is_well_is_one_line() {
        let value = json!({
            "summary": { "pass": 1, "fail": 1, "warn": 0, "skip": 0, "unknown": 0 },
            "checks": [
                { "id": "clock", "title": "The clock", "status": "pass", "meaning": "m" },
                { "id": "disk", "title": "Room", "status": "fail", "meaning": "It is full.",
                  "evidence": ["state /x: 0 of 1 MiB free"], "fix": ["df -h /x"],
                  "docs": "docs/doctor.md#disk" },
            ],
        });
        let expected = "pass    clock            The clock\n\
                        fail    disk             Room\n          It is full.\n          \
                        state /x: 0 of 1 MiB free\n          $ df -h /x\n          \
                        see docs/doctor.md#disk\n\n\
                        1 failed, 0 warnings, 0 unknown, 1 passed, 0 skipped\n";
        assert_eq!(table(&value), expected, "\n{}", table(&value));
    }
}
