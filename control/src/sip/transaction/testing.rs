//! What the machines' tests share: a virtual clock, a path, and words for effects.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::effect::{Effect, Effects};
use crate::id::{Listener, Path, Transport};

/// Steps after which a schedule that does not end is a failure.
const STEPS_MAX: usize = 100;

pub(super) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// The same instant throughout a test run.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
pub(super) fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

pub(super) fn path() -> Path {
    Path {
        on: Listener {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
        },
        to: "192.0.2.9:5062".parse().unwrap(),
    }
}

/// The messages sent, all along `path()`.
pub(super) fn sent(effects: &Effects) -> String {
    let words: Vec<String> = effects
        .iter()
        .map(|effect| {
            let Effect::Send { on, to, bytes } = effect else {
                panic!("unexpected {effect:?}");
            };
            assert_eq!((*on, *to), (path().on, path().to));
            String::from_utf8_lossy(bytes).into_owned()
        })
        .collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(" ")
    }
}

/// Runs a machine from time-out to time-out until it ends or waits for nothing: at how many
/// milliseconds it sent what, and how it ended.
pub(super) fn schedule<End: Debug>(
    mut expire: impl FnMut(Instant, &mut Effects) -> (Option<End>, Option<Instant>),
) -> String {
    let mut seen = Vec::new();
    // Before anything is due: only the first deadline is learnt.
    let (_, mut next) = expire(start(), &mut Vec::new());
    for _ in 0..STEPS_MAX {
        let Some(now) = next else {
            return seen.join(", ");
        };
        let mut effects = Vec::new();
        let (end, then) = expire(now, &mut effects);
        let at = (now - start()).as_millis();
        if let Some(end) = end {
            assert!(effects.is_empty(), "an end sends nothing");
            seen.push(format!("{at} {end:?}"));
            return seen.join(", ");
        }
        seen.push(format!("{at} {}", sent(&effects)));
        next = then;
    }
    panic!("no end: {seen:?}");
}

/// A transition table: state, input, next state, up, sent, timers with remaining milliseconds.
#[derive(Default)]
pub(super) struct Table {
    text: String,
}

impl Table {
    pub(super) fn row(&mut self, cells: &[&str; 6]) {
        let [state, input, next, up, sent, timers] = cells;
        let row = format!("{state:<11}{input:<11}{next:<11}{up:<20}{sent:<8}{timers}");
        self.text.push_str(row.trim_end());
        self.text.push('\n');
    }

    pub(super) fn text(self) -> String {
        let head = "state      input      next       up                  sent    timers\n";
        format!("{head}{}", self.text)
    }
}
