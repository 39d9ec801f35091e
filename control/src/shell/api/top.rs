//! `GET /api/v1/top`: the calls that matter most, sorted, searched and paged here, so that a client
//! that shows twenty of ten thousand need not fetch them all.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::Query;
use axum::routing::get;
use serde_json::{Value, json};

use crate::config::Config;
use crate::engine::admin::CallView;
use crate::id::NetworkId;
use crate::shell::Shell;
use crate::shell::api::What;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Kind, Parameter, Route, VIEW, schema};
use crate::shell::datapath::{Datapath, Glance, Placement};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/top",
    about: "The calls that matter most, in short: sorted, searched and paged by the daemon",
    query: &[
        parameter("n", Kind::Number, "so many, 1 to 200; else 20"),
        parameter("offset", Kind::Number, "without the first so many"),
        parameter(
            "sort",
            Kind::Text,
            "bits_per_s, lost_ppm, silent_s, age_s, id, from, to or state",
        ),
        parameter("order", Kind::Text, "desc or asc"),
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
    let calls = shell.engine.calls(now);
    let rows: Vec<Row<'_>> = calls
        .iter()
        .map(|view| row(&shell.datapath, view))
        .collect();
    let sum = |count: fn(&Row<'_>) -> u64| rows.iter().map(count).sum::<u64>();
    let (all, bits_per_s) = (rows.len(), sum(|row| row.bits_per_s));
    let (matched, shown) = select(rows, wanted);
    let config = shell.engine.config();
    let calls: Vec<Value> = shown.iter().map(|row| document(config, row)).collect();
    json!({
        "all": all,
        "matched": matched,
        "offset": wanted.offset,
        "bits_per_s": bits_per_s,
        "calls": calls,
    })
}

/// One call in one line.
#[derive(Clone, Debug)]
struct Row<'c> {
    view: &'c CallView,
    bits_per_s: u64,
    /// The worst of its streams.
    lost_ppm: Option<u64>,
    silent_s: Option<u64>,
    kernel: usize,
    user: usize,
    waiting: usize,
    /// Why a flow of it is not in the kernel.
    why: Option<&'static str>,
}

fn row<'c>(datapath: &Datapath, view: &'c CallView) -> Row<'c> {
    let mut row = Row {
        view,
        bits_per_s: 0,
        lost_ppm: None,
        silent_s: None,
        kernel: 0,
        user: 0,
        waiting: 0,
        why: None,
    };
    for flow in &view.flows {
        row.silent_s = row.silent_s.max(flow.silent.map(|time| time.as_secs()));
        let Some(glance) = datapath.glance(flow.at) else {
            row.waiting += 1;
            continue;
        };
        row.add(&glance);
    }
    row
}

impl Row<'_> {
    fn add(&mut self, glance: &Glance) {
        self.bits_per_s = self.bits_per_s.saturating_add(glance.bits_per_s);
        self.lost_ppm = self.lost_ppm.max(glance.lost_ppm);
        match glance.placement {
            Placement::Kernel => self.kernel += 1,
            Placement::User(why) => {
                self.user += 1;
                self.why = self.why.or(Some(why));
            }
        }
    }

    fn matches(&self, q: &str) -> bool {
        let call = self.view;
        let texts = [&*call.from, &call.to, &call.call_id, call.state];
        texts.iter().any(|text| text.to_lowercase().contains(q)) || call.id.to_string() == q
    }
}

/// How many match, and those of the page.
fn select<'c>(mut rows: Vec<Row<'c>>, wanted: &Wanted) -> (usize, Vec<Row<'c>>) {
    if !wanted.q.is_empty() {
        rows.retain(|row| row.matches(&wanted.q));
    }
    let order = |a: &Row<'_>, b: &Row<'_>| {
        let order = compare(a, b, wanted.sort);
        let order = if wanted.ascending {
            order
        } else {
            order.reverse()
        };
        // The same page shows the same calls when nothing has changed.
        order.then(a.view.id.cmp(&b.view.id))
    };
    rows.sort_by(order);
    let matched = rows.len();
    let page = rows.into_iter().skip(wanted.offset).take(wanted.n);
    (matched, page.collect())
}

fn compare(a: &Row<'_>, b: &Row<'_>, sort: Sort) -> Ordering {
    match sort {
        Sort::Bits => a.bits_per_s.cmp(&b.bits_per_s),
        Sort::Loss => a.lost_ppm.cmp(&b.lost_ppm),
        Sort::Silence => a.silent_s.cmp(&b.silent_s),
        Sort::Age => a.view.age.cmp(&b.view.age),
        Sort::Id => a.view.id.cmp(&b.view.id),
        Sort::From => a.view.from.cmp(&b.view.from),
        Sort::To => a.view.to.cmp(&b.view.to),
        Sort::State => a.view.state.cmp(b.view.state),
    }
}

fn document(config: &Config, row: &Row<'_>) -> Value {
    let network = |id: NetworkId| config.network(id).map(|network| network.name.as_str());
    let call = row.view;
    json!({
        "id": call.id,
        "from": call.from,
        "to": call.to,
        "state": call.state,
        "age_s": call.age.as_secs(),
        "caller_network": network(call.caller.network),
        "callee_network": call.callee.as_ref().and_then(|leg| network(leg.network)),
        "flows": { "kernel": row.kernel, "user": row.user, "waiting": row.waiting },
        "why": row.why,
        "bits_per_s": row.bits_per_s,
        "lost_ppm": row.lost_ppm,
        "silent_s": row.silent_s,
    })
}

#[cfg(test)]
mod tests;
