//! Raises the conference plane and those it works with: the edge its clients come by, the broker
//! behind us, and other servers.

use crate::config::Config;
use crate::effect::Table;
use crate::plane::{Plane, Settings};
use crate::shell::configuration::{Refused, Source};
use crate::shell::outbox::{self, Outbox};
use crate::shell::publish::Publisher;
use crate::shell::server::Announcer;
use crate::shell::start::{LISTEN, TLS, tls_refused};
use crate::shell::store::{Store, Tables};
use crate::shell::{Exit, cascade, clock, mqtt, plane};

/// All of them, at work.
pub(super) struct Raised {
    pub(super) plane: plane::Handle,
    pub(super) listeners: mqtt::Listeners,
    pub(super) links: Option<cascade::Links>,
    pub(super) announcer: Announcer,
    pub(super) publisher: Publisher,
}

/// Raises them with what an earlier daemon kept.
pub(super) async fn raise(
    config: &Config,
    source: &Source,
    seed: [u8; 32],
    store: &Store,
    tables: &mut Tables,
    known: mqtt::Known,
) -> Result<Raised, Refused> {
    let mut kept = |table| tables.remove(&table).unwrap_or_default();
    let (inbox, mail) = plane::inbox();
    let gate = plane::Gate::default();
    let announcer = Announcer::new(&config.node.id, clock::random());
    let limits = outbox::limits(&config.mqtt.broker);
    let outbox = Outbox::start(
        limits,
        store.keeper(None),
        kept(Table::Outbox),
        inbox.clone(),
    );
    let broker = outbox::Settings::of(config, announcer.will());
    outbox.configure(limits, broker.map_err(|wrong| tls_refused(source, &wrong))?);
    let edge = mqtt::Edge::start(config, inbox.clone(), gate.clone(), known);
    let links = cascade::start(config, inbox.clone(), boot(&seed)).await;
    let links = links.map_err(|wrong| links_refused(source, &wrong))?;
    let publisher = Publisher {
        edge: edge.clone(),
        outbox,
    };
    let ends = plane::Ends {
        gate,
        publisher: publisher.clone(),
        links: links.clone(),
        keeper: store.keeper(None),
    };
    let settings = Settings::of(config);
    // Ids need to be unique, not secret.
    let seed = seed.iter().fold(0, |seed: u64, octet| {
        seed.rotate_left(8) ^ u64::from(*octet)
    });
    let core = Plane::new(&config.node.id, settings, seed, clock::moment_now());
    let hook = plane::Hook::start(config.conference.view_hook.as_deref());
    let conferences = kept(Table::Conferences);
    let (plane, _) = plane::start(core, hook, (inbox, mail), ends, conferences);
    // Clients find what there was.
    let listeners = serve(&edge, config, source)?;
    Ok(Raised {
        plane,
        listeners,
        links,
        announcer,
        publisher,
    })
}

/// Opens the edge to MQTT clients, where it is configured.
fn serve(edge: &mqtt::Edge, config: &Config, source: &Source) -> Result<mqtt::Listeners, Refused> {
    let tls = mqtt::tls(config).map_err(|wrong| tls_refused(source, &wrong))?;
    edge.configure(config, tls);
    let mut listeners = mqtt::Listeners::new(edge.clone());
    let opened = listeners.open(&config.mqtt.listen);
    opened.map_err(|busy| {
        source
            .refuse(&["mqtt.listen", "mqtt"], busy.to_string(), MQTT_LISTEN)
            .because(Exit::of(&busy.error))
    })?;
    Ok(listeners)
}

/// What to do if a port for MQTT cannot be had.
pub(in crate::shell) const MQTT_LISTEN: &str = "`ss -tlnp` shows who has it; the usual ports are \
                                      1883, and 8883 for TLS";

fn links_refused(source: &Source, wrong: &cascade::Wrong) -> Refused {
    let help = if wrong.key == "cascade.listen" {
        LISTEN
    } else {
        TLS
    };
    let message = format!("{:#}", wrong.error);
    let refused = source.refuse(&[wrong.key, "cascade"], message, help);
    // A port that is taken may be free in a while; a certificate does not mend itself.
    match wrong.key {
        "cascade.listen" => refused.because(super::exit(&wrong.error)),
        _ => refused,
    }
}

/// Tells this process from every other, for the servers it talks to.
fn boot(seed: &[u8; 32]) -> u64 {
    let (start, _) = seed.split_first_chunk().unwrap_or((&[0; 8], &[]));
    // Not the engines' own numbers.
    u64::from_le_bytes(*start).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}
