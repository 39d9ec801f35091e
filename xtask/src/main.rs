//! Every developer and CI command.

mod ebpf;
mod setup;

use clap::Parser;

#[derive(Parser)]
enum Command {
    /// Install what is missing.
    Setup,
    /// Build the kernel object.
    Ebpf,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Setup => setup::setup(),
        Command::Ebpf => ebpf::build().map(drop),
    }
}
