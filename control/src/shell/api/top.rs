//! `GET /api/v1/top`: the calls that matter most, sorted, searched and paged here, so that a client
//! that shows twenty of ten thousand need not fetch them all.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Query;
use axum::routing::get;
use serde_json::{Value, json};

use crate::config::Config;
use crate::engine::glance::Glance;
use crate::id::NetworkId;
use crate::shell::Shell;
use crate::shell::api::What;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Kind, Parameter, Route, VIEW, schema};
use crate::shell::datapath::{Datapath, Glance as Flow, Placement};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/top",
    about: "The calls that matter most, in short: sorted, searched and paged by the daemon",
    query: &[
        parameter(
            "n",
            Kind::Within(1, ROWS_MAX as u64),
            "so many, 1 to 200; else 20",
        ),
        parameter("offset", Kind::Number, "without the first so many"),
        parameter(
            "sort",
            Kind::OneOf(&[
                "bits_per_s",
                "lost_ppm",
                "jitter_us",
                "silent_s",
                "age_s",
                "id",
                "from",
                "to",
                "state",
            ]),
            "what they are sorted by",
        ),
        parameter(
            "order",
            Kind::OneOf(&["desc", "asc"]),
            "the largest first, or last",
        ),
        parameter(
            "q",
            Kind::Text,
            "only those whose parties, Call-ID or state contain this",
        ),
    ],
    answer: Answer::Document(schema!("top")),
    refuses: &[Problem::BAD_TOP],
    handler: || get(list),
    ..VIEW
}];

const fn parameter(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        about,
    }
}

async fn list(events: Loop, Query(query): Query<BTreeMap<String, String>>) -> Reply {
    let wanted = Wanted::of(&query).ok_or(Problem::BAD_TOP)?;
    ask(&events, What::Top(wanted)).await.map(Json)
}

/// Rows in one answer.
const ROWS_MAX: usize = 200;
const ROWS_DEFAULT: usize = 20;

/// What is asked for, in the query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    n: usize,
    offset: usize,
    sort: Sort,
    ascending: bool,
    /// In lower case.
    q: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sort {
    Bits,
    Loss,
    Jitter,
    Silence,
    Age,
    Id,
    From,
    To,
    State,
}

impl Wanted {
    /// None if a parameter is unknown or out of bounds.
    pub(super) fn of(query: &BTreeMap<String, String>) -> Option<Self> {
        let mut wanted = Self {
            n: ROWS_DEFAULT,
            offset: 0,
            sort: Sort::Bits,
            ascending: false,
            q: String::new(),
        };
        for (name, value) in query {
            match name.as_str() {
                "n" => wanted.n = value.parse().ok().filter(|n| (1..=ROWS_MAX).contains(n))?,
                "offset" => wanted.offset = value.parse().ok()?,
                "sort" => wanted.sort = Sort::of(value)?,
                "order" if value == "asc" => wanted.ascending = true,
                "order" if value == "desc" => {}
                "q" => wanted.q = value.trim().to_lowercase(),
                _ => return None,
            }
        }
        Some(wanted)
    }
}

impl Sort {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "bits_per_s" => Self::Bits,
            "lost_ppm" => Self::Loss,
            "jitter_us" => Self::Jitter,
            "silent_s" => Self::Silence,
            "age_s" => Self::Age,
            "id" => Self::Id,
            "from" => Self::From,
            "to" => Self::To,
            "state" => Self::State,
            _ => return None,
        })
    }
}

pub(super) fn top(shell: &Shell, wanted: &Wanted, now: Instant) -> Value {
    let mut sum = Sum::default();
    let mut rows = Vec::new();
    shell.engine.glance(now, &mut |call| {
        let row = Row::of(&call, &shell.datapath, wanted.sort);
        sum.calls += 1;
        sum.bits_per_s = sum.bits_per_s.saturating_add(row.bits_per_s);
        if wanted.takes(&call) {
            rows.push(row);
        }
    });
    let matched = rows.len();
    let shown = page(rows, wanted);
    // One that has ended since is not shown.
    let calls = shown.iter().filter_map(|row| {
        let show = |call: Glance<'_>| document(shell.engine.config(), &call, row);
        shell.engine.glance_at(row.id, now, show)
    });
    let calls: Vec<Value> = calls.collect();
    json!({
        "all": sum.calls,
        "matched": matched,
        "offset": wanted.offset,
        "bits_per_s": sum.bits_per_s,
        "calls": calls,
    })
}

/// Of all calls, those that do not match too.
#[derive(Default)]
struct Sum {
    calls: usize,
    bits_per_s: u64,
}

/// As much of a call as it takes to sort very many.
#[derive(Clone, Debug, Default)]
struct Row {
    id: u64,
    state: &'static str,
    age: Duration,
    /// A name, where names are sorted by.
    name: String,
    bits_per_s: u64,
    /// The worst of its streams.
    lost_ppm: Option<u64>,
    jitter: Option<Duration>,
    silent_s: Option<u64>,
    kernel: usize,
    user: usize,
    waiting: usize,
    /// Why a flow of it is not in the kernel.
    why: Option<&'static str>,
}

impl Row {
    fn of(call: &Glance<'_>, datapath: &Datapath, sort: Sort) -> Self {
        let name = match sort {
            Sort::From => call.from(),
            Sort::To => call.to(),
            Sort::Bits
            | Sort::Loss
            | Sort::Jitter
            | Sort::Silence
            | Sort::Age
            | Sort::Id
            | Sort::State => "",
        };
        let mut row = Self {
            id: call.id,
            state: call.state(),
            age: call.age(),
            name: name.to_owned(),
            ..Self::default()
        };
        call.flows(&mut |at, silent| {
            row.silent_s = row.silent_s.max(silent.map(|time| time.as_secs()));
            match datapath.glance(at) {
                Some(flow) => row.add(&flow),
                None => row.waiting += 1,
            }
        });
        row
    }

    fn add(&mut self, flow: &Flow) {
        self.bits_per_s = self.bits_per_s.saturating_add(flow.bits_per_s);
        self.lost_ppm = self.lost_ppm.max(flow.lost_ppm);
        self.jitter = self.jitter.max(flow.jitter);
        match flow.placement {
            Placement::Kernel => self.kernel += 1,
            Placement::User(why) => {
                self.user += 1;
                self.why = self.why.or(Some(why));
            }
        }
    }
}

impl Wanted {
    fn takes(&self, call: &Glance<'_>) -> bool {
        let call_id = || String::from_utf8_lossy(call.call_id());
        self.finds(call.id, &[call.from(), call.to(), call.state()])
            || self.finds(call.id, &[&*call_id()])
    }

    fn finds(&self, id: u64, texts: &[&str]) -> bool {
        let found = |text: &&str| text.to_lowercase().contains(&self.q);
        self.q.is_empty() || texts.iter().any(found) || id.to_string() == self.q
    }
}

/// Those of the page, in order; the others are not put in order.
fn page(mut rows: Vec<Row>, wanted: &Wanted) -> Vec<Row> {
    let order = |a: &Row, b: &Row| {
        let order = compare(a, b, wanted.sort);
        let order = if wanted.ascending {
            order
        } else {
            order.reverse()
        };
        // The same page shows the same calls when nothing has changed.
        order.then(a.id.cmp(&b.id))
    };
    let end = wanted.offset.saturating_add(wanted.n);
    if end < rows.len() {
        rows.select_nth_unstable_by(end, order);
        rows.truncate(end);
    }
    rows.sort_by(order);
    rows.into_iter().skip(wanted.offset).collect()
}

fn compare(a: &Row, b: &Row, sort: Sort) -> Ordering {
    match sort {
        Sort::Bits => a.bits_per_s.cmp(&b.bits_per_s),
        Sort::Loss => a.lost_ppm.cmp(&b.lost_ppm),
        Sort::Jitter => a.jitter.cmp(&b.jitter),
        Sort::Silence => a.silent_s.cmp(&b.silent_s),
        Sort::Age => a.age.cmp(&b.age),
        Sort::Id => a.id.cmp(&b.id),
        Sort::From | Sort::To => a.name.cmp(&b.name),
        Sort::State => a.state.cmp(b.state),
    }
}

fn document(config: &Config, call: &Glance<'_>, row: &Row) -> Value {
    let network = |id: NetworkId| config.network(id).map(|network| network.name.as_str());
    let (caller, callee) = call.networks();
    json!({
        "id": row.id,
        "from": call.from(),
        "to": call.to(),
        "state": row.state,
        "age_s": row.age.as_secs(),
        "caller_network": network(caller),
        "callee_network": callee.and_then(network),
        "flows": { "kernel": row.kernel, "user": row.user, "waiting": row.waiting },
        "why": row.why,
        "bits_per_s": row.bits_per_s,
        "lost_ppm": row.lost_ppm,
        "jitter_us": row.jitter.map(|jitter| u64::try_from(jitter.as_micros()).ok()),
        "silent_s": row.silent_s,
    })
}

#[cfg(test)]
mod tests;
