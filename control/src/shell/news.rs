//! When the loop takes in what the engines have noted: soon, and not once for each event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::shell::clock;

/// At most so often.
const EVERY: Duration = Duration::from_millis(50);

pub(super) struct News {
    noted: Arc<Notify>,
    /// There is some.
    waiting: bool,
    /// Not before.
    next: Instant,
}

impl News {
    pub(super) fn new(noted: Arc<Notify>) -> Self {
        Self {
            noted,
            waiting: false,
            next: clock::now(),
        }
    }

    /// Cancel safe.
    pub(super) async fn due(&mut self) {
        if !self.waiting {
            self.noted.notified().await;
            self.waiting = true;
        }
        sleep_until(self.next.into()).await;
        self.waiting = false;
        self.next = clock::now() + EVERY;
    }
}
