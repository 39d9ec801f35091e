//! `towpath init`: the first configuration.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::cannot_write;
use crate::doctor::init::{Draft, draft};
use crate::shell::doctor::{first_look, password};

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Where to write it; `-` prints it
    #[arg(default_value = "/etc/towpath/towpath.toml")]
    file: PathBuf,
    /// Write over a file that is there; one in which nothing is set is written over anyway
    #[arg(long)]
    force: bool,
    /// Also an account of this user, with a password that nobody can guess; several may be named
    #[arg(long, value_name = "USER", value_parser = user)]
    account: Vec<String>,
}

/// As in SIP URIs, without what would have to be escaped.
fn user(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, `-`, `_`, `.` and `+`".to_owned()),
    }
}

/// Only its owner may read it: passwords will stand in it.
const MODE: u32 = 0o640;

pub(super) fn run(init: &Init) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let seen = runtime.block_on(first_look()).map_err(anyhow::Error::msg)?;
    let Draft { mut text, assumed } = draft(&seen);
    let mut accounts = String::new();
    for user in &init.account {
        let password = password().context("no randomness")?;
        text.push_str(&format!(
            "\n[[sip.account]]\nuser = \"{user}\"\npassword = \"{password}\"\n"
        ));
        accounts.push_str(&format!("account {user}: password {password}\n"));
    }
    let printed = init.file == Path::new("-");
    if printed {
        io::stdout().write_all(text.as_bytes())?;
    } else {
        let mut file = open(init)?;
        file.write_all(text.as_bytes())
            .with_context(|| cannot_write(&init.file))?;
    }
    let mut said = String::new();
    for line in assumed {
        said.push_str(&format!("assumed: {line}\n"));
    }
    said.push_str(&accounts);
    if !printed {
        let file = init.file.display();
        said.push_str(&format!(
            "{file}: written; look through it, then `towpath check {file}` and `towpath doctor \
             --config {file}`\n"
        ));
    }
    // Without standard error there is nobody to tell.
    drop(io::stderr().write_all(said.as_bytes()));
    Ok(ExitCode::SUCCESS)
}

/// The package brings a file of comments.
fn sets_nothing(file: &Path) -> bool {
    let text = std::fs::read_to_string(file);
    text.is_ok_and(|text| {
        let mut lines = text.lines().map(str::trim);
        lines.all(|line| line.is_empty() || line.starts_with('#'))
    })
}

fn open(init: &Init) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = &init.file;
    if let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE);
    if init.force || sets_nothing(file) {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
            "{} is there already: name another file, print with `towpath init -`, or write over \
             it with --force",
            file.display()
        ),
        opened => opened.with_context(|| cannot_write(file)),
    }
}
