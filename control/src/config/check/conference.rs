//! `[conference]` and `[[conference.floor]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::choice::{POLICY, choose};
use super::{lifetime, parsed, value};
use crate::bus::topic::is_id;
use crate::conference::FLOORS_MAX;
use crate::conference::floor::{Mode, PRIORITY_MAX, Policy};
use crate::conference::sharing::MEMBERS_MAX;
use crate::config::problem::{At, Problems, Span};
use crate::config::{Conference, file};

/// The floor of conferences that were told none.
const FLOOR: &str = "audio";

const HOLDERS_MAX: i64 = 64;
const QUEUE_MAX: i64 = 1_000;
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read(written: file::Conference, problems: &mut Problems<'_>) -> Conference {
    let uris = patterns(written.uris, "conference.uris", problems);
    let chairs = patterns(written.chairs, "conference.chairs", problems);
    let share = servers(written.share, problems);
    let view_hook = written.view_hook.filter(|hook| {
        let good = hook.value.parse::<HookUrl>().is_ok();
        if !good {
            let message = format!("`{}` is not an http URL", hook.value);
            let help = "write where the conference server takes views: \
                        view_hook = \"http://10.0.0.20:8080/views\"";
            problems.add(&hook.span, "conference.view_hook", message, help);
        }
        good
    });
    let mut floors = Vec::new();
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for (count, floor) in written.floors.into_iter().enumerate() {
        let id = floor
            .id
            .clone()
            .filter(|id| named(id, count, &mut seen, problems));
        let policy = policy(floor, chairs.is_empty(), problems);
        floors.extend(id.map(|id| (id.value, policy)));
    }
    if floors.is_empty() {
        floors.push((FLOOR.to_owned(), Policy::default()));
    }
    Conference {
        uris,
        chairs,
        share,
        view_hook: view_hook.map(|hook| hook.value),
        floors,
    }
}

/// `http://HOST[:PORT]/PATH`.
struct HookUrl;

impl std::str::FromStr for HookUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("http://").ok_or(())?;
        let host = rest.split('/').next().unwrap_or_default();
        let fits = |c: char| c.is_ascii_graphic();
        let good = !host.is_empty() && !host.contains('@') && rest.chars().all(fits);
        good.then_some(Self).ok_or(())
    }
}

/// Ids of servers.
fn servers(written: Option<At<Vec<At<String>>>>, problems: &mut Problems<'_>) -> Vec<String> {
    const KEY: &str = "conference.share";
    let mut servers = Vec::new();
    for sid in written.map_or_else(Vec::new, |list| list.value) {
        if !is_id(&sid.value) {
            let message = format!("`{}` cannot be a server's name", sid.value);
            let help = "write its node.id: a-z, 0-9 and `-`";
            problems.add(&sid.span, KEY, message, help);
        } else if servers.len() >= MEMBERS_MAX {
            let message = format!("there are more than {MEMBERS_MAX} servers");
            problems.add(&sid.span, KEY, message, "remove some");
            break;
        } else {
            servers.push(sid.value);
        }
    }
    servers
}

fn named(
    id: &At<String>,
    count: usize,
    seen: &mut BTreeMap<String, Span>,
    problems: &mut Problems<'_>,
) -> bool {
    const KEY: &str = "conference.floor.id";
    if !is_id(&id.value) {
        let message = format!("`{}` is not the id of a floor", id.value);
        let help = "use a-z, 0-9 and `-`, as in \"audio\": it is part of topics";
        problems.add(&id.span, KEY, message, help);
        return false;
    }
    if let Some(first) = seen.insert(id.value.clone(), id.span.clone()) {
        let line = problems.line(&first);
        let message = format!("the floor `{}` stands in line {line} too", id.value);
        problems.add(&id.span, KEY, message, "remove one of the two");
        return false;
    }
    if count >= FLOORS_MAX {
        let message = format!("there are more than {FLOORS_MAX} floors");
        problems.add(&id.span, KEY, message, "remove some");
        return false;
    }
    true
}

fn policy(floor: file::Floor, chairless: bool, problems: &mut Problems<'_>) -> Policy {
    let default = Policy::default();
    let at = floor.policy.as_ref().map(|policy| policy.span.clone());
    let mode = choose(
        floor.policy,
        "conference.floor.policy",
        Mode::Fifo,
        &POLICY,
        problems,
    );
    if let (Mode::Chair, true, Some(at)) = (mode, chairless, at) {
        let message = "nobody may decide about this floor";
        let help = "name who chairs conferences: [conference] chairs = [\"1001\"]";
        problems.add(&at, "conference.floor.policy", message, help);
    }
    let holders = (1, HOLDERS_MAX);
    let holders_max = number(
        floor.max_holders,
        "max_holders",
        default.holders_max,
        holders,
        problems,
    );
    let queue = (0, QUEUE_MAX);
    let queue_max = number(
        floor.max_queue,
        "max_queue",
        default.queue_max,
        queue,
        problems,
    );
    let most = i64::from(PRIORITY_MAX);
    let priority = usize::from(default.priority_max);
    let priority = number(floor.priority, "priority", priority, (0, most), problems);
    let range = Duration::ZERO..=TTL_MAX;
    let grant = lifetime(
        floor.grant_ttl,
        "conference.floor.grant_ttl",
        0,
        &range,
        problems,
    );
    let range = Duration::from_secs(1)..=TTL_MAX;
    let key = "conference.floor.request_ttl";
    let request_ttl = lifetime(floor.request_ttl, key, 60, &range, problems);
    Policy {
        mode,
        holders_max,
        queue_max,
        grant_ttl: (!grant.is_zero()).then_some(grant),
        request_ttl,
        priority_max: u8::try_from(priority).unwrap_or(PRIORITY_MAX),
        preempt: floor.preempt.is_some_and(|preempt| preempt.value),
    }
}

fn number(
    written: Option<At<i64>>,
    key: &str,
    default: usize,
    (least, most): (i64, i64),
    problems: &mut Problems<'_>,
) -> usize {
    let Some(written) = written else {
        return default;
    };
    let fits = (least..=most).contains(&written.value);
    match usize::try_from(written.value) {
        Ok(number) if fits => number,
        _ => {
            let message = format!("{} is out of range", written.value);
            let help = format!("write {least} to {most}");
            let key = format!("conference.floor.{key}");
            problems.add(&written.span, &key, message, help);
            default
        }
    }
}

/// User parts, with `*` and `?`.
fn patterns(
    written: Option<At<Vec<At<String>>>>,
    key: &str,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let mut patterns = Vec::new();
    for text in written.map_or_else(Vec::new, |list| list.value) {
        patterns.extend(parsed(&text.value, &text.span, key, pattern, problems));
    }
    patterns
}

fn pattern(text: &str) -> Result<String, value::Refusal> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ":@<>\"".contains(c);
    if text.is_empty() || text.contains(bad) {
        let message = format!("`{text}` is not a pattern of user parts");
        let help = "write the part before the @; `*` is any run of characters, `?` one";
        return Err((message, help.to_owned()));
    }
    Ok(text.to_owned())
}
