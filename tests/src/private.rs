//! A test in a network of its own, without root: the test binary runs that one test again in a
//! fresh network namespace, as root of a fresh user namespace if need be.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

/// Set in the inner run.
const VARIABLE: &str = "TOWPATH_TEST_PRIVATE";

/// Runs `body` where nothing but a loopback interface is, which is up. `test` is the full name of
/// the test that calls.
///
/// # Errors
/// The body's; or the system gives no namespaces (`unshare` of util-linux says why).
pub fn in_private_network(test: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        ip("link set lo up")?;
        return body();
    }
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .arg(std::env::current_exe()?)
        .args([test, "--exact", "--nocapture"])
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .output()
        .context("start unshare")?;
    let told = String::from_utf8_lossy(&output.stdout);
    eprintln!("{told}{}", String::from_utf8_lossy(&output.stderr));
    // A name that is not the test's would run nothing, and pass.
    if !output.status.success() || !told.contains("test result: ok. 1 passed") {
        bail!("{test} in its private network: {}", output.status);
    }
    Ok(())
}

/// Runs lines of `ip` in this private network.
///
/// # Errors
/// We are not in one, or `ip` refuses a line.
pub fn ip(lines: &str) -> Result<()> {
    if std::env::var_os(VARIABLE).is_none() {
        bail!("not in a private network: {lines}");
    }
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("ip: {status}:\n{lines}");
    }
    Ok(())
}
