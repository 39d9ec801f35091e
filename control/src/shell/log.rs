//! What operators read in the journal. Identities and addresses of users are at DEBUG.

use tracing_subscriber::EnvFilter;

use crate::effect::CallRecord;

/// Where the filter comes from.
const FILTER_VARIABLE: &str = "TOWPATH_LOG";
/// Without it. The kernel program speaks about every flow, which is for the curious.
const FILTER_DEFAULT: &str = "info,kernel=warn";
/// Set by systemd if standard error goes to the journal, which notes the time itself.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Starts logging to standard error.
///
/// # Errors
/// If the filter in `TOWPATH_LOG` cannot be read, or logging was started before.
pub fn start() -> anyhow::Result<()> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| FILTER_DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        anyhow::anyhow!(
            "{FILTER_VARIABLE}={text}: {error}; write a level (error, warn, info, debug, trace) or \
             levels by part: info,control::engine=debug"
        )
    })?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    let started = match std::env::var_os(JOURNAL_VARIABLE) {
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
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
