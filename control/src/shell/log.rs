//! What operators read in the journal. Identities and addresses of users are at DEBUG.

use tracing_subscriber::EnvFilter;

use crate::effect::CallRecord;

/// Where the level comes from, and what it is without.
const FILTER_VARIABLE: &str = "TOWPATH_LOG";
const FILTER_DEFAULT: &str = "info";

/// Starts logging to standard error.
///
/// # Errors
/// If the filter in `TOWPATH_LOG` cannot be read, or logging was started before.
pub fn start() -> anyhow::Result<()> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| FILTER_DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| anyhow::anyhow!("{FILTER_VARIABLE}={text}: {error}"))?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging: {error}"))
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
