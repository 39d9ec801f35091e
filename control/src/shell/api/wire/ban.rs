//! Who is not heard.

use std::time::Instant;

use serde_json::{Value, json};

use crate::engine::BanView;
use crate::shell::Shell;

pub(in crate::shell::api) fn bans(shell: &Shell, now: Instant) -> Value {
    let bans = shell.engine.bans(now);
    let bans: Vec<Value> = bans.iter().map(ban).collect();
    json!({ "bans": bans })
}

fn ban(view: &BanView) -> Value {
    json!({
        "source": view.net.to_string(),
        "account": view.account,
        "why": view.why,
        "age_s": view.age.as_secs(),
        "left_s": view.left.map(|left| left.as_secs()),
        "times": view.times,
    })
}
