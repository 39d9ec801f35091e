//! Until when a certificate is valid: as much of X.509 (RFC 5280 §4.1) as that takes.

/// `notAfter` in seconds since 1970.
pub(super) fn not_after_s(certificate: &[u8]) -> Option<u64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (body, _) = element(certificate, SEQUENCE)?;
    // Version, only where it is not the first.
    let body = element(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, body) = element(body, INTEGER)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (validity, _) = element(body, SEQUENCE)?;
    let (_, _, after) = any(validity)?;
    let (tag, text, _) = any(after)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    match tag {
        // RFC 5280 §4.1.2.5.1: 50 and above are of the last century.
        UTC_TIME => {
            let year: u64 = text.get(..2)?.parse().ok()?;
            let century = if year >= 50 { 1900 } else { 2000 };
            seconds(century + year, text.get(2..)?)
        }
        GENERALIZED_TIME => seconds(text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => None,
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// An element of that tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, value, rest) = any(bytes)?;
    (found == tag).then_some((value, rest))
}

/// Tag and value, and what follows (X.690 §8.1).
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, mut bytes) = bytes.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, rest) = bytes.split_at_checked(count)?;
        bytes = rest;
        length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
    }
    let (value, rest) = bytes.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// `MMDDHHMMSS` of a year from 1970 on.
fn seconds(year: u64, text: &str) -> Option<u64> {
    let part = |at: usize| text.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()? - 1;
    let months: u64 = months.iter().take(before).sum();
    let days = years + months + day - 1;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a certificate as is looked at, `time` being all of `notAfter`.
    fn certificate(version: bool, time: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, parts: &[&[u8]]| {
            let value = parts.concat();
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[tag, 0x82, length[0], length[1]][..], &value].concat()
        };
        let validity = wrap(SEQUENCE, &[b"\x17\x0d700101000000Z", time]);
        let name = wrap(SEQUENCE, &[]);
        let head: &[u8] = if version {
            b"\xa0\x03\x02\x01\x02"
        } else {
            b""
        };
        let body = [head, b"\x02\x01\x07", &name, &name, &validity, &name];
        wrap(SEQUENCE, &[&wrap(SEQUENCE, &body)])
    }

    #[test]
    fn times() {
        let check = |time: &[u8], expected| {
            for version in [true, false] {
                assert_eq!(not_after_s(&certificate(version, time)), expected);
            }
        };
        check(b"\x17\x0d700101000000Z", Some(0));
        check(b"\x17\x0d240229123456Z", Some(1_709_210_096));
        check(b"\x17\x0d491231235959Z", Some(2_524_607_999));
        check(b"\x18\x0f20500101000000Z", Some(2_524_608_000));
        check(b"\x18\x0f99991231235959Z", Some(253_402_300_799));
        check(b"\x17\x0d501231235959Z", None);
        check(b"\x17\x0d241331235959Z", None);
        check(b"\x17\x0c24023123595Z", None);
        check(b"\x04\x0d240229123456Z", None);
        check(b"\x17\x7f240229123456Z", None);
    }

    #[test]
    fn anything_else_is_none() {
        let whole = certificate(true, b"\x17\x0d240229123456Z");
        for end in 0..whole.len() {
            assert_eq!(not_after_s(&whole[..end]), None, "{end}");
        }
        assert_eq!(not_after_s(&[0x30, 0xff, 1, 2]), None);
    }
}
