//! The lab measures real networks, so it reads the real clock; only here.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often `until` asks again.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Now, on the monotonic clock.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "the lab measures real time; nothing here is simulated"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until `deadline`; returns at once if it has passed.
pub fn wait_until(deadline: Instant) {
    thread::sleep(deadline.saturating_duration_since(now()));
}

/// Asks `ready` again and again until it has an answer, for things that cannot be waited on.
///
/// # Errors
/// What `ready` itself refuses with, or that `limit` passed; `what` says what was waited for.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = now() + limit;
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if now() >= deadline {
            bail!("{what}: not within {} ms", limit.as_millis());
        }
        thread::sleep(ASK_EVERY);
    }
}
