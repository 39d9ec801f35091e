//! `soak`: the long tests, each by its name; those of the kernel path with the daemon as shipped.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::ebpf;
use crate::run::{cargo, step, target};

#[derive(Args)]
pub(crate) struct Options {
    name: Name,
    /// As short as in the tests
    #[arg(long)]
    quick: bool,
    /// How long, for `cascade`
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// SIGKILL, 200 times under 1,000 streams
    Kill,
    /// Another build of the program, again and again under live media
    Upgrade,
    /// Tables filled to the brim, and asked for a fifth more
    Full,
    /// 500 calls a second for 10 minutes
    Churn,
    /// Links, addresses, routes and neighbours that change, 50 times each
    Nic,
    /// A broker behind us that stalls, dies and comes back, 50 times, with and without persistence
    Broker,
    /// Two conferences on servers wired in a ring, for an hour: nothing of one is seen in the other
    Cascade,
}

impl Name {
    /// The tests that do it.
    fn tests(self) -> &'static str {
        match self {
            Self::Kill => "soak::killed_again_and_again",
            Self::Upgrade => "upgrade::",
            Self::Full => "full::",
            Self::Churn => "soak::calls_that_come_and_go",
            Self::Nic => "nic::",
            Self::Broker => "shell::outbox::",
            Self::Cascade => "cascade::share::two_conferences_in_a_ring",
        }
    }
}

pub(crate) fn soak(options: &Options) -> Result<()> {
    if let Name::Broker = options.name {
        return broker(options);
    }
    if let Name::Cascade = options.name {
        return cascade(options);
    }
    crate::variants::build()?;
    let object = ebpf::build()?;
    let daemon = ["build", "--release", "-p", "towpath", "--bins"];
    step("the daemon", &mut cargo(&daemon)?)?;
    let daemon = target()?.join("release").join("towpath");
    ensure!(daemon.is_file(), "{}: not built", daemon.display());
    let mut test = cargo(&[
        "test",
        "-p",
        "towpath-tests",
        "--features",
        "root",
        "--test",
        "netns",
    ])?;
    test.args([
        "--",
        options.name.tests(),
        "--nocapture",
        "--test-threads=1",
    ])
    .env("TOWPATH_BIN", daemon)
    .env("TOWPATH_OBJECT", object);
    if !options.quick {
        test.env("TOWPATH_SOAK", "whole");
    }
    step("soak", &mut test)
}

/// Servers as processes, in a network of their own.
fn cascade(options: &Options) -> Result<()> {
    let daemon = ["build", "-p", "towpath", "--bins"];
    step("the daemon", &mut cargo(&daemon)?)?;
    let mut test = cargo(&[
        "test",
        "-p",
        "towpath-tests",
        "--features",
        "root",
        "--test",
        "daemon",
    ])?;
    let seconds = match options.quick {
        true => QUICK_S,
        false => options.minutes * 60,
    };
    test.args(["--", "--exact", options.name.tests(), "--nocapture"])
        .env("TOWPATH_SOAK_SECONDS", seconds.to_string());
    step("soak", &mut test)
}

/// Of `soak cascade --quick`.
const QUICK_S: u64 = 20;

/// The link alone: it needs neither root nor the kernel program.
fn broker(options: &Options) -> Result<()> {
    let mut test = cargo(&["test", "-p", "towpath", "--lib", "--"])?;
    test.args([options.name.tests(), "--nocapture", "--test-threads=1"]);
    if !options.quick {
        test.env("TOWPATH_SOAK", "whole");
    }
    step("soak", &mut test)
}
