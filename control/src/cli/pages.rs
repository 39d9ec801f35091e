//! What is made from the command line itself: completions of shells, manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};
use clap_mangen::Man;

use super::{Cli, output};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Of this command: `towpath man call show`
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

const BINARY: &str = "towpath";
/// The section of user commands.
const SECTION: &str = "1";
const MANUAL: &str = "Towpath";

/// Prints what a shell has to read to complete our command lines.
pub(super) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    output::write(&script(shell)?)
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut command, BINARY, &mut script),
        Shell::Zsh => generate(Zsh, &mut command, BINARY, &mut script),
        Shell::Fish => generate(Fish, &mut command, BINARY, &mut script),
    }
    Ok(String::from_utf8(script)?)
}

/// Prints a page, or writes all.
pub(super) fn manual(what: &Manual) -> anyhow::Result<ExitCode> {
    let mut root = Cli::command();
    root.build();
    if let Some(dir) = &what.dir {
        for (name, page) in pages(&root)? {
            let path = dir.join(name);
            fs::write(&path, page).with_context(|| {
                format!(
                    "cannot write {}: name a directory that exists",
                    path.display()
                )
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut wanted = &root;
    for word in &what.command {
        let Some(found) = wanted.find_subcommand(word) else {
            bail!("there is no command {word:?}: `towpath --help` lists them");
        };
        wanted = found;
    }
    output::write(&page(wanted)?)
}

/// File names and texts, a command before its subcommands.
fn pages(root: &clap::Command) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut pages = Vec::new();
    let mut left = vec![root];
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or(BINARY);
        pages.push((Path::new(name).with_extension(SECTION), page(command)?));
        left.extend(command.get_subcommands().filter(|c| is_shown(c)));
    }
    Ok(pages)
}

/// Each command has `help` below it, which says nothing of its own.
fn is_shown(command: &clap::Command) -> bool {
    command.get_name() != "help" && !command.is_hide_set()
}

fn page(command: &clap::Command) -> anyhow::Result<String> {
    let name = command.get_display_name().unwrap_or(BINARY).to_owned();
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name)
        .section(SECTION)
        .source(concat!("towpath ", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL)
        .render(&mut text)?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> clap::Command {
        let mut root = Cli::command();
        root.build();
        root
    }

    /// The words of every command that can be given: `call show`.
    fn commands(of: &clap::Command, before: &str) -> Vec<String> {
        let below = of.get_subcommands().filter(|c| is_shown(c));
        let named = below.flat_map(|command| {
            let name = format!("{before} {}", command.get_name());
            let name = name.trim().to_owned();
            [vec![name.clone()], commands(command, &name)].concat()
        });
        named.collect()
    }

    #[test]
    fn every_command_has_a_page_and_every_page_a_command() {
        let root = built();
        let mut expected: Vec<_> = commands(&root, "")
            .iter()
            .map(|words| format!("towpath-{}.1", words.replace(' ', "-")))
            .collect();
        expected.push("towpath.1".to_owned());
        let pages = pages(&root).unwrap();
        let mut found: Vec<_> = pages.iter().map(|(p, _)| p.display().to_string()).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        for (path, page) in &pages {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let title = format!(".TH {name} 1 ");
            assert!(page.contains(&title), "{name}: {page}");
            assert!(!page.contains("Exit codes") || name == "towpath", "{name}");
        }
    }

    #[test]
    fn every_command_is_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            for words in commands(&built(), "") {
                let last = words.rsplit(' ').next().unwrap();
                assert!(script.contains(last), "{shell:?}: {words}");
            }
        }
    }
}
