//! SIP messages as a scripted user agent needs them: written literally, read by line.

use std::net::{IpAddr, SocketAddr};

/// A message, split into lines. Nothing is interpreted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `INVITE sip:… SIP/2.0` or `SIP/2.0 200 OK`.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    /// Reads a datagram; none if it is not a SIP message.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next().filter(|s| s.contains("SIP/2.0"))?.to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        Some(Self {
            start,
            headers: lines.map(field).collect::<Option<_>>()?,
            body: body.to_owned(),
        })
    }

    /// The first value of a header, by its long name.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let wanted = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        let found = self.headers.iter().find(wanted);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Every value of a header, in order.
    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        let wanted = move |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(wanted)
            .map(|(_, value)| value.as_str())
    }

    /// The method of a request; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        match self.status() {
            Some(_) => "",
            None => self.start.split(' ').next().unwrap_or_default(),
        }
    }

    /// The code of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.start
            .strip_prefix("SIP/2.0 ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    }

    /// What stands between `<` and `>` in a header.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        let value = self.header(name);
        let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
        inner.split('>').next().unwrap_or_default().to_owned()
    }

    /// Address and port of the first audio stream its SDP names.
    #[must_use]
    pub fn media(&self) -> Option<SocketAddr> {
        let mut address = None;
        for line in self.body.lines() {
            if let Some(connection) = line.strip_prefix("c=IN ") {
                address = connection.split(' ').nth(1)?.parse::<IpAddr>().ok();
            }
            if let Some(audio) = line.strip_prefix("m=audio ") {
                let port = audio.split(' ').next()?.parse().ok()?;
                return Some(SocketAddr::new(address?, port));
            }
        }
        None
    }

    /// As it goes on the wire.
    #[must_use]
    pub fn wire(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        text.into_bytes()
    }

    /// A message with these headers and an SDP body, or none.
    #[must_use]
    pub fn new(start: String, headers: &[(&str, String)], sdp: Option<String>) -> Self {
        let mut headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        if sdp.is_some() {
            headers.push(("Content-Type".to_owned(), "application/sdp".to_owned()));
        }
        Self {
            start,
            headers,
            body: sdp.unwrap_or_default(),
        }
    }
}

/// An offer or answer of one G.711 stream at `at` (RFC 8866).
#[must_use]
pub fn sdp(at: SocketAddr, direction: &str) -> String {
    let (ip, port) = (at.ip(), at.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 7 7 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na={direction}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let at = "[2001:db8::1]:4000".parse().unwrap();
        let headers = [
            ("Via", "a".to_owned()),
            ("v", "b".to_owned()),
            ("Via", "c".to_owned()),
        ];
        let written = Message::new("SIP/2.0 200 OK".into(), &headers, Some(sdp(at, "sendrecv")));
        let read = Message::parse(&written.wire()).unwrap();
        assert_eq!((read.status(), read.method()), (Some(200), ""));
        assert_eq!(read.all("via").collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(read.media(), Some(at));
        assert_eq!(read.header("Content-Type"), "application/sdp");
        assert_eq!(Message::parse(b"\r\n\r\n"), None);
        assert_eq!(Message::parse(b"\xff SIP/2.0\r\n\r\n"), None);
    }

    #[test]
    fn requests_have_a_method_and_uris() {
        let contact = [("Contact", "\"x\" <sip:a@b:5>;q=1".to_owned())];
        let bye = Message::new("BYE sip:a@b SIP/2.0".into(), &contact, None);
        assert_eq!((bye.method(), bye.status()), ("BYE", None));
        assert_eq!(bye.uri("contact"), "sip:a@b:5");
        assert_eq!(bye.media(), None);
    }
}
