//! The shell: performs what the core asks for. One loop, one screen.

mod api;
mod capture;
mod clock;
pub mod configuration;
mod datapath;
mod device;
pub mod kernel;
pub mod log;
mod media;
mod netlink;
mod notify;
mod reload;
mod sip;
mod start;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::effect::{Effect, Effects};
use crate::engine::Engine;
use crate::engine::input::Input;
use crate::id::Listener;

use configuration::history::By;

pub use configuration::Options;
pub use kernel::detach::detach;
pub use start::{host_interfaces, run};

/// What wakes the loop.
enum Event {
    Sip {
        on: Listener,
        from: SocketAddr,
        bytes: Bytes,
    },
    /// A media packet no rule claimed.
    Unclaimed {
        at: SocketAddr,
        from: SocketAddr,
        marks: media::Marks,
        packet: Bytes,
    },
    Api(api::Ask),
    Configuration(api::config::Ask),
}

/// Events that wait for the loop; beyond it SIP waits in its sockets and stray media is dropped.
const EVENTS_MAX: usize = 4096;
/// How often counters are read: silence is noticed this late.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// How often neighbours of kernel flows are refreshed; the kernel forgets after 30 s or more.
const NEIGHBOURS_EVERY: Duration = Duration::from_secs(15);

struct Shell {
    options: Options,
    engine: Engine,
    datapath: datapath::Datapath,
    sip: sip::Sip,
    reloads: reload::Reloads,
    streams: stream::Streams,
    events: mpsc::Receiver<Event>,
    /// State changes of flows, from the kernel program.
    reports: Option<kernel::Events>,
    started: std::time::Instant,
    /// Of the kernel's verdicts.
    rates: api::Rates,
}

impl Shell {
    async fn serve(mut self) -> anyhow::Result<()> {
        let mut stats = interval(STATS_EVERY);
        let mut neighbours = interval(NEIGHBOURS_EVERY);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        neighbours.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Not before signals are waited for: whoever is told so may send one at once.
        notify::tell(notify::State::Ready);
        let mut effects = Effects::new();
        loop {
            let timeout = Instant::from_std(self.engine.next_timeout());
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(By::Sighup, &mut effects).await,
                () = self.reloads.file_changed() => self.reload(By::Watch, &mut effects).await,
                Some(event) = self.events.recv() => self.event(event, &mut effects).await,
                report = next_report(&mut self.reports) => self.datapath.report(report),
                () = self.datapath.netlink.changed() => self.network_changed().await,
                () = sleep_until(timeout) => {
                    self.engine.expire(clock::now(), &mut effects);
                    self.perform(&mut effects).await;
                }
                _ = stats.tick() => {
                    self.datapath.look_at_clocks().await;
                    self.datapath.end_captures().await;
                    if let Ok(kernel) = &self.datapath.kernel {
                        self.rates.look(clock::now(), kernel.reasons());
                    }
                    let active = Input::Active(self.datapath.active());
                    self.engine.handle(active, clock::now(), &mut effects);
                    self.perform(&mut effects).await;
                    self.retire().await;
                }
                _ = neighbours.tick() => self.datapath.refresh_neighbours().await,
            }
        }
        tracing::info!(
            calls = self.engine.totals().calls,
            "stopping; flows in the kernel go on and the next start takes them over"
        );
        Ok(())
    }

    async fn event(&mut self, event: Event, effects: &mut Effects) {
        match event {
            Event::Sip { on, from, bytes } => {
                self.engine
                    .handle(Input::Sip { on, from, bytes }, clock::now(), effects);
                self.perform(effects).await;
            }
            Event::Unclaimed {
                at,
                from,
                marks,
                packet,
            } => {
                let shown = Input::Media {
                    at,
                    from,
                    packet: packet.clone(),
                };
                self.engine.handle(shown, clock::now(), effects);
                self.perform(effects).await;
                // The packet that taught the latch is media too.
                if let Some(port) = self.datapath.media.port(at) {
                    port.forward(from, marks, &packet);
                }
            }
            Event::Api(ask) => {
                api::answer(ask, self, effects).await;
                self.perform(effects).await;
            }
            Event::Configuration(ask) => api::config::answer(ask, self, effects).await,
        }
    }

    /// In order; what fails comes back as input.
    async fn perform(&mut self, effects: &mut Effects) {
        while !effects.is_empty() {
            for effect in std::mem::take(effects) {
                match effect {
                    Effect::Send { on, to, bytes } => {
                        let link = self.datapath.netlink.link_for(on.local.ip(), to.ip());
                        self.sip.send(on, to, &bytes, link).await;
                    }
                    Effect::Open { at, network } => {
                        if let Err(error) = self.datapath.media.open(at, Some(network)) {
                            tracing::error!(%at, %error, "cannot open a media port");
                            let failed = Input::OpenFailed { at };
                            self.engine.handle(failed, clock::now(), effects);
                        }
                    }
                    Effect::Close { at } => self.datapath.media.close(at),
                    Effect::Install { at, rule } => self.datapath.install(at, rule).await,
                    Effect::Remove { at } => self.datapath.remove(at),
                    Effect::KeepAlive { at, to } => self.datapath.send(at, to, &[]),
                    Effect::Forward { at, to, bytes } => self.datapath.send(at, to, &bytes),
                    Effect::Listen { at, rule } => {
                        let netlink = &self.datapath.netlink;
                        let from = rule.accept.first();
                        let links = stream::Links {
                            inward: from.and_then(|net| netlink.link_for(at.ip(), net.addr())),
                            outward: netlink.link_for(rule.from, rule.to.ip()),
                        };
                        if let Err(error) = self.streams.listen(at, rule, links) {
                            tracing::error!(%at, %error, "cannot listen at a media port");
                            let failed = Input::OpenFailed { at };
                            self.engine.handle(failed, clock::now(), effects);
                        }
                    }
                    Effect::Unlisten { at } => self.streams.unlisten(at),
                    Effect::Record(record) => log::call(&record),
                }
            }
        }
    }
}

/// Waits for ever where there is no kernel program.
async fn next_report(reports: &mut Option<kernel::Events>) -> common::event::Event {
    if let Some(events) = reports {
        match events.next().await {
            Ok(event) => return event,
            Err(error) => {
                tracing::error!(%error, "no more events from the kernel program");
                *reports = None;
            }
        }
    }
    std::future::pending().await
}
