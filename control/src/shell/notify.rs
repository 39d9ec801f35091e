//! What systemd is told (sd_notify(3)), so that a unit with `Type=notify` counts as started when
//! the daemon serves, not when its process exists.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd listens; unset where nobody does.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// Set where systemd ends a daemon that does not say often enough that it works (`WatchdogSec=`).
const WATCHDOG: &str = "WATCHDOG_USEC";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Ready,
    /// Since this time on the monotonic clock, in microseconds.
    Reloading(i64),
    Stopping,
    /// The loop has just done its work.
    Alive,
}

/// Tells a service manager that watches us. A timer of its own would say so of a loop that hangs.
pub(super) fn alive() {
    if std::env::var_os(WATCHDOG).is_some() {
        tell(State::Alive);
    }
}

/// Tells the service manager, if there is one.
pub(super) fn tell(state: State) {
    let Some(name) = std::env::var_os(VARIABLE) else {
        return;
    };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, "{VARIABLE} is set, and nobody listens there");
    }
}

fn send(name: &OsStr, state: State) -> io::Result<()> {
    let text = match state {
        State::Ready => "READY=1".to_owned(),
        State::Reloading(since) => format!("RELOADING=1\nMONOTONIC_USEC={since}"),
        State::Stopping => "STOPPING=1".to_owned(),
        State::Alive => "WATCHDOG=1".to_owned(),
    };
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, listen: &SocketAddr) {
        let listening = UnixDatagram::bind_addr(listen).unwrap();
        for (state, expected) in [
            (State::Ready, "READY=1"),
            (State::Reloading(5), "RELOADING=1\nMONOTONIC_USEC=5"),
            (State::Stopping, "STOPPING=1"),
            (State::Alive, "WATCHDOG=1"),
        ] {
            send(name.as_ref(), state).unwrap();
            let mut buffer = [0; 64];
            let length = listening.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn told_by_path_and_by_abstract_name() {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("towpath-notify-{id}"));
        check(
            path.to_str().unwrap(),
            &SocketAddr::from_pathname(&path).unwrap(),
        );
        std::fs::remove_file(&path).unwrap();
        let name = format!("towpath-notify-{id}");
        let listen = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        check(&format!("@{name}"), &listen);
        assert!(send("/does/not/exist".as_ref(), State::Ready).is_err());
    }
}
