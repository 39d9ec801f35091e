//! What comes out of the kernel: events of flows, and the program's log.

use std::io;
use std::os::fd::AsRawFd;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use common::event::Event;
use log::{Level, Log, Metadata, Record};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

use super::KernelError;

/// Events of flows, as they come.
pub struct Events(AsyncFd<RingBuf<MapData>>);

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Result<Self, KernelError> {
        watch(ring).map(Self)
    }

    /// Waits for an event. Cancel safe.
    ///
    /// # Errors
    /// That the ring cannot be waited for.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return Ok(event);
            }
            let mut guard = self.0.readable_mut().await?;
            guard.clear_ready();
            // What came between the look and the clearing is found by looking again.
            if let Some(event) = read(guard.get_inner_mut()) {
                return Ok(event);
            }
        }
    }

    /// An event that has come already.
    pub fn try_next(&mut self) -> Option<Event> {
        read(self.0.get_mut())
    }
}

/// Skips what is not an event of this ABI.
fn read(ring: &mut RingBuf<MapData>) -> Option<Event> {
    while let Some(item) = ring.next() {
        if let Ok(event) = Event::read_from_bytes(&item) {
            return Some(event);
        }
    }
    None
}

/// The program's own log lines, which go to `tracing`.
pub struct Logs(AsyncFd<EbpfLogger<ToTracing>>);

impl Logs {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let logger =
            EbpfLogger::init_with_logger(ebpf, ToTracing).map_err(|e| KernelError::Map {
                map: "AYA_LOGS",
                why: e.to_string(),
            })?;
        watch(logger).map(Self)
    }

    /// Forwards for ever.
    ///
    /// # Errors
    /// That the ring cannot be waited for.
    pub async fn run(mut self) -> io::Result<()> {
        self.0.get_mut().flush();
        loop {
            let mut guard = self.0.readable_mut().await?;
            guard.clear_ready();
            guard.get_inner_mut().flush();
        }
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "kernel", "{message}"),
            Level::Warn => tracing::warn!(target: "kernel", "{message}"),
            Level::Info => tracing::info!(target: "kernel", "{message}"),
            Level::Debug => tracing::debug!(target: "kernel", "{message}"),
            Level::Trace => tracing::trace!(target: "kernel", "{message}"),
        }
    }

    fn flush(&self) {}
}

#[allow(
    deprecated,
    reason = "its successor is unsafe; a ring owns its descriptor while it lives"
)]
fn watch<R: AsRawFd>(ring: R) -> Result<AsyncFd<R>, KernelError> {
    AsyncFd::new(ring).map_err(|e| KernelError::Map {
        map: "ring",
        why: format!("cannot wait for it: {e}"),
    })
}
