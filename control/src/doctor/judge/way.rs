//! Ways that are measured, against the time that waits for them.

use std::time::Duration;

use super::{Config, Facts, Verdict};
use crate::doctor::facts::Trips;

/// What a way is called, and what it means when it fails or is slow.
struct Words {
    /// It was not reached at all.
    unreached: &'static str,
    /// A single trip takes longer than the limit.
    late: &'static str,
    /// Two trips do, or one that is a little slower.
    close: &'static str,
    well: &'static str,
}

/// Half of the limit: one that has to be repeated is over it.
const CLOSE: u32 = 2;

fn judged(trips: &Trips, words: &Words, fix: Vec<String>) -> Verdict {
    let Trips { to, limit, took } = trips;
    let took = match took {
        Ok(took) => took,
        Err(why) => {
            return Verdict::fail(words.unreached)
                .seen([told(to, why)])
                .fix(fix);
        }
    };
    // One that is slow by chance is not the way's.
    let mut sorted = took.clone();
    sorted.sort_unstable();
    let Some(usual) = sorted.get(sorted.len() / 2) else {
        return Verdict::unknown("Nothing was measured.").seen([to.clone()]);
    };
    let each: Vec<String> = took.iter().map(|trip| milliseconds(*trip)).collect();
    let evidence = [
        told(to, &format!("there and back in {}", each.join(", "))),
        format!("limit {}", milliseconds(*limit)),
    ];
    let verdict = if usual > limit {
        Verdict::fail(words.late).fix(fix)
    } else if *usual * CLOSE > *limit {
        Verdict::warn(words.close).fix(fix)
    } else {
        Verdict::pass(words.well)
    };
    verdict.seen(evidence)
}

fn told(to: &str, what: &str) -> String {
    format!("{to}: {what}")
}

fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

pub(super) fn store(config: &Config, facts: &Facts) -> Verdict {
    let Some(trips) = &facts.store else {
        return Verdict::unknown("The file system lets nobody write without a name.");
    };
    if trips.took.is_err() {
        return Verdict::unknown("No write to the disk could be measured.")
            .seen(trips.took.clone().err());
    }
    let words = Words {
        unreached: "",
        late: "The disk takes so long that phones are answered before they are kept: after a \
               crash some have to register anew.",
        close: "The disk takes so long that phones repeat their REGISTER before it is kept.",
        well: "A write is on the disk long before anybody waits for it.",
    };
    let directory = config.store.path.parent().unwrap_or(&config.store.path);
    let fix = vec![
        "iostat -x 1 5".to_owned(),
        format!("findmnt -T {}", directory.display()),
    ];
    judged(trips, &words, fix)
}

pub(super) fn broker(config: &Config, facts: &Facts) -> Verdict {
    let Some(trips) = &facts.broker else {
        return Verdict::skip("There is no broker behind us.");
    };
    let words = Words {
        unreached: "The broker behind us cannot be used: what is published waits, and is lost \
                    when the outbox is full.",
        late: "The broker answers later than a ping may take: the connection breaks again and \
               again.",
        close: "The broker takes more than half of what a ping may take: a little more, and the \
                connection breaks.",
        well: "The broker takes our name and password, and answers in time.",
    };
    let mut fix = Vec::new();
    if let Some(url) = &config.mqtt.broker.url {
        let user = config.mqtt.broker.user.as_ref();
        let user = user.map_or(String::new(), |user| format!(" -u {user} -P PASSWORD"));
        let (host, port) = (&url.host, url.port);
        fix.push(format!(
            "mosquitto_pub -h {host} -p {port}{user} -t test -n"
        ));
        fix.push(format!("nc -vz {host} {port}"));
    }
    judged(trips, &words, fix)
}

pub(super) fn upper(config: &Config, facts: &Facts) -> Verdict {
    let Some(trips) = &facts.upper else {
        return Verdict::skip("There is no upper server.");
    };
    let words = Words {
        unreached: "The upper server does not take us: conferences stay on this server.",
        late: "The upper server answers later than the deadline: every request to it fails.",
        close: "The deadline leaves no time to ask the upper server twice: one lost packet, and \
                the request fails.",
        well: "The upper server takes us, and answers well within the deadline.",
    };
    let mut fix = Vec::new();
    match &trips.took {
        Ok(took) => {
            let longest = took.iter().max().copied().unwrap_or_default();
            let deadline = (longest * 6).as_millis().div_ceil(100) * 100;
            fix.push(format!("# [cascade] deadline = \"{deadline}ms\""));
        }
        Err(_) => {
            if let Some(upper) = &config.cascade.upper {
                fix.push(format!("curl -v {upper}/api/v1/cascade/ping"));
            }
            fix.push("towpath peer list".to_owned());
        }
    }
    judged(trips, &words, fix)
}
