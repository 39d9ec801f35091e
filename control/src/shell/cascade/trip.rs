//! How long the way to the upper server takes, for doctor: pings as the link's own, each on the
//! connection of the one before.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::timeout;

use super::client::{Question, Remote};
use super::listen::PING;
use super::{dial, tls, who};
use crate::config::Config;
use crate::shell::clock;

/// The first brings up the connection.
const PINGS: usize = 4;

/// How long each took, without the first; none: there is no upper server.
pub(crate) async fn round_trips(
    config: &Config,
    patience: Duration,
) -> Option<(String, Result<Vec<Duration>, String>)> {
    let settings = &config.cascade;
    let upper = settings.upper.as_ref()?.to_string();
    let headers = who::headers(&config.node.id, settings.token.as_ref());
    let tls = match tls::client(settings) {
        Ok(tls) => tls,
        Err(wrong) => return Some((upper, Err(format!("{}: {:#}", wrong.key, wrong.error)))),
    };
    let remote = Remote::new(upper.clone(), headers, tls, 0);
    let pings = async {
        let mut took = Vec::new();
        for _ in 0..PINGS {
            let began = clock::now();
            let answer = remote.exchange(&question()).await;
            let answer = answer.map_err(|error| format!("{error:#}"))?;
            dial::read(&answer)?;
            took.push(began.elapsed());
        }
        Ok(took.split_off(1))
    };
    let late = |_| Err(format!("no answer within {} s", patience.as_secs()));
    Some((upper, timeout(patience, pings).await.unwrap_or_else(late)))
}

fn question() -> Question {
    Question {
        method: Method::GET,
        path: PING,
        body: Bytes::new(),
    }
}
