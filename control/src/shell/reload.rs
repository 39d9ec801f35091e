//! Another configuration for the daemon that runs, as a transaction: checked, planned and prepared
//! before anything changes, then applied as a whole. Whatever is refused leaves nothing behind.

use std::collections::BTreeSet;
use std::future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use tokio::net::TcpListener;

use crate::config::change::{Change, Concerns, Takes, changes};
use crate::config::check::Problem;
use crate::config::{Config, PortRange, shards_for};
use crate::id::Listener;
use crate::shell::api::{self, Certificate};
use crate::shell::configuration::history::{Applied, By, History};
use crate::shell::configuration::watch::Watch;
use crate::shell::configuration::{Options, Refused, Source};
use crate::shell::hex::sha256;
use crate::shell::kernel::Reach;
use crate::shell::netlink::Netlink;
use crate::shell::outbox;
use crate::shell::sip::{Tls, Wrong};
use crate::shell::{Shell, clock, log, mqtt, notify, start};

/// What became of configurations.
pub(crate) struct Reloads {
    pub(crate) history: History,
    /// The file's last word, if it was refused.
    pub(crate) refused: Option<Refusal>,
    /// By result.
    pub(crate) counts: [(&'static str, u64); 3],
    watch: Option<Watch>,
    /// Of the file, when it was last read.
    file_hash: Option<String>,
}

const APPLIED: usize = 0;
const REFUSED: usize = 1;
const UNCHANGED: usize = 2;

/// A configuration that was not applied, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) at: u64,
    pub(crate) by: By,
    pub(crate) why: Why,
    pub(crate) detail: String,
    pub(crate) problems: Vec<Problem>,
    pub(crate) changes: Vec<Change>,
}

/// At which step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    /// The text, or what it is compared with, cannot be read.
    Unreadable,
    /// The text is wrong.
    Invalid,
    /// A change takes a restart.
    TakesRestart,
    /// Something it asks for cannot be had.
    CannotApply,
}

/// A configuration that is in force now.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) generation: u64,
    pub(crate) changes: Vec<Change>,
    /// It was in force before.
    pub(crate) unchanged: bool,
}

/// What was got for a configuration that may still be refused.
#[derive(Default)]
struct Prepared {
    reach: Reach,
    listeners: Vec<Listener>,
    /// For MQTT.
    mqtt: Vec<Listener>,
    watch: Option<Watch>,
    doors: Vec<TcpListener>,
}

impl Reloads {
    /// The daemon starts with this configuration.
    pub(super) fn start(
        mut history: History,
        options: &Options,
        config: &Config,
        source: Source,
    ) -> Self {
        let file_hash = options.file_hash();
        if history
            .last()
            .is_none_or(|last| last.hash != sha256(&source.text))
        {
            history.push(Applied {
                at: clock::wall_s(),
                by: By::Start,
                file_hash: file_hash.clone(),
                name: source.name,
                text: source.text,
            });
        }
        let watch = watch(config, options).unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration file is not watched: {WATCH_HELP}");
            None
        });
        Self {
            history,
            refused: None,
            counts: [("applied", 0), ("refused", 0), ("unchanged", 0)],
            watch,
            file_hash,
        }
    }

    /// Of the configuration in force.
    pub(crate) fn generation(&self) -> u64 {
        self.history.last().map_or(0, |last| last.number)
    }

    /// What an operator should know of it.
    pub(crate) fn warning(&self) -> Option<String> {
        let refusal = self.refused.as_ref()?;
        let (generation, detail) = (self.generation(), &refusal.detail);
        Some(format!(
            "the configuration file was refused, generation {generation} stays in force: {detail}"
        ))
    }

    /// Waits until something happens beside the file, if it is watched.
    pub(super) async fn file_changed(&mut self) {
        match &mut self.watch {
            Some(watch) => watch.changed().await,
            None => future::pending().await,
        }
    }

    fn count(&mut self, result: usize) {
        if let Some((_, count)) = self.counts.get_mut(result) {
            *count = count.saturating_add(1);
        }
    }
}

impl Shell {
    /// The file is read again: it was asked for, or it has changed.
    pub(super) async fn reload(&mut self, by: By) {
        let source = self.options.source(&[]);
        if by == By::Watch {
            // Other files stand beside it.
            let now = source.as_ref().ok().map(|source| sha256(&source.text));
            if now == self.reloads.file_hash {
                return;
            }
        }
        notify::tell(notify::State::Reloading(clock::monotonic_us()));
        let word = by.source();
        match (source, &self.options.config) {
            (_, None) => {
                tracing::info!("{word}: started without a configuration file: none to read");
            }
            (Err(error), _) => {
                self.reloads.file_hash = None;
                self.reloads.count(REFUSED);
                let detail = format!("{error:#}");
                let refusal = self.refused(by, Why::Unreadable, detail, Vec::new(), Vec::new());
                refusal.log();
                self.reloads.refused = Some(refusal);
            }
            (Ok(source), _) => self.take(source, by).await,
        }
        let refusal = self.reloads.refused.as_ref();
        let result = refusal.map_or("done", |refusal| api::code(refusal.why));
        self.api.reloaded(word, result);
        notify::tell(notify::State::Ready);
    }

    /// The file's text counts, unless another was applied over the API since it last changed.
    async fn take(&mut self, file: Source, by: By) {
        let word = by.source();
        self.reloads.file_hash = Some(sha256(&file.text));
        let over = self
            .options
            .over_the_file(&file, self.reloads.history.last());
        if let Some(last) = over {
            tracing::warn!(
                generation = last.number,
                who = last.by.who(),
                "{word}: what was applied over the API stays in force: the file has not changed \
                 since; `towpath config apply FILE` applies it all the same"
            );
            // Password files may have changed.
            let (source, by) = (Source::of(last), last.by.clone());
            self.reloads.refused = self.apply(source, by).await.err();
            return;
        }
        self.reloads.refused = self.apply(file, by).await.err();
    }

    /// What a text would change, or why it cannot be applied.
    pub(crate) async fn plan(&mut self, source: &Source, by: &By) -> Result<Plan, Refusal> {
        let netlink = match Netlink::start().await {
            Ok(netlink) => netlink,
            Err(error) => {
                let detail = format!("cannot ask which interfaces there are: {error:#}");
                let by = by.clone();
                return Err(self.refused(by, Why::Unreadable, detail, Vec::new(), Vec::new()));
            }
        };
        // What the host has now, not what was last heard of it.
        let host = netlink.interfaces();
        let config = self.options.check(source, &host).map_err(|refused| {
            self.refused(
                by.clone(),
                Why::Invalid,
                refused.to_string(),
                refused.problems,
                Vec::new(),
            )
        })?;
        let refused = |wrong: Wrong| {
            let refused = start::tls_refused(source, &wrong);
            let (by, detail) = (by.clone(), refused.to_string());
            self.refused(by, Why::Invalid, detail, refused.problems, Vec::new())
        };
        let tls = Tls::load(&config).map_err(&refused)?;
        let certificate = api::certificate(&config.api).map_err(&refused)?;
        let mqtt = mqtt::tls(&config).map_err(&refused)?;
        let broker = outbox::Settings::of(&config, self.announcer.will()).map_err(&refused)?;
        let running = self.engine.config();
        let changes = changes(running, &config, &|concerns| self.concerned(concerns));
        let text = self.reloads.history.last().map(|last| last.hash.as_str());
        let same_text = text == Some(sha256(&source.text).as_str());
        Ok(Plan {
            unchanged: same_text && changes.is_empty(),
            config,
            tls,
            mqtt,
            broker,
            certificate,
            changes,
            netlink,
            shards: self.engine.len(),
        })
    }

    /// Applies a text as a whole, or refuses it and changes nothing.
    pub(crate) async fn apply(&mut self, source: Source, by: By) -> Result<InForce, Refusal> {
        let result = self.transact(source, by).await;
        match &result {
            Ok(InForce {
                unchanged: true, ..
            }) => self.reloads.count(UNCHANGED),
            Ok(_) => self.reloads.count(APPLIED),
            Err(refusal) => {
                self.reloads.count(REFUSED);
                refusal.log();
            }
        }
        result
    }

    async fn transact(&mut self, source: Source, by: By) -> Result<InForce, Refusal> {
        let plan = self.plan(&source, &by).await?;
        let word = by.source();
        if plan.unchanged {
            tracing::info!("{word}: the configuration is the one that runs");
            return Ok(InForce {
                generation: self.reloads.generation(),
                changes: Vec::new(),
                unchanged: true,
            });
        }
        let problems = plan.restarts(&source);
        if !problems.is_empty() {
            let detail = format!("{}: not applied: it takes a restart", source.name);
            return Err(self.refused(by, Why::TakesRestart, detail, problems, plan.changes));
        }
        let prepared = match self.prepare(&plan, &source).await {
            Ok(prepared) => prepared,
            Err(refused) => {
                let detail = refused.to_string();
                let changes = plan.changes;
                return Err(self.refused(by, Why::CannotApply, detail, refused.problems, changes));
            }
        };
        // From here on nothing can fail.
        let reached = !(prepared.reach.interfaces.is_empty() && prepared.reach.locals.is_empty());
        if !plan.config.node.watch {
            self.reloads.watch = None;
        } else if prepared.watch.is_some() {
            self.reloads.watch = prepared.watch;
        }
        self.store.set(plan.config.store.sync);
        self.sip.configure(&plan.config, plan.tls);
        self.plane.reconfigure(&plan.config);
        let limits = outbox::limits(&plan.config.mqtt.broker);
        self.publisher.outbox.configure(limits, plan.broker);
        let mut config = plan.config;
        self.publisher.edge.configure(&config, plan.mqtt);
        self.mqtt_listeners.keep(&config.mqtt.listen);
        let wanted = config.api.listen.clone();
        self.doors.admit(prepared.doors, &wanted, plan.certificate);
        self.api.access.configure(&config.api);
        log::configure(&config.log);
        self.names.watch(&config);
        self.names.fill(&mut config);
        self.engine.reconfigure(config, clock::now());
        self.follow_networks(reached).await;
        let who = by.who().map(str::to_owned);
        let generation = self.reloads.history.push(Applied {
            at: clock::wall_s(),
            by,
            file_hash: self.options.file_hash(),
            name: source.name,
            text: source.text,
        });
        self.api.audit.set_generation(generation);
        let changed = listed(&plan.changes);
        tracing::info!(generation, who, changed, "{word}: configuration applied");
        Ok(InForce {
            generation,
            changes: plan.changes,
            unchanged: false,
        })
    }

    /// Flows are placed anew where interfaces have come, and what nobody uses is let go of.
    async fn follow_networks(&mut self, reached: bool) {
        let mut borders = start::borders(self.engine.config());
        let former = self.engine.networks_retired();
        borders.extend(former.iter().map(|f| f.network.interface.clone()));
        self.datapath.set_borders(borders);
        if reached {
            self.datapath.replace_all().await;
        }
        self.retire().await;
    }

    /// Gets everything new that the configuration asks for, or gives back what it got.
    async fn prepare(&mut self, plan: &Plan, source: &Source) -> Result<Prepared, Refused> {
        let mut prepared = Prepared::default();
        let failed = match self.get(plan, source, &mut prepared).await {
            Ok(()) => return Ok(prepared),
            Err(refused) => refused,
        };
        self.sip.close(&prepared.listeners).await;
        self.mqtt_listeners.close(&prepared.mqtt);
        self.withdraw(&prepared.reach);
        Err(failed)
    }

    async fn get(
        &mut self,
        plan: &Plan,
        source: &Source,
        prepared: &mut Prepared,
    ) -> Result<(), Refused> {
        let config = &plan.config;
        if let Ok(kernel) = &mut self.datapath.kernel {
            let locals = start::locals(config);
            let extended = start::interfaces(config, &plan.netlink)
                .and_then(|interfaces| Ok(kernel.extend(&interfaces, &locals)?));
            prepared.reach = extended.map_err(|error| {
                let key = start::key(&error, config, false);
                let message = format!("the kernel path cannot be extended: {error:#}");
                source.refuse(&[&key, "network"], message, KERNEL_HELP)
            })?;
        }
        prepared.listeners = self.sip.open(&config.sip.listen).await.map_err(|busy| {
            source.refuse(&["sip.listen", "sip"], busy.to_string(), start::LISTEN)
        })?;
        prepared.mqtt = self
            .mqtt_listeners
            .open(&config.mqtt.listen)
            .map_err(|busy| {
                let help = start::MQTT_LISTEN;
                source.refuse(&["mqtt.listen", "mqtt"], busy.to_string(), help)
            })?;
        prepared.doors = self.doors.open(&config.api.listen).map_err(|busy| {
            source.refuse(&["api.listen", "api"], busy.to_string(), start::API_LISTEN)
        })?;
        if self.reloads.watch.is_none() {
            prepared.watch = watch(config, &self.options).map_err(|error| {
                let message = format!("the file cannot be watched: {error}");
                source.refuse(&["node.watch"], message, WATCH_HELP)
            })?;
        }
        Ok(())
    }

    /// Lets go of what neither the configuration names nor a call uses.
    pub(super) async fn retire(&mut self) {
        let config = self.engine.config();
        let listed: BTreeSet<Listener> = config.sip.listen.iter().copied().collect();
        let surplus: Vec<Listener> = self
            .sip
            .listeners()
            .filter(|on| !listed.contains(on))
            .collect();
        if !surplus.is_empty() {
            let used = self.engine.listeners_in_use(clock::now());
            let unused: Vec<Listener> = surplus
                .into_iter()
                .filter(|on| !used.contains(on))
                .collect();
            for on in &unused {
                tracing::info!(%on, "no longer listened on: nothing uses it any more");
            }
            self.sip.close(&unused).await;
        }
        let gone = self.surplus_reach();
        self.withdraw(&gone);
    }

    /// What the kernel path reaches although no network asks for it.
    fn surplus_reach(&self) -> Reach {
        let Ok(kernel) = &self.datapath.kernel else {
            return Reach::default();
        };
        let former = self.engine.networks_retired();
        let networks = self.engine.config().networks.iter();
        let kept: BTreeSet<(&str, IpAddr)> = networks
            .chain(former.iter().map(|retired| &retired.network))
            .map(|network| (network.interface.as_str(), network.address))
            .collect();
        let netlink = &self.datapath.netlink;
        let index = |name: &str| Some(netlink.carrier(netlink.index_of(name)?).0);
        let interfaces: BTreeSet<u32> = kept.iter().filter_map(|(name, _)| index(name)).collect();
        let is_kept = |ip: &IpAddr| kept.iter().any(|(_, address)| address == ip);
        Reach {
            interfaces: kernel
                .attached()
                .filter(|attached| !interfaces.contains(attached))
                .collect(),
            locals: kernel
                .locals()
                .into_iter()
                .filter(|ip| !is_kept(ip))
                .collect(),
        }
    }

    fn withdraw(&mut self, gone: &Reach) {
        if gone.interfaces.is_empty() && gone.locals.is_empty() {
            return;
        }
        if let Ok(kernel) = &mut self.datapath.kernel
            && let Err(error) = kernel.withdraw(gone)
        {
            tracing::error!(%error, "the kernel path keeps what is no longer configured");
        }
    }

    /// Running calls that a change concerns.
    fn concerned(&self, concerns: Concerns<'_>) -> usize {
        match concerns {
            Concerns::Nobody => 0,
            Concerns::Everybody => self.engine.totals().calls,
            Concerns::Network(name) => {
                let networks = self.engine.config().networks.iter();
                let ids: Vec<_> = networks.filter(|n| n.name == name).map(|n| n.id).collect();
                self.engine.touched_by(&ids)
            }
        }
    }

    fn refused(
        &self,
        by: By,
        why: Why,
        detail: String,
        problems: Vec<Problem>,
        changes: Vec<Change>,
    ) -> Refusal {
        Refusal {
            at: clock::wall_s(),
            by,
            why,
            detail,
            problems,
            changes,
        }
    }
}

/// A configuration that was checked, and what it changes.
pub(crate) struct Plan {
    config: Config,
    tls: Option<Tls>,
    /// For TLS of MQTT clients.
    mqtt: Option<Arc<ServerConfig>>,
    /// Behind us.
    broker: Option<outbox::Settings>,
    certificate: Certificate,
    pub(crate) changes: Vec<Change>,
    /// Nothing at all, not even the text.
    pub(crate) unchanged: bool,
    /// The host it was checked against.
    netlink: Netlink,
    /// Engines that run.
    shards: usize,
}

impl Plan {
    /// What keeps it from being applied now, each at its key.
    pub(crate) fn restarts(&self, source: &Source) -> Vec<Problem> {
        let restarts = self.changes.iter().filter(|c| c.takes == Takes::Restart);
        let mut problems: Vec<Problem> = restarts
            .flat_map(|change| {
                let Change { key, old, new, .. } = change;
                let section = key.split('.').next().unwrap_or_default();
                let message = format!("`{key}` takes a restart: {old} runs, {new} is written");
                let help = "put it back, or `systemctl restart towpath`; media in the kernel goes \
                            on meanwhile, calls do not";
                source.refuse(&[key, section], message, help).problems
            })
            .collect();
        problems.extend(self.too_few_ports(source));
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

impl Plan {
    /// A range that is too small for the shards that run.
    fn too_few_ports(&self, source: &Source) -> Vec<Problem> {
        let networks = self.config.networks.iter().enumerate();
        let few = networks.filter(|(_, n)| usize::from(shards_for(n.media_ports)) < self.shards);
        few.flat_map(|(index, network)| {
            let PortRange { first, last } = network.media_ports;
            let message = format!(
                "the media ports of network `{}` ({first}-{last}) are too few for the {} shards \
                 that run",
                network.name, self.shards
            );
            let key = format!("network.{index}.media_ports");
            source
                .refuse(&[&key, "network"], message, FEW_PORTS)
                .problems
        })
        .collect()
    }
}

impl Refusal {
    fn log(&self) {
        for problem in &self.problems {
            tracing::error!("{problem}");
        }
        let (word, detail) = (self.by.source(), &self.detail);
        tracing::error!(who = self.by.who(), "{word}: {detail}; nothing has changed");
    }
}

const KERNEL_HELP: &str = "mend this, or leave the interface to a relay without the kernel path";
const FEW_PORTS: &str = "give it at least 64 for each shard, or `systemctl restart towpath`: it \
                         starts as many as there are ports for";
const WATCH_HELP: &str = "`sysctl fs.inotify` shows the system's limits; without watch, reload \
                          with `systemctl reload towpath`";

/// A watch on the file, if one is wanted.
fn watch(config: &Config, options: &Options) -> std::io::Result<Option<Watch>> {
    match &options.config {
        Some(file) if config.node.watch => Watch::start(file).map(Some),
        _ => Ok(None),
    }
}

/// Keys, each with what it takes; of many, the first.
fn listed(changes: &[Change]) -> String {
    let one = |change: &Change| format!("{} ({})", change.key, change.takes.word());
    let some: Vec<String> = changes.iter().take(CHANGES_LOGGED_MAX).map(one).collect();
    match changes.len().saturating_sub(CHANGES_LOGGED_MAX) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

const CHANGES_LOGGED_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::entry::Value;

    #[test]
    fn changes_are_listed_with_what_they_take() {
        let change = |key: String, takes| Change {
            key,
            takes,
            old: Value::Unset,
            new: Value::Unset,
            calls: 0,
        };
        let changes = [
            change("sip.auth".to_owned(), Takes::Hot),
            change("network.lan.media".to_owned(), Takes::Drain),
        ];
        assert_eq!(
            listed(&changes),
            "sip.auth (hot), network.lan.media (drain)"
        );
        let many: Vec<Change> = (0..23)
            .map(|n| change(format!("k{n}"), Takes::Hot))
            .collect();
        assert!(listed(&many).ends_with("k19 (hot) and 3 more"));
        assert_eq!(listed(&[]), "");
    }
}
