//! `towpath drain`, `towpath undrain`: whether new calls are taken.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, Format};

/// How often it is asked how many calls are left.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Takes no new calls, and waits until none are left if `wait` says so.
pub(super) fn begin(
    client: &Client<'_>,
    deadline_s: Option<u64>,
    wait: bool,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let order = json!({ "seconds": deadline_s }).to_string();
    let answer = client.send(Method::POST, &["drain"], order, None)?;
    if !wait {
        return output::done(
            &answer,
            "no new calls are taken; `towpath undrain` ends that",
            format,
        );
    }
    let mut shown = None;
    loop {
        let found = client.get(&["drain"])?;
        if found.get("draining") != Some(&Value::Bool(true)) {
            anyhow::bail!("somebody else ended it: new calls are taken again");
        }
        let calls = found.get("calls").and_then(Value::as_u64).unwrap_or(0);
        if calls == 0 {
            return output::done(&found, "drained: no calls are left, none are taken", format);
        }
        if shown != Some(calls) && std::io::stderr().is_terminal() {
            // Nobody may be looking any more.
            drop(writeln!(std::io::stderr(), "{calls} calls left"));
        }
        shown = Some(calls);
        std::thread::sleep(ASK_EVERY);
    }
}

pub(super) fn end(client: &Client<'_>, format: Format) -> anyhow::Result<ExitCode> {
    let answer = client.delete(&["drain"])?;
    output::done(&answer, "new calls are taken again", format)
}
