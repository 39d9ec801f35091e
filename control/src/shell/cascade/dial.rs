//! The lower side: asks the upper server whether it is there, holds its answer that does not end,
//! and sends up what is due.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Answer, Question, Remote};
use super::line::{Line, Lines};
use super::listen::{DOWN, PING, UP, UP_BYTES_MAX};
use super::{Links, PING_EVERY, SILENCE_MAX, Side};
use crate::cascade::Cascade;
use crate::upstream::{Class, Terms};

/// Pauses between attempts to reach the upper server, doubled from one to the next.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// For ever.
pub(super) async fn run(links: Links, remote: Remote) {
    let mut pause = PAUSE_MIN;
    loop {
        match session(&links, &remote).await {
            // It was there.
            Ok(()) => pause = PAUSE_MIN,
            Err(why) => {
                tracing::debug!(upper = remote.base(), why, "no link");
                let upper = {
                    let mut state = links.state();
                    state.why = Some(why.clone());
                    state.upper.clone()
                };
                if let Some(sid) = upper {
                    links.turn(&sid, false, Some(why)).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = links.0.hurry.notified() => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// From the first ping to the end of a connection; an error if it never was one.
async fn session(links: &Links, remote: &Remote) -> Result<(), String> {
    let line = ping(links, remote).await?;
    let sid = line.sid.clone();
    let known = links.state().upper.clone();
    if let Some(known) = known.filter(|known| *known != sid) {
        return Err(format!("the upper server is {sid} now, it was {known}"));
    }
    if sid == links.0.own || Cascade::home(&format!("{sid}~x")).is_none() {
        return Err(format!("the upper server calls itself `{sid}`"));
    }
    links.meet(&sid, Side::Upper);
    links.state().upper = Some(sid.clone());
    let question = question(Method::GET, DOWN, Bytes::new());
    let patience = links.0.settings.deadline;
    let response = timeout(patience, remote.request(&question)).await;
    let response = response.map_err(|_| "the stream from above did not begin".to_owned())?;
    let response = response.map_err(|error| format!("{error:#}"))?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    links.connected(&sid);
    links.turn(&sid, true, None).await;
    let why = tokio::select! {
        why = listen(links, &sid, response.into_body()) => why,
        why = talk(links, remote, &sid) => why,
    };
    links.turn(&sid, false, Some(why)).await;
    Ok(())
}

/// What comes down.
async fn listen(links: &Links, sid: &str, mut body: Incoming) -> String {
    let mut lines = Lines::default();
    let wake = links.wake(sid);
    loop {
        let chunk = match timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => return format!("nothing from above for {} s", SILENCE_MAX.as_secs()),
            Ok(None) => return "the upper server ended the stream".to_owned(),
            Ok(Some(Err(error))) => return format!("the stream broke: {error}"),
            Ok(Some(Ok(chunk))) => chunk,
        };
        let Ok(bytes) = chunk.into_data() else {
            continue;
        };
        let Some(whole) = lines.push(&bytes) else {
            return "the upper server sent an endless line".to_owned();
        };
        for text in whole {
            let Some(line) = Line::read(&text).filter(|line| line.sid == sid) else {
                return "the upper server sent what is no line of a link".to_owned();
            };
            if links.hear(sid, &line).await {
                let mut state = links.state();
                if let Some(neighbour) = state.neighbours.get_mut(sid) {
                    neighbour.unacknowledged = true;
                }
                wake.notify_one();
            }
        }
    }
}

/// What goes up: what is due, what was heard, and pings.
async fn talk(links: &Links, remote: &Remote, sid: &str) -> String {
    let wake = links.wake(sid);
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let news = links.is_due(sid) || links.owes(sid);
        let sent = if news {
            post(links, remote, sid).await
        } else {
            tokio::select! {
                () = wake.notified() => Ok(()),
                () = links.0.hurry.notified() => ping(links, remote).await.map(drop),
                _ = pings.tick() => ping(links, remote).await.map(drop),
            }
        };
        if let Err(why) = sent {
            return why;
        }
    }
}

async fn post(links: &Links, remote: &Remote, sid: &str) -> Result<(), String> {
    links.paid(sid);
    let lines = links.due(sid, UP_BYTES_MAX / 2);
    let body: Vec<u8> = lines.iter().flat_map(Line::write).collect();
    let terms = Terms {
        class: Class::Link,
        deadline: links.0.settings.deadline,
        // Frames have numbers.
        repeatable: true,
    };
    let question = question(Method::POST, UP, body.into());
    let answer = remote.ask(terms, &question).await;
    let line = read(&answer.map_err(|error| error.to_string())?)?;
    links.hear(sid, &line).await;
    Ok(())
}

async fn ping(links: &Links, remote: &Remote) -> Result<Line, String> {
    let terms = Terms {
        class: Class::Ping,
        deadline: links.0.settings.deadline,
        repeatable: true,
    };
    let question = question(Method::GET, PING, Bytes::new());
    let answer = remote.ask(terms, &question).await;
    read(&answer.map_err(|error| error.to_string())?)
}

fn question(method: Method, path: &'static str, body: Bytes) -> Question {
    Question { method, path, body }
}

pub(super) fn read(answer: &Answer) -> Result<Line, String> {
    if !answer.status.is_success() {
        return Err(problem(answer));
    }
    let text = answer.body.strip_suffix(b"\n").unwrap_or(&answer.body);
    Line::read(text).ok_or_else(|| "whoever answers there is no Towpath".to_owned())
}

async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes);
    problem(&Answer {
        status,
        body: body.unwrap_or_default(),
    })
}

/// What the upper server says is wrong.
fn problem(answer: &Answer) -> String {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match (text("code"), text("detail")) {
        (Some(code), Some(detail)) => format!("refused: {code}: {detail}"),
        _ => format!("the upper server answers {}", answer.status),
    }
}
