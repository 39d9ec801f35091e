//! What is looked at before the codecs see it: lengths, flags and what they let pass.

use crate::mqtt::packet::{Reason, Version};

/// The length of the packet at the beginning of the buffer; none: its end, or its length, is not
/// there yet (MQTT 5 §2.1).
pub(super) fn frame(buffer: &[u8], most: usize) -> Result<Option<usize>, Reason> {
    let Some((_, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let Some((length, digits)) = number(rest)? else {
        return Ok(None);
    };
    let whole = 1 + digits + length;
    if whole > most {
        return Err(Reason::TooLarge);
    }
    Ok((buffer.len() >= whole).then_some(whole))
}

/// A variable byte integer, and how many bytes it takes (§1.5.5).
fn number(bytes: &[u8]) -> Result<Option<(usize, usize)>, Reason> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // §1.5.5: no more bytes than it takes.
            let longer = at > 0 && *byte == 0;
            return if longer {
                Err(Reason::Malformed)
            } else {
                Ok(Some((value, at + 1)))
            };
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Reason::Malformed)
    }
}

/// A walk through a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the fixed header.
    fn of(packet: &'a [u8]) -> Result<Self, Reason> {
        let rest = packet.get(1..).unwrap_or_default();
        let (_, digits) = number(rest)?.ok_or(Reason::Malformed)?;
        Ok(Self(rest.get(digits..).unwrap_or_default()))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Reason::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        self.take(1)?.first().copied().ok_or(Reason::Malformed)
    }

    fn short(&mut self) -> Result<u16, Reason> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn text(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.short()?;
        self.take(length.into())
    }

    /// Properties, each at most once but for those that may repeat (§2.2.2.2).
    fn properties(&mut self) -> Result<(), Reason> {
        let (length, digits) = number(self.0)?.ok_or(Reason::Malformed)?;
        self.take(digits)?;
        let mut inside = Self(self.take(length)?);
        let mut seen: u64 = 0;
        while !inside.0.is_empty() {
            let id = inside.byte()?;
            match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => {
                    inside.byte()?;
                }
                0x13 | 0x21 | 0x22 | 0x23 => {
                    inside.short()?;
                }
                0x02 | 0x11 | 0x18 | 0x27 => {
                    inside.take(4)?;
                }
                0x0b => {
                    let (_, digits) = number(inside.0)?.ok_or(Reason::Malformed)?;
                    inside.take(digits)?;
                }
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                    inside.text()?;
                }
                0x26 => {
                    inside.text()?;
                    inside.text()?;
                }
                _ => return Err(Reason::Malformed),
            }
            let again = seen & (1 << id) != 0;
            if again && id != 0x26 {
                return Err(Reason::Protocol);
            }
            seen |= 1 << id;
        }
        Ok(())
    }
}

/// What the first byte says.
fn kind(packet: &[u8]) -> (u8, u8) {
    let byte = packet.first().copied().unwrap_or_default();
    (byte >> 4, byte & 0x0f)
}

/// The first packet must be a CONNECT of a version that we speak (§3.1).
pub(super) fn connect(packet: &[u8]) -> Result<Version, Reason> {
    if kind(packet) != (1, 0) {
        return Err(Reason::Malformed);
    }
    let mut reader = Reader::of(packet)?;
    let version = match (reader.text()?, reader.byte()?) {
        (b"MQTT", 4) => Version::V4,
        (b"MQTT", 5) => Version::V5,
        (b"MQTT" | b"MQIsdp", _) => return Err(Reason::Version),
        _ => return Err(Reason::Malformed),
    };
    let flags = reader.byte()?;
    let (user, password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    // MQTT 3.1.1 §3.1.2.9: no password without a user.
    let alone = version == Version::V4 && password && !user;
    let will = flags & 0x04 != 0;
    if flags & 1 != 0 || alone || flags & 0x18 == 0x18 || (!will && flags & 0x38 != 0) {
        return Err(Reason::Malformed);
    }
    reader.short()?;
    let v5 = version == Version::V5;
    if v5 {
        reader.properties()?;
    }
    reader.text()?;
    if will {
        if v5 {
            reader.properties()?;
        }
        let topic = reader.text()?;
        let topic = std::str::from_utf8(topic).map_err(|_| Reason::Malformed)?;
        if !crate::mqtt::filter::is_topic(topic) {
            return Err(Reason::TopicInvalid);
        }
        reader.text()?;
    }
    for _ in 0..usize::from(user) + usize::from(password) {
        reader.text()?;
    }
    if reader.0.is_empty() {
        Ok(version)
    } else {
        Err(Reason::Malformed)
    }
}

/// Flags, identifiers and options of every other packet (§2.1.3, §3).
pub(super) fn packet(packet: &[u8], version: Version) -> Result<(), Reason> {
    let (kind, flags) = kind(packet);
    let v5 = version == Version::V5;
    let right = match kind {
        // QoS 3, and a repetition of what is never repeated.
        3 => flags & 0x06 != 0x06 && flags & 0x0e != 0x08,
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    };
    if !right {
        return Err(Reason::Malformed);
    }
    let mut reader = Reader::of(packet)?;
    match kind {
        3 => {
            reader.text()?;
            if flags & 0x06 != 0 && reader.short()? == 0 {
                return Err(Reason::Protocol);
            }
            if v5 {
                reader.properties()?;
            }
        }
        4..=7 if reader.short()? == 0 => return Err(Reason::Protocol),
        8 | 10 => filters(&mut reader, kind == 8, v5)?,
        12 if !reader.0.is_empty() => return Err(Reason::Malformed),
        14 if !v5 && !reader.0.is_empty() => return Err(Reason::Malformed),
        _ => {}
    }
    Ok(())
}

fn filters(reader: &mut Reader<'_>, with_options: bool, v5: bool) -> Result<(), Reason> {
    if reader.short()? == 0 {
        return Err(Reason::Protocol);
    }
    if v5 {
        reader.properties()?;
    }
    // §3.8.3, §3.10.3: one at least.
    if reader.0.is_empty() {
        return Err(Reason::Protocol);
    }
    while !reader.0.is_empty() {
        reader.text()?;
        if !with_options {
            continue;
        }
        let options = reader.byte()?;
        let reserved = if v5 { 0xc0 } else { 0xfc };
        if options & reserved != 0 || options & 3 == 3 || options & 0x30 == 0x30 {
            return Err(Reason::Malformed);
        }
    }
    Ok(())
}

/// The reason of a DISCONNECT that ends behind its length or its reason (§3.14.2.1).
pub(super) fn short_disconnect(packet: &[u8]) -> Option<u8> {
    match *packet {
        [0xe0, 0] => Some(0),
        [0xe0, 1, reason] => Some(reason),
        _ => None,
    }
}
