//! What `top` knows and shows: answers of the daemon and keys in, another state out. No terminal,
//! no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

/// Events kept for the tail.
const EVENTS_MAX: usize = 100;
/// Calls in one answer of the daemon.
const ROWS_MAX: usize = 200;
const FILTER_CHARS_MAX: usize = 64;

/// What calls are sorted by: as the API names it, and as people do.
pub(super) const SORTS: [(&str, &str); 9] = [
    ("bits_per_s", "bit rate"),
    ("lost_ppm", "loss"),
    ("jitter_us", "jitter"),
    ("silent_s", "silence"),
    ("age_s", "age"),
    ("id", "number"),
    ("from", "caller"),
    ("to", "callee"),
    ("state", "state"),
];

/// What comes from the daemon.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// One look at everything.
    Look {
        at: Instant,
        status: Value,
        bpf: Value,
        top: Value,
    },
    Event(Value),
    /// It does not answer, and why.
    Gone(String),
    /// The explanation of a call, in lines, or why there is none.
    Explained(u64, Result<String, String>),
}

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Nothing,
    /// Ask again at once: something else is to be seen.
    Look,
    Explain(u64),
    Quit,
}

/// What lies over the calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Over {
    Nothing,
    Help,
    Drops,
    Explained {
        call: u64,
        /// None: it was asked for.
        text: Option<String>,
        scroll: usize,
    },
}

/// A card's counters, a second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rates {
    pub(super) rx_packets: u64,
    pub(super) rx_bits: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_bits: u64,
    pub(super) lost: u64,
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Value,
    pub(super) bpf: Value,
    pub(super) top: Value,
    pub(super) events: VecDeque<Value>,
    /// Of each card; none before there are two looks.
    pub(super) rates: BTreeMap<String, Rates>,
    pub(super) looked: Option<Instant>,
    /// Why the daemon does not answer.
    pub(super) gone: Option<String>,
    /// Place in [`SORTS`].
    pub(super) sort: usize,
    pub(super) ascending: bool,
    pub(super) filter: String,
    /// The filter as it is being typed.
    pub(super) typed: Option<String>,
    /// The line that is chosen, of those that are shown.
    pub(super) chosen: usize,
    /// Calls in front of those that are shown.
    pub(super) offset: usize,
    /// Lines for calls.
    pub(super) rows: usize,
    pub(super) paused: bool,
    pub(super) over: Over,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Value::Null,
            bpf: Value::Null,
            top: Value::Null,
            events: VecDeque::new(),
            rates: BTreeMap::new(),
            looked: None,
            gone: None,
            sort: 0,
            ascending: false,
            filter: String::new(),
            typed: None,
            chosen: 0,
            offset: 0,
            rows: 20,
            paused: false,
            over: Over::Nothing,
        }
    }
}

impl State {
    /// What the daemon is asked for; it sorts, searches and pages.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let (sort, _) = SORTS.get(self.sort).copied().unwrap_or_default();
        let order = if self.ascending { "asc" } else { "desc" };
        let mut query = vec![
            ("n", self.rows.clamp(1, ROWS_MAX).to_string()),
            ("offset", self.offset.to_string()),
            ("sort", sort.to_owned()),
            ("order", order.to_owned()),
        ];
        let filter = self.typed.as_ref().unwrap_or(&self.filter);
        if !filter.is_empty() {
            query.push(("q", super::super::client::encoded(filter)));
        }
        query
    }

    pub(super) fn calls(&self) -> &[Value] {
        let calls = self.top.get("calls").and_then(Value::as_array);
        calls.map_or(&[], Vec::as_slice)
    }

    /// How many calls match.
    pub(super) fn matched(&self) -> usize {
        let matched = self.top.get("matched").and_then(Value::as_u64);
        matched.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Look {
                at,
                status,
                bpf,
                top,
            } => {
                self.gone = None;
                if self.paused {
                    return;
                }
                self.rates = self.rates_between(&bpf, at);
                (self.looked, self.status, self.bpf, self.top) = (Some(at), status, bpf, top);
                self.chosen = self.chosen.min(self.calls().len().saturating_sub(1));
            }
            Update::Event(event) => {
                self.events.push_back(event);
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_front();
                }
            }
            Update::Gone(why) => self.gone = Some(why),
            Update::Explained(asked, found) => {
                if let Over::Explained { call, text, .. } = &mut self.over
                    && *call == asked
                {
                    *text = Some(found.unwrap_or_else(|why| why));
                }
            }
        }
    }

    fn rates_between(&self, bpf: &Value, at: Instant) -> BTreeMap<String, Rates> {
        let Some(looked) = self.looked else {
            return BTreeMap::new();
        };
        let passed = at.saturating_duration_since(looked);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut rates = BTreeMap::new();
        for card in list(bpf, "interfaces") {
            let name = text(card, "name");
            let before = list(&self.bpf, "interfaces").iter();
            let Some(before) = before.clone().find(|other| text(other, "name") == name) else {
                continue;
            };
            let per_s = |counter: &str, by: u64| {
                // A card that came anew counts from zero.
                let more = number(card, counter).saturating_sub(number(before, counter));
                more.saturating_mul(by).saturating_mul(1000) / millis
            };
            let lost = ["rx_errors", "rx_dropped", "tx_errors", "tx_dropped"];
            let found = Rates {
                rx_packets: per_s("rx_packets", 1),
                rx_bits: per_s("rx_bytes", 8),
                tx_packets: per_s("tx_packets", 1),
                tx_bits: per_s("tx_bytes", 8),
                lost: lost.iter().map(|counter| per_s(counter, 1)).sum(),
            };
            rates.insert(name.to_owned(), found);
        }
        rates
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Order {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Order::Quit;
        }
        if self.typed.is_some() {
            return self.key_typed(key.code);
        }
        if self.over != Over::Nothing {
            return self.key_over(key.code);
        }
        self.key_calls(key.code)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a keyboard has many keys that mean nothing here"
    )]
    fn key_typed(&mut self, key: KeyCode) -> Order {
        let Some(typed) = &mut self.typed else {
            return Order::Nothing;
        };
        match key {
            KeyCode::Enter => self.filter = self.typed.take().unwrap_or_default(),
            KeyCode::Esc => self.typed = None,
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(c) if typed.chars().count() < FILTER_CHARS_MAX => typed.push(c),
            _ => return Order::Nothing,
        }
        (self.offset, self.chosen) = (0, 0);
        Order::Look
    }

    fn key_over(&mut self, key: KeyCode) -> Order {
        match (key, &mut self.over) {
            (KeyCode::Char('q'), _) => return Order::Quit,
            (KeyCode::Esc | KeyCode::Enter | KeyCode::Char('?' | 'd'), _) => {
                self.over = Over::Nothing;
            }
            (KeyCode::Down | KeyCode::Char('j'), Over::Explained { text, scroll, .. }) => {
                let lines = text.as_ref().map_or(0, |text| text.lines().count());
                *scroll = (*scroll + 1).min(lines.saturating_sub(1));
            }
            (KeyCode::Up | KeyCode::Char('k'), Over::Explained { scroll, .. }) => {
                *scroll = scroll.saturating_sub(1);
            }
            _ => {}
        }
        Order::Nothing
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a keyboard has many keys that mean nothing here"
    )]
    fn key_calls(&mut self, key: KeyCode) -> Order {
        match key {
            KeyCode::Char('q') => return Order::Quit,
            KeyCode::Char('?' | 'h') => self.over = Over::Help,
            KeyCode::Char('d') => self.over = Over::Drops,
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                return Order::Look;
            }
            KeyCode::Char('/') => self.typed = Some(self.filter.clone()),
            KeyCode::Char('s') => return self.sorted(self.sort + 1),
            KeyCode::Char('S') => return self.sorted(self.sort + SORTS.len() - 1),
            KeyCode::Char('r') => {
                self.ascending = !self.ascending;
                return self.first_page();
            }
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return self.first_page();
            }
            KeyCode::Down | KeyCode::Char('j') => return self.down(),
            KeyCode::Up | KeyCode::Char('k') => return self.up(),
            KeyCode::PageDown => return self.page(true),
            KeyCode::PageUp => return self.page(false),
            KeyCode::Home => return self.first_page(),
            KeyCode::Enter => return self.explain(),
            _ => {}
        }
        Order::Nothing
    }

    fn sorted(&mut self, sort: usize) -> Order {
        self.sort = sort % SORTS.len();
        // Names from the front of the alphabet, numbers from the greatest.
        let (name, _) = SORTS.get(self.sort).copied().unwrap_or_default();
        self.ascending = matches!(name, "from" | "to" | "state" | "id");
        self.first_page()
    }

    fn first_page(&mut self) -> Order {
        (self.offset, self.chosen) = (0, 0);
        Order::Look
    }

    fn down(&mut self) -> Order {
        if self.chosen + 1 < self.calls().len() {
            self.chosen += 1;
            return Order::Nothing;
        }
        if self.offset + self.calls().len() >= self.matched() {
            return Order::Nothing;
        }
        self.offset += 1;
        Order::Look
    }

    fn up(&mut self) -> Order {
        if self.chosen > 0 {
            self.chosen -= 1;
            return Order::Nothing;
        }
        if self.offset == 0 {
            return Order::Nothing;
        }
        self.offset -= 1;
        Order::Look
    }

    fn page(&mut self, down: bool) -> Order {
        let rows = self.rows.max(1);
        let last = self.matched().saturating_sub(rows);
        self.offset = match down {
            true => (self.offset + rows).min(last),
            false => self.offset.saturating_sub(rows),
        };
        Order::Look
    }

    fn explain(&mut self) -> Order {
        let call = self.calls().get(self.chosen);
        let Some(call) = call.and_then(|call| call.get("id")?.as_u64()) else {
            return Order::Nothing;
        };
        self.over = Over::Explained {
            call,
            text: None,
            scroll: 0,
        };
        Order::Explain(call)
    }
}

pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}
