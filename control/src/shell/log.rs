//! What operators read in the journal. Identities and addresses of users are at DEBUG, but for
//! calls that somebody asked to follow.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::api::{LOG_LEVEL, Log, LogFormat};
use crate::effect::CallRecord;
use crate::engine::event;

/// Overrules the configuration's level.
const FILTER_VARIABLE: &str = "TOWPATH_LOG";
/// Set by systemd if standard error goes to the journal, which notes the time itself.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";
/// Calls that are followed at a time.
pub(crate) const CALLS_MAX: usize = 32;

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Written = Box<dyn Layer<Filtered> + Send + Sync>;

/// What can be changed while it runs.
struct Control {
    filter: Handle<EnvFilter, Registry>,
    form: Handle<Written, Filtered>,
    now: Mutex<Now>,
}

struct Now {
    level: String,
    format: LogFormat,
    /// Followed, by number.
    calls: BTreeSet<u64>,
    /// The last event that was written down.
    seen: u64,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Starts logging to standard error, as text until the configuration is known.
///
/// # Errors
/// If the filter in `TOWPATH_LOG` cannot be read, or logging was started before.
pub fn start() -> anyhow::Result<()> {
    let level = forced().unwrap_or_else(|| LOG_LEVEL.to_owned());
    let (filter, filter_handle) = reload::Layer::new(read(&level).map_err(|error| {
        anyhow::anyhow!(
            "{FILTER_VARIABLE}={level}: {error}; write a level (error, warn, info, debug, trace) \
             or levels by part: info,control::engine=debug"
        )
    })?);
    let (form, form_handle) = reload::Layer::new(written(LogFormat::Auto));
    let started = tracing_subscriber::registry().with(filter).with(form);
    started
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging: {error}"))?;
    let control = Control {
        filter: filter_handle,
        form: form_handle,
        now: Mutex::new(Now {
            level,
            format: LogFormat::Auto,
            calls: BTreeSet::new(),
            seen: 0,
        }),
    };
    drop(CONTROL.set(control));
    Ok(())
}

/// As the configuration says.
pub(crate) fn configure(log: &Log) {
    let Some(control) = CONTROL.get() else { return };
    let mut now = control.now();
    if now.format != log.format {
        match control.form.reload(written(log.format)) {
            Ok(()) => now.format = log.format,
            Err(error) => tracing::error!(%error, "the log keeps its form"),
        }
    }
    drop(now);
    let level = forced().unwrap_or_else(|| log.level.clone());
    if let Err(why) = set_level(&level) {
        tracing::error!(level, why, "the log keeps its level");
    }
}

/// Levels, until the next start or change of the key.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn set_level(level: &str) -> Result<(), String> {
    let Some(control) = CONTROL.get() else {
        return Ok(());
    };
    let filter = read(level).map_err(|error| error.to_string())?;
    let set = control.filter.reload(filter);
    set.map_err(|error| error.to_string())?;
    level.clone_into(&mut control.now().level);
    Ok(())
}

/// Calls of which every event is written down, whatever the level.
pub(crate) fn follow(calls: BTreeSet<u64>) {
    if let Some(control) = CONTROL.get() {
        control.now().calls = calls;
    }
}

/// Level and calls that are followed.
pub(crate) fn state() -> (String, Vec<u64>) {
    CONTROL.get().map_or_else(Default::default, |control| {
        let now = control.now();
        (now.level.clone(), now.calls.iter().copied().collect())
    })
}

/// Writes down what happened since: of followed calls at INFO, the rest at DEBUG.
pub(crate) fn events(log: &event::Log) {
    let Some(control) = CONTROL.get() else { return };
    let mut now = control.now();
    for event in log.after(now.seen) {
        let (kind, subject, seq) = (event.kind.name(), &event.subject, event.seq);
        let fields = event.fields.iter();
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let fields = fields.join(" ");
        let call = subject.parse().ok();
        if call.is_some_and(|call: u64| now.calls.contains(&call)) && kind_of_call(kind) {
            tracing::info!(target: "call", call, seq, fields, "{kind}");
        } else {
            tracing::debug!(target: "event", subject, seq, fields, "{kind}");
        }
    }
    now.seen = log.last();
}

/// An account may be called by a number too.
fn kind_of_call(kind: &str) -> bool {
    !kind.starts_with("registration.")
}

impl Control {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forced() -> Option<String> {
    std::env::var(FILTER_VARIABLE).ok()
}

/// What is followed is written down at any level but `off`.
fn read(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match level {
        "off" => EnvFilter::try_new(level),
        level => EnvFilter::try_new(format!("{level},call=info")),
    }
}

fn written(format: LogFormat) -> Written {
    let journal = std::env::var_os(JOURNAL_VARIABLE).is_some();
    let wanted = match format {
        LogFormat::Auto if journal => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        other => other,
    };
    match wanted {
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true);
            json.with_writer(std::io::stderr).boxed()
        }
        LogFormat::Journal => match tracing_journald::layer() {
            Ok(layer) => layer.with_syslog_identifier("towpath".to_owned()).boxed(),
            // No journal on this host: the line is not lost.
            Err(_) => text(journal),
        },
        LogFormat::Auto | LogFormat::Text => text(journal),
    }
}

fn text(journal: bool) -> Written {
    let ansi = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = fmt::layer().with_ansi(ansi).with_writer(std::io::stderr);
    match journal {
        true => text.without_time().boxed(),
        false => text.boxed(),
    }
}

/// One line for every ended call.
pub(crate) fn call(record: &CallRecord) {
    tracing::info!(
        status = record.status,
        setup_ms = u64::try_from(record.setup.as_millis()).unwrap_or(u64::MAX),
        length_s = record.length.as_secs(),
        ended_by = record.ended_by,
        "call ended"
    );
    tracing::debug!(
        call_id = record.call_id,
        from = record.from,
        to = record.to,
        "call ended"
    );
}
