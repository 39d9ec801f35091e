//! Programs that show what they own; they are only ever asked to print.

use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// Why there is no output.
#[derive(Debug)]
pub(super) enum Refused {
    NotInstalled,
    Said(String),
}

/// What a program prints. It ends with whoever waits for it.
pub(super) async fn output(program: &str, arguments: &[&str]) -> Result<String, Refused> {
    let mut last = Refused::NotInstalled;
    // An operator's PATH may lack the directories of administration.
    for directory in ["", "/usr/sbin/", "/sbin/"] {
        let run = Command::new(format!("{directory}{program}"))
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let output = match run {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Refused::Said(format!("{program}: {error}"))),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it failed and said nothing");
        last = Refused::Said(format!("{program}: {said}"));
        break;
    }
    Err(last)
}
