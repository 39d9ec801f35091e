//! Every command of a developer and of CI: `cargo xtask COMMAND`.

mod bench;
mod check;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod mutants;
mod run;
mod setup;
mod sim;
mod soak;
mod test;
mod tidy;
mod variants;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, check, test and show Towpath")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what build and tests need and this machine lacks; says what it does
    Setup(setup::Options),
    /// Build the kernel program
    Ebpf {
        /// Also as other builds of it would be, for tests of upgrades
        #[arg(long)]
        variants: bool,
    },
    /// Format, lints, core-only build, tidy, licences, tests without root
    Check,
    /// The rules of the house that no lint knows: layers, lengths, lost files
    Tidy,
    /// All tests, those that need root too
    Test,
    /// Place real calls through the kernel in a private lab, and say what became of them
    Demo(demo::Options),
    /// Measure in private namespaces, beside others that forward
    Bench(bench::Options),
    /// Send generated packets through host and kernel and compare, or fuzz the readers of SIP
    Fuzz(fuzz::Options),
    /// Break what decides about media packets, one line at a time: each must turn a test red
    Mutants(mutants::Options),
    /// Conferences in virtual time under loss, reordering, partition, restart: each seed is a run
    Sim(sim::Options),
    /// Make what is handed out: a Debian package, a tarball, their checksums
    Dist(dist::Options),
    /// Run one of the long tests of the kernel path
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup(options) => setup::with(&options),
        Command::Bench(options) => return exit(bench::bench(&options)),
        Command::Ebpf { variants: true } => variants::build(),
        Command::Ebpf { variants: false } => {
            ebpf::build().map(|object| run::say(&object.display().to_string()))
        }
        Command::Check => check::check(),
        Command::Tidy => tidy::tidy(),
        Command::Test => test::test(),
        Command::Demo(options) => return exit(demo::demo(&options)),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::Mutants(options) => mutants::mutants(&options),
        Command::Sim(options) => sim::sim(&options),
        Command::Dist(options) => dist::dist(&options),
        Command::Soak(options) => soak::soak(&options),
    };
    exit(result.map(|()| ExitCode::SUCCESS))
}

fn exit(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        run::say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
