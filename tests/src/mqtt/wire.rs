//! Packets of MQTT 3.1.1 and 5 as bytes, written and read without anybody's codec.

use anyhow::{Context, Result, bail};

/// A packet being written.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn short(&mut self, number: u16) {
        self.0.extend(number.to_be_bytes());
    }

    pub fn long(&mut self, number: u32) {
        self.0.extend(number.to_be_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// With their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.short(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.0.extend(bytes);
    }

    pub fn number(&mut self, mut number: usize) {
        loop {
            let digit = u8::try_from(number % 128).unwrap_or_default();
            number /= 128;
            if number == 0 {
                return self.byte(digit);
            }
            self.byte(digit | 0x80);
        }
    }

    /// With their length.
    pub fn properties(&mut self, properties: &Self) {
        self.number(properties.0.len());
        self.0.extend(&properties.0);
    }

    /// The whole packet, behind its fixed header.
    #[must_use]
    pub fn packet(self, first: u8) -> Vec<u8> {
        let mut packet = Self(vec![first]);
        packet.number(self.0.len());
        packet.0.extend(self.0);
        packet.0
    }
}

/// A packet being read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// # Errors
    /// There are not so many.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("a short packet")?;
        self.0 = rest;
        Ok(taken)
    }

    /// # Errors
    /// The packet ends.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// # Errors
    /// The packet ends.
    pub fn short(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// # Errors
    /// The packet ends.
    pub fn long(&mut self) -> Result<u32> {
        Ok(u32::from(self.short()?) << 16 | u32::from(self.short()?))
    }

    /// # Errors
    /// The packet ends.
    pub fn text(&mut self) -> Result<String> {
        let length = self.short()?;
        let bytes = self.take(length.into())?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// # Errors
    /// It is no number.
    pub fn number(&mut self) -> Result<usize> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let digit = self.byte()?;
            number |= usize::from(digit & 0x7f) << shift;
            if digit & 0x80 == 0 {
                return Ok(number);
            }
        }
        bail!("a number without end")
    }
}

/// One property, as it is shown.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Property {
    pub name: &'static str,
    pub value: String,
}

/// Reads properties with their length.
///
/// # Errors
/// One is not known, or the packet ends.
pub fn properties(reader: &mut Reader<'_>) -> Result<Vec<Property>> {
    let length = reader.number()?;
    let mut inside = Reader(reader.take(length)?);
    let mut found = Vec::new();
    while !inside.0.is_empty() {
        let (name, value) = match inside.byte()? {
            0x01 => ("utf8", inside.byte()?.to_string()),
            0x02 => ("expiry", inside.long()?.to_string()),
            0x03 => ("type", inside.text()?),
            0x08 => ("response", inside.text()?),
            0x09 => ("correlation", inside.text()?),
            0x0b => ("id", inside.number()?.to_string()),
            0x11 => ("session_expiry", inside.long()?.to_string()),
            0x12 => ("assigned", inside.text()?),
            0x13 => ("keep_alive", inside.short()?.to_string()),
            0x15 => ("auth", inside.text()?),
            0x16 => ("auth_data", inside.text()?),
            0x1a => ("response_information", inside.text()?),
            0x1c => ("reference", inside.text()?),
            0x1f => ("reason", inside.text()?),
            0x21 => ("receive_max", inside.short()?.to_string()),
            0x22 => ("alias_max", inside.short()?.to_string()),
            0x23 => ("alias", inside.short()?.to_string()),
            0x24 => ("qos_max", inside.byte()?.to_string()),
            0x25 => ("retain", inside.byte()?.to_string()),
            0x26 => ("user", format!("{}={}", inside.text()?, inside.text()?)),
            0x27 => ("packet_max", inside.long()?.to_string()),
            0x28 => ("wildcards", inside.byte()?.to_string()),
            0x29 => ("ids", inside.byte()?.to_string()),
            0x2a => ("shared", inside.byte()?.to_string()),
            other => bail!("property {other:#x}"),
        };
        found.push(Property { name, value });
    }
    Ok(found)
}
