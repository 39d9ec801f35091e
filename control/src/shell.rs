//! The shell: performs what the core asks for. Each engine has a task of its own (`shard`); this
//! loop owns what there is once, above all the datapath.

mod api;
mod audit;
mod bench;
mod capture;
mod cascade;
pub(crate) mod clock;
pub mod configuration;
mod datapath;
mod device;
mod dns;
pub mod doctor;
mod exit;
mod hex;
mod icmp;
pub mod kernel;
pub mod log;
mod media;
mod mqtt;
mod netlink;
mod news;
mod node;
mod notify;
mod object;
mod outbox;
mod plane;
mod publish;
mod reload;
mod server;
mod shard;
mod sip;
mod start;
mod store;
mod stream;
mod tcp;
mod trace;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::effect::{Effect, Effects};
use crate::engine::input::Input;
use crate::id::Listener;

use configuration::history::By;
use shard::Work;

pub use bench::bench;
pub use configuration::Options;
pub use exit::Exit;
pub use kernel::detach::detach;
pub use object::version;
pub use start::{host_interfaces, run};

/// What wakes a shard.
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
    /// What another shard has for it.
    Told(Input),
}

/// What a client of the API wants.
enum Question {
    Api(api::Ask),
    Configuration(api::config::Ask),
}

/// Questions that wait for the loop; beyond it clients are told to come back.
const QUESTIONS_MAX: usize = 1024;
/// How often counters are read: silence is noticed this late.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// How often neighbours of kernel flows are refreshed; the kernel forgets after 30 s or more.
const NEIGHBOURS_EVERY: Duration = Duration::from_secs(15);

struct Shell {
    options: Options,
    engine: node::Node,
    queues: shard::Queues,
    /// The tasks of the engines: they end with it.
    shards: JoinSet<()>,
    datapath: datapath::Datapath,
    sip: sip::Sip,
    /// Where its clients connect.
    mqtt_listeners: mqtt::Listeners,
    reloads: reload::Reloads,
    streams: stream::Streams,
    store: store::Store,
    names: dns::Names,
    /// The conference plane.
    plane: plane::Handle,
    /// The last event it was told of.
    told: u64,
    news: news::News,
    announcer: server::Announcer,
    publisher: publish::Publisher,
    questions: mpsc::Receiver<Question>,
    work: mpsc::Receiver<Work>,
    /// State changes of flows, from the kernel program.
    reports: Option<kernel::Events>,
    started: std::time::Instant,
    /// Of the kernel's verdicts.
    rates: api::Rates,
    /// What is wrong with the host.
    doctor: api::doctor::Latest,
    /// What the API works with, and where it is listened at.
    api: api::Api,
    doors: api::Doors,
    /// To other servers.
    links: Option<cascade::Links>,
}

impl Shell {
    async fn serve(mut self) -> anyhow::Result<()> {
        let mut stats = interval(STATS_EVERY);
        let mut neighbours = interval(NEIGHBOURS_EVERY);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        neighbours.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = tokio::time::Instant::now() + api::doctor::EVERY;
        let mut checkups = tokio::time::interval_at(first, api::doctor::EVERY);
        checkups.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Not before signals are waited for: whoever is told so may send one at once.
        notify::tell(notify::State::Ready);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(By::Sighup).await,
                () = self.news.due() => self.gather_events(),
                () = self.reloads.file_changed() => self.reload(By::Watch).await,
                Some(work) = self.work.recv() => self.work(work).await,
                Some(question) = self.questions.recv() => self.answer(question).await,
                Some(over) = self.shards.join_next() => over?,
                news = self.names.heard() => self.located(news),
                report = next_report(&mut self.reports) => self.datapath.report(report),
                news = self.datapath.icmp.heard() => self.datapath.too_big(news),
                () = self.datapath.netlink.changed() => {
                    self.sip.out().set_links(self.datapath.netlink.links());
                    self.network_changed().await;
                }
                _ = stats.tick() => {
                    self.datapath.look_at_clocks().await;
                    self.datapath.end_captures().await;
                    if let Ok(kernel) = &self.datapath.kernel {
                        self.rates.look(clock::now(), kernel.reasons());
                    }
                    self.shut_out();
                    self.engine.active(&self.datapath.active(), clock::now());
                    self.gather_events();
                    self.announce();
                    self.retire().await;
                    self.beat();
                    // Every engine was asked: one that hangs keeps us from here.
                    notify::alive();
                }
                _ = checkups.tick() => self.look_regularly(),
                _ = neighbours.tick() => {
                    self.datapath.refresh_neighbours().await;
                    self.sip.out().set_links(self.datapath.netlink.links());
                }
            }
        }
        tracing::info!(
            calls = self.engine.totals().calls,
            "stopping; flows in the kernel go on and the next start takes them over"
        );
        self.publisher.edge.shut_down();
        self.shards.shutdown().await;
        self.publisher.outbox.close().await;
        self.store.close();
        Ok(())
    }

    /// Bans of the last second are the kernel program's too.
    fn shut_out(&mut self) {
        let bans = self
            .engine
            .bans_at_border(datapath::BORDER_MAX, clock::now());
        self.datapath.shut_out(&bans, self.engine.config());
    }

    /// A peer that is known by name is somewhere else: as if the configuration had said so.
    fn located(&mut self, news: dns::News) {
        if self.names.take(news) {
            let mut config = self.engine.config().clone();
            self.names.fill(&mut config);
            self.engine.reconfigure(config, clock::now());
        }
    }

    /// Takes in what the engines have noted, and tells the plane and those who listen.
    fn gather_events(&mut self) {
        let plane = self.plane.lock();
        let seen = self.engine.events().seen(self.engine.len());
        let own = plane.events();
        let own = (own.last(), own.after(seen).cloned().collect());
        drop(plane);
        for news in self.publisher.outbox.news() {
            let (kind, fields) = news.event();
            self.engine.note_each(news.at, kind, news.broker, fields);
        }
        self.engine.gather_events(own);
        self.engine.note(self.publisher.edge.noted());
        let links = self.links.iter().flat_map(cascade::Links::events);
        self.engine.note(links.collect());
        let mut moved = mqtt::Moved::default();
        for event in self.engine.events().after(self.told) {
            self.told = event.seq;
            moved.note(event);
            if let Some(publication) = self.announcer.event(event) {
                self.publisher.publish(publication);
            }
            self.plane
                .inbox
                .try_tell(crate::plane::Input::Noted(event.clone()));
        }
        self.publisher.edge.registered(&moved);
    }

    /// Says how this server is, where that has changed.
    fn announce(&mut self) {
        let news = server::data(self);
        if let Some(state) = self.announcer.state(news, clock::now()) {
            self.publisher.announce(state);
        }
    }

    async fn answer(&mut self, question: Question) {
        match question {
            Question::Api(ask) => api::answer(ask, self).await,
            Question::Configuration(ask) => api::config::answer(ask, self).await,
        }
    }

    async fn work(&mut self, work: Work) {
        match work {
            Work::Media { effects, failed } => {
                let addresses = self.perform(effects).await;
                if let Some(failed) = failed {
                    // The shard has ended with the daemon.
                    drop(failed.send(addresses));
                }
            }
            Work::Taught {
                at,
                from,
                marks,
                packet,
            } => {
                if let Some(port) = self.datapath.media.port(at) {
                    port.forward(from, marks, &packet);
                }
            }
        }
    }

    /// In order; returned are the addresses that could not be opened.
    async fn perform(&mut self, effects: Effects) -> Vec<SocketAddr> {
        let mut failed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open { at, network } => {
                    if let Err(error) = self.datapath.media.open(at, Some(network)) {
                        tracing::error!(%at, %error, "cannot open a media port");
                        failed.push(at);
                    }
                }
                Effect::Close { at } => self.datapath.media.close(at),
                Effect::Install { at, rule } => self.datapath.install(at, rule).await,
                Effect::Remove { at } => self.datapath.remove(at).await,
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
                        failed.push(at);
                    }
                }
                Effect::Unlisten { at } => self.streams.unlisten(at),
                // The shard does these itself.
                Effect::Send { .. }
                | Effect::Dial { .. }
                | Effect::Publish { .. }
                | Effect::Ban { .. }
                | Effect::Store { .. }
                | Effect::Peer { .. }
                | Effect::Spent(_)
                | Effect::Record(_) => {}
            }
        }
        failed
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
