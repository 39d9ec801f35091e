//! `[sip.protection]`: what those may cost us who have proved nothing.

use std::time::Duration;

use super::{lifetime, parsed, value};
use crate::config::problem::{At, Problems};
use crate::config::{Protection, file};

/// A phone asks about once in ten seconds; this is a NAT with a thousand.
const SOURCE_RATE: u32 = 100;
const ACCOUNT_RATE: u32 = 5;
const BAN_AFTER: u32 = 20;
const RATE_MAX: u32 = 1_000_000;

const TIME_MIN: Duration = Duration::from_secs(1);
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read(written: file::Protection, problems: &mut Problems<'_>) -> Protection {
    let range = TIME_MIN..=TIME_MAX;
    let (window, time) = ("sip.protection.ban_window", "sip.protection.ban_time");
    let mut exempt = Vec::new();
    for text in written.exempt.map_or(Vec::new(), |e| e.value) {
        let key = "sip.protection.exempt";
        exempt.extend(parsed(
            &text.value,
            &text.span,
            key,
            value::prefix,
            problems,
        ));
    }
    let mut scanners = Vec::new();
    for text in written.scanners.map_or(Vec::new(), |s| s.value) {
        let key = "sip.protection.scanners";
        scanners.extend(parsed(&text.value, &text.span, key, scanner, problems));
    }
    Protection {
        source_rate: number(written.source_rate, "source_rate", SOURCE_RATE, problems),
        account_rate: number(written.account_rate, "account_rate", ACCOUNT_RATE, problems),
        ban_after: number(written.ban_after, "ban_after", BAN_AFTER, problems),
        ban_window: lifetime(written.ban_window, window, 60, &range, problems),
        ban_time: lifetime(written.ban_time, time, 600, &range, problems),
        exempt,
        scanners,
    }
}

fn number(written: Option<At<i64>>, key: &str, default: u32, problems: &mut Problems<'_>) -> u32 {
    let Some(written) = written else {
        return default;
    };
    let number = u32::try_from(written.value).ok();
    number.filter(|n| *n <= RATE_MAX).unwrap_or_else(|| {
        let message = format!("{} is out of range", written.value);
        let help = format!("write 0 (no limit) to {RATE_MAX}");
        let key = format!("sip.protection.{key}");
        problems.add(&written.span, &key, message, help);
        default
    })
}

/// A part of a User-Agent, in lower case.
fn scanner(text: &str) -> Result<String, value::Refusal> {
    let text = text.trim();
    if text.len() < SCANNER_BYTES_MIN {
        let message = format!("`{text}` is in the name of many user agents");
        let help = format!("write at least {SCANNER_BYTES_MIN} letters of its User-Agent");
        return Err((message, help));
    }
    Ok(text.to_ascii_lowercase())
}

const SCANNER_BYTES_MIN: usize = 4;
