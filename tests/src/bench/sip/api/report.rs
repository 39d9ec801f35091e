//! What came of a run: JSON and a page.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ANSWER_MAX, Answers, SERIES_MAX, Scrape, TOP_PERCENT_MAX, Watched};
use crate::bench::conditions::{self, Conditions};
use crate::bench::sip::load;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    pub conditions: Conditions,
    pub per_s: u32,
    /// Standing, while it was scraped and looked at.
    pub calls: u64,
    pub with_media: u64,
    pub retransmitted: u64,
    /// By path; the last row is all of them.
    pub answers: Vec<(&'static str, Answers)>,
    pub scrapes: Vec<Scrape>,
    pub watched: Watched,
}

/// Grows when a member changes its meaning.
const VERSION: u32 = 1;
/// The row of all paths.
pub(super) const ALL: &str = "all";
const NOTES: [&str; 6] = [
    "callers, the edge and what is called are three network namespaces joined by veth pairs; \
     SIPp, who asks and the daemon share all cores",
    "calls are set up by two generators (INVITE with SDP, 180, 200, ACK) and stand to the end; \
     two clients ask meanwhile, each one path after the other, every 20 ms at most",
    "every request comes by the Unix socket on a connection of its own; a time is that from \
     connecting to the last octet read",
    "calls with media have one stream of sound with RTP and RTCP on one port, and nobody speaks; \
     beyond what the limit of open files allows (four files a call) calls are made \
     whose stream is refused",
    "the cost of looking is what the daemon takes of a processor above what it takes while nobody \
     looks, and what the looking process takes, over the same time",
    "the data path is userspace; series do not depend on the number of calls",
];

/// Read before a run begins.
pub(super) fn conditions() -> Result<Conditions> {
    Conditions::read(vec![("sipp", load::version()?)], &NOTES)
}

impl Report {
    /// What has to be reached: name, limit, measured.
    #[must_use]
    pub fn goals(&self) -> [(&'static str, f64, f64); 3] {
        let all = self.answers.last().map(|(_, answers)| ms(answers.p99));
        let series = self.scrapes.iter().map(|scrape| scrape.series).max();
        [
            (
                "ms for 99 of 100 answers",
                ms(ANSWER_MAX),
                all.unwrap_or(f64::MAX),
            ),
            (
                "series in a scrape",
                SERIES_MAX as f64,
                series.unwrap_or(usize::MAX) as f64,
            ),
            (
                "% of a processor for top",
                TOP_PERCENT_MAX,
                self.watched.cost_percent(),
            ),
        ]
    }

    /// The document `api.json` holds.
    #[must_use]
    pub fn json(&self) -> Value {
        let answers = self.answers.iter().map(|(path, answers)| {
            let Answers {
                count,
                p50,
                p99,
                longest,
            } = answers;
            json!({
                "path": path, "answers": count, "p50_ms": hundredths(ms(*p50)),
                "p99_ms": hundredths(ms(*p99)), "longest_ms": hundredths(ms(*longest)),
            })
        });
        let scrape = self.scrape();
        let goals = self.goals().into_iter().map(|(name, limit, measured)| {
            json!({
                "name": name, "below": limit, "measured": hundredths(measured),
                "reached": measured < limit,
            })
        });
        json!({
            "version": VERSION,
            "conditions": self.conditions.json(),
            "calls": self.calls, "calls_with_media": self.with_media, "calls_per_s": self.per_s,
            "retransmitted": self.retransmitted,
            "answers": answers.collect::<Vec<_>>(),
            "scrape": {
                "series": scrape.series, "bytes": scrape.bytes, "ms": hundredths(ms(scrape.took)),
                "longest_ms": hundredths(ms(self.longest_scrape())), "scrapes": self.scrapes.len(),
            },
            "top": {
                "idle_percent": hundredths(self.watched.idle_percent),
                "daemon_percent": hundredths(self.watched.daemon_percent),
                "own_percent": hundredths(self.watched.top_percent),
                "cost_percent": hundredths(self.watched.cost_percent()),
            },
            "goals": goals.collect::<Vec<_>>(),
        })
    }

    /// The one that took as long as half of them did not.
    fn scrape(&self) -> Scrape {
        let mut scrapes = self.scrapes.clone();
        scrapes.sort_by_key(|scrape| scrape.took);
        let middle = scrapes.get(scrapes.len() / 2).copied();
        middle.unwrap_or(Scrape {
            series: 0,
            bytes: 0,
            took: Duration::ZERO,
        })
    }

    fn longest_scrape(&self) -> Duration {
        let times = self.scrapes.iter().map(|scrape| scrape.took);
        times.max().unwrap_or_default()
    }

    /// The tables, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from("| goal | below | measured | |\n|---|---:|---:|---|\n");
        for (name, limit, measured) in self.goals() {
            let reached = if measured < limit { "met" } else { "not met" };
            text += &format!("| {name} | {limit} | {measured:.2} | {reached} |\n");
        }
        text += &format!(
            "\nAsked while {} calls were set up, {} a second ({} retransmissions):\n\n\
             | path | answers | p50 | p99 | longest |\n|---|---:|---:|---:|---:|\n",
            self.with_media, self.per_s, self.retransmitted
        );
        for (path, answers) in &self.answers {
            let [p50, p99, longest] = [answers.p50, answers.p99, answers.longest].map(ms);
            let count = answers.count;
            text +=
                &format!("| `{path}` | {count} | {p50:.2} ms | {p99:.2} ms | {longest:.2} ms |\n");
        }
        let (scrape, longest) = (self.scrape(), ms(self.longest_scrape()));
        let Watched {
            idle_percent: idle,
            daemon_percent: daemon,
            top_percent: own,
        } = self.watched;
        text + &format!(
            "\nWith {} calls standing, {} of them with media:\n\n\
             - one scrape of `/metrics`: {} series, {} octets, {:.2} ms (the longest of {}: \
             {longest:.2} ms)\n\
             - the daemon takes {idle:.2} % of a processor while nobody looks, {daemon:.2} % while \
             `top` does, once a second; `top` itself {own:.2} %\n",
            self.calls,
            self.with_media,
            scrape.series,
            scrape.bytes,
            ms(scrape.took),
            self.scrapes.len(),
        )
    }

    /// Writes `api.json` and `api.md`.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let page = format!(
            "# API\n\nWritten by `cargo xtask bench api`; the same in [api.json](api.json).\n\n{}\n\
             {}",
            self.table(),
            self.conditions.section()
        );
        let files = [
            ("api.json", conditions::pretty(&self.json())?),
            ("api.md", page),
        ];
        conditions::write(directory, &files)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
