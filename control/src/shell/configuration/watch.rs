//! The configuration file's directory: editors and configuration management put another file in the
//! place of the one that was watched, so the directory is.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until};

/// What changes in this time after a first change is read once.
const DEBOUNCE: Duration = Duration::from_secs(1);

pub(crate) struct Watch {
    /// inotify(7) is read like a pipe; what the events are does not matter.
    events: pipe::Receiver,
    /// When what was seen is reported.
    due: Option<Instant>,
}

impl Watch {
    /// Watches the directory in which `file` stands.
    ///
    /// # Errors
    /// The system's watches are used up (`sysctl fs.inotify`), or the directory is not there.
    pub(crate) fn start(file: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directory = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB;
        inotify.add_watch(directory, flags)?;
        let events = inotify.as_fd().try_clone_to_owned()?;
        Ok(Self {
            events: pipe::Receiver::from_owned_fd_unchecked(events)?,
            // It may have changed since it was read.
            due: Some(Instant::now()),
        })
    }

    /// Waits until something in the directory has changed, and a little longer.
    pub(crate) async fn changed(&mut self) {
        loop {
            if let Some(due) = self.due {
                // What comes meanwhile is read with the rest.
                sleep_until(due).await;
                self.drain();
                self.due = None;
                return;
            }
            match self.events.readable().await {
                Ok(()) => {
                    if self.drain() {
                        self.due = Some(Instant::now() + DEBOUNCE);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the configuration file is watched no longer");
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Takes what is there; says whether anything was.
    fn drain(&self) -> bool {
        let mut buffer = [0; EVENTS_BYTES];
        let mut any = false;
        while let Ok(1..) = self.events.try_read(&mut buffer) {
            any = true;
        }
        any
    }
}

/// Room for some events, each with a file name (inotify(7) asks for 272 bytes at least).
const EVENTS_BYTES: usize = 4096;
