//! Texts to values. Each refusal says what is wrong and what to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{PeerHost, PortRange};
use crate::id::{Listener, Transport};

/// Why a text is refused, and the help.
pub(super) type Refusal = (String, String);

fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err((message.into(), help.into()))
}

/// A whole number and a unit: `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let help = "write a whole number and a unit: \"500ms\", \"30s\", \"5m\", \"1h\"";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or("");
    let Ok(count) = digits.parse::<u32>() else {
        return refuse(format!("`{text}` is not a duration"), help);
    };
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "" => return refuse(format!("`{text}` has no unit"), help),
        _ => return refuse(format!("`{unit}` is not a unit of time"), help),
    };
    Ok(Duration::from_millis(u64::from(count) * milliseconds))
}

/// Written as a person would.
pub(in crate::config) fn spell(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) => "0s".to_owned(),
        (0, ms) => format!("{ms}ms"),
        (s, 0) if s % 3600 == 0 => format!("{}h", s / 3600),
        (s, 0) if s % 60 == 0 => format!("{}m", s / 60),
        (s, 0) => format!("{s}s"),
        (s, ms) => format!("{}ms", s * 1000 + u64::from(ms)),
    }
}

/// `first-last`: an even port, a minus sign, an odd port.
pub(super) fn ports(text: &str) -> Result<PortRange, Refusal> {
    let help = "write first and last port: \"20000-29999\"";
    let both = text.split_once('-').map(|(a, b)| (a.trim(), b.trim()));
    let Some((Ok(first), Ok(last))) = both.map(|(a, b)| (a.parse::<u16>(), b.parse::<u16>()))
    else {
        return refuse(format!("`{text}` is not a port range"), help);
    };
    if first > last {
        let message = format!("the port range {text} is reversed");
        return refuse(message, format!("write \"{last}-{first}\""));
    }
    if first < UNPRIVILEGED_PORT_MIN {
        let message = format!("the port range {text} holds privileged ports");
        return refuse(
            message,
            format!("begin at {UNPRIVILEGED_PORT_MIN} or above"),
        );
    }
    let even = first % 2 == 0;
    let odd = last % 2 == 1;
    if even && odd {
        return Ok(PortRange { first, last });
    }
    let wrong = match (even, odd) {
        (false, true) => format!("the first port, {first}, is odd"),
        (true, false) => format!("the last port, {last}, is even"),
        _ => format!("the first port, {first}, is odd and the last, {last}, even"),
    };
    let (first, last) = (first & !1, last | 1);
    refuse(
        wrong,
        format!("RTP takes an even port and RTCP the odd one after it: write \"{first}-{last}\""),
    )
}

const UNPRIVILEGED_PORT_MIN: u16 = 1024;

/// `udp:address:port`, `tcp:…`, `tls:…`.
pub(super) fn listen(text: &str) -> Result<Listener, Refusal> {
    let help = "write \"udp:0.0.0.0:5060\", \"udp:[::]:5060\" or one of our addresses";
    let Some((transport, rest)) = text.split_once(':') else {
        return refuse(format!("`{text}` is not a listener"), help);
    };
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        "ws" | "wss" => {
            let message = format!("SIP over {transport} is not available in this version");
            return refuse(message, "remove it: there are udp, tcp and tls");
        }
        _ => return refuse(format!("`{transport}` is not a transport"), help),
    };
    let Ok(local) = rest.parse::<SocketAddr>() else {
        return refuse(format!("`{rest}` is not an address and port"), help);
    };
    if local.port() == 0 {
        return refuse("a listener needs a port", "SIP's own is 5060, 5061 for TLS");
    }
    Ok(Listener { transport, local })
}

/// Where a peer listens.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Address(SocketAddr),
    Host(PeerHost),
}

/// Where a peer listens, how it is reached if that is said, and how it is chosen among others.
#[derive(Clone, Debug)]
pub(super) struct PeerUri {
    pub(super) place: Place,
    pub(super) transport: Option<Transport>,
    pub(super) priority: Option<u16>,
    pub(super) weight: Option<u16>,
}

/// `sip:address[:port][;transport=…]` or `sips:address[:port]`, either with `;priority=N` and
/// `;weight=N`.
pub(super) fn peer_uri(text: &str) -> Result<PeerUri, Refusal> {
    let help = "write \"sip:10.0.0.20:5060\", IPv6 as \"sip:[2001:db8::20]:5060\", or a full name: \
                \"sip:mcu.example.com\"";
    let Some((scheme, rest)) = text.split_once(':') else {
        return refuse(format!("`{text}` is not a SIP URI"), help);
    };
    let mut parameters = rest.split(';');
    let host = parameters.next().unwrap_or_default();
    let (mut said, mut priority, mut weight) = (None, None, None);
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_lowercase().as_str() {
            "transport" => said = Some(transport_word(value)?),
            "priority" => priority = Some(preference(name, value)?),
            "weight" => weight = Some(preference(name, value)?),
            _ => {
                let message = format!("`;{parameter}` says nothing of a peer");
                return refuse(message, "there are ;transport, ;priority and ;weight");
            }
        }
    }
    let transport = match (scheme.to_ascii_lowercase().as_str(), said) {
        ("sip", said) => said,
        // RFC 3261 §26.2.2: TLS, whatever it runs over.
        ("sips", None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        ("sips", Some(Transport::Udp)) => {
            return refuse("there is no TLS over UDP", "write sips: without ;transport");
        }
        _ => return refuse(format!("`{scheme}` is not sip"), help),
    };
    let port = transport.unwrap_or(Transport::Udp).port();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let place = match (host.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
        (Ok(full), _) => Place::Address(full),
        (_, Ok(ip)) => Place::Address(SocketAddr::new(ip, port)),
        _ => named(host, transport, help)?,
    };
    match &place {
        Place::Address(address) => {
            if address.port() == 0 {
                return refuse("port 0 cannot be reached", help);
            }
            one_host(address.ip())?;
        }
        Place::Host(_) if priority.or(weight).is_some() => {
            let help = "leave them out: its SRV records say which comes first";
            return refuse("a name has no priority or weight of its own", help);
        }
        Place::Host(_) => {}
    }
    Ok(PeerUri {
        place,
        transport,
        priority,
        weight,
    })
}

/// `name[:port]`; the letters, digits and hyphens of RFC 1123 §2.1, and a dot at least: `mcu` alone
/// is rather a name of another kind.
fn named(host: &str, transport: Option<Transport>, help: &'static str) -> Result<Place, Refusal> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => (name, Some(port)),
            _ => return refuse(format!("`{port}` is not a port"), help),
        },
        None => (host, None),
    };
    let is_label = |label: &str| {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    let letters = name.bytes().any(|c| c.is_ascii_alphabetic());
    if name.len() > 253 || !name.contains('.') || !letters || !name.split('.').all(is_label) {
        let message = format!("`{host}` is neither an address nor the full name of a host");
        return refuse(message, help);
    }
    Ok(Place::Host(PeerHost {
        name: name.to_ascii_lowercase(),
        port,
        transport,
    }))
}

fn transport_word(word: &str) -> Result<Transport, Refusal> {
    let mut every = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter();
    match every.find(|transport| word.eq_ignore_ascii_case(transport.word())) {
        Some(transport) => Ok(transport),
        None => refuse(
            format!("`{word}` is not a transport"),
            "write ;transport=udp, tcp or tls, or leave it out",
        ),
    }
}

fn preference(name: &str, text: &str) -> Result<u16, Refusal> {
    match text.parse() {
        Ok(number) => Ok(number),
        Err(_) => refuse(format!("`{text}` is not a {name}"), "write 0 to 65535"),
    }
}

/// A server of the domain name system: `address` or `address:port`.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Refusal> {
    let ip = text.parse::<IpAddr>();
    let address = match (text.parse::<SocketAddr>(), ip) {
        (Ok(full), _) => full,
        (_, Ok(ip)) => SocketAddr::new(ip, 53),
        _ => {
            let help = "write \"10.0.0.53\", or \"10.0.0.53:5353\"";
            return refuse(format!("`{text}` is not an address"), help);
        }
    };
    one_host(address.ip())?;
    Ok(address)
}

/// An address of one host: not a wildcard, not a group.
pub(super) fn host(text: &str) -> Result<IpAddr, Refusal> {
    if text.starts_with("stun:") {
        let message = "asking a STUN server is not available in this version";
        return refuse(message, "write the address itself");
    }
    let Ok(ip) = text.parse::<IpAddr>() else {
        let help = match text.split_once('/') {
            Some((ip, _)) => format!("write the address without the prefix: \"{ip}\""),
            None => "write an address such as \"203.0.113.9\", not a name".to_owned(),
        };
        return refuse(format!("`{text}` is not an address"), help);
    };
    one_host(ip)?;
    Ok(ip)
}

/// An address of one host, with a port if it is not the listener's own.
pub(super) fn advertise(text: &str) -> Result<(IpAddr, Option<u16>), Refusal> {
    let Ok(full) = text.parse::<SocketAddr>() else {
        if text.starts_with('[') || text.rsplit_once(':').is_some_and(|(ip, _)| is_ipv4(ip)) {
            let help = "write \"203.0.113.9:5060\" or \"[2001:db8::9]:5060\"; without a port: \
                        the address alone, without brackets";
            return refuse(format!("`{text}` is not an address and port"), help);
        }
        return Ok((host(text)?, None));
    };
    if full.port() == 0 {
        return refuse("port 0 cannot be reached", "SIP's own is 5060");
    }
    one_host(full.ip())?;
    Ok((full.ip(), Some(full.port())))
}

fn is_ipv4(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

fn one_host(ip: IpAddr) -> Result<(), Refusal> {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return refuse(
            format!("{ip} is not the address of one host"),
            "write the address by which the host is reached",
        );
    }
    Ok(())
}

/// An address prefix without host bits.
pub(super) fn prefix(text: &str) -> Result<IpNet, Refusal> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let length = if ip.is_ipv4() { 32 } else { 128 };
        let message = format!("`{text}` has no prefix length");
        return refuse(
            message,
            format!("for this one host write \"{ip}/{length}\""),
        );
    }
    let Ok(net) = text.parse::<IpNet>() else {
        let help = "write an address and a length: \"10.0.0.0/8\", \"2001:db8::/32\"";
        return refuse(format!("`{text}` is not a prefix"), help);
    };
    if net.trunc() != net {
        let message = format!("{net} has bits set after its first {}", net.prefix_len());
        return refuse(message, format!("write \"{}\"", net.trunc()));
    }
    Ok(net)
}

/// SHA-256 in hexadecimal, made lower-case.
pub(super) fn ha1(text: &str) -> Result<String, Refusal> {
    let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.len() == 64 && hexadecimal {
        return Ok(text.to_ascii_lowercase());
    }
    refuse(
        "this is not a SHA-256 value",
        "give 64 hexadecimal digits: printf %s 'user:domain:password' | sha256sum",
    )
}

/// MD5 in hexadecimal, made lower-case.
pub(super) fn ha1_md5(text: &str) -> Result<String, Refusal> {
    let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.len() == 32 && hexadecimal {
        return Ok(text.to_ascii_lowercase());
    }
    refuse(
        "this is not an MD5 value",
        "give 32 hexadecimal digits: printf %s 'user:domain:password' | md5sum",
    )
}

/// A request-URI user pattern.
pub(super) fn route(text: &str) -> Result<String, Refusal> {
    let help = "write the user part of a URI; `*` is any run of characters, `?` one";
    let bad = |c: char| c.is_whitespace() || c.is_control() || "@<>\"".contains(c);
    if text.is_empty() {
        return refuse("an empty route never matches", help);
    }
    if text.len() > ROUTE_BYTES_MAX || text.contains(bad) {
        return refuse(format!("`{text}` is not a user part"), help);
    }
    Ok(text.to_owned())
}

const ROUTE_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err((message, help)) => format!("{message}; {help}"),
        }
    }

    #[track_caller]
    fn check<T: std::fmt::Debug>(result: Result<T, Refusal>, expected: &str) {
        let said = said(result);
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    }

    #[test]
    fn durations() {
        check(duration("30s"), "30s");
        check(duration("500ms"), "500ms");
        check(duration("5m"), "300s");
        check(duration("1h"), "3600s");
        check(duration("30"), "has no unit");
        check(duration("30 s"), "`30 s` is not a duration");
        check(duration("-1s"), "not a duration");
        check(duration("1.5s"), "not a duration");
        check(duration("3d"), "`d` is not a unit");
        check(duration(""), "not a duration");
        check(duration("99999999999s"), "not a duration");
        for text in ["0s", "1h", "5m", "30s", "90s", "1500ms", "1ms"] {
            assert_eq!(spell(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn port_ranges() {
        check(ports("20000-29999"), "first: 20000, last: 29999");
        check(ports("20000 - 29999"), "first: 20000");
        check(ports("65534-65535"), "last: 65535");
        check(ports("20001-29999"), "the first port, 20001, is odd");
        check(ports("20001-29999"), "write \"20000-29999\"");
        check(ports("20000-29998"), "the last port, 29998, is even");
        check(ports("20000-29998"), "write \"20000-29999\"");
        check(ports("20001-29998"), "is odd and the last, 29998, even");
        check(ports("29999-20000"), "is reversed; write \"20000-29999\"");
        check(ports("1000-1999"), "privileged ports; begin at 1024");
        check(ports("20000-70000"), "is not a port range");
        check(ports("20000"), "is not a port range");
        check(ports("a-b"), "write first and last port");
    }

    #[test]
    fn listeners_and_peers() {
        check(listen("udp:0.0.0.0:5060"), "0.0.0.0:5060");
        check(listen("udp:[::]:5060"), "[::]:5060");
        check(listen("tls:0.0.0.0:5061"), "Tls, local: 0.0.0.0:5061");
        check(listen("tcp:0.0.0.0:5060"), "Tcp, local: 0.0.0.0:5060");
        check(listen("wss:0.0.0.0:443"), "SIP over wss is not available");
        check(listen("sctp:0.0.0.0:1"), "not a transport");
        check(listen("udp:0.0.0.0"), "not an address and port");
        check(listen("udp:0.0.0.0:0"), "needs a port");
        check(listen("5060"), "not a listener");
        check(peer_uri("sip:10.0.0.20:5070"), "10.0.0.20:5070");
        check(peer_uri("sip:10.0.0.20"), "10.0.0.20:5060");
        check(peer_uri("sip:[2001:db8::1]"), "[2001:db8::1]:5060");
        check(peer_uri("SIP:10.0.0.20;transport=UDP"), "10.0.0.20:5060");
        check(peer_uri("sip:10.0.0.20"), "transport: None");
        check(
            peer_uri("sip:10.0.0.20;transport=udp"),
            "transport: Some(Udp)",
        );
        check(
            peer_uri("sip:10.0.0.20;transport=tcp"),
            "10.0.0.20:5060), transport: Some(Tcp)",
        );
        check(
            peer_uri("sip:10.0.0.20;transport=tls"),
            "10.0.0.20:5061), transport: Some(Tls)",
        );
        check(
            peer_uri("sips:[2001:db8::1];weight=2"),
            "[2001:db8::1]:5061), transport: Some(Tls), priority: None, weight: Some(2)",
        );
        check(
            peer_uri("sip:10.0.0.20;priority=2;transport=tcp;weight=30"),
            "transport: Some(Tcp), priority: Some(2), weight: Some(30)",
        );
        check(peer_uri("sip:10.0.0.20;weight=x"), "`x` is not a weight");
        check(peer_uri("sips:10.0.0.20;transport=udp"), "no TLS over UDP");
        check(
            peer_uri("sip:10.0.0.20;transport=sctp"),
            "`sctp` is not a transport",
        );
        check(peer_uri("sip:10.0.0.20;lr"), "`;lr` says nothing of a peer");
        check(
            peer_uri("sip:MCU.example.com"),
            "\"mcu.example.com\", port: None",
        );
        check(
            peer_uri("sips:mcu.example.com:5070"),
            "port: Some(5070), transport: Some(Tls)",
        );
        check(peer_uri("sip:mcu"), "neither an address nor the full name");
        check(peer_uri("sip:10.0.0.256"), "neither an address nor");
        check(peer_uri("sip:a.example:0"), "`0` is not a port");
        check(
            peer_uri("sip:a.example;weight=1"),
            "no priority or weight of its own",
        );
        check(peer_uri("sip:0.0.0.0"), "not the address of one host");
        check(peer_uri("10.0.0.20"), "not a SIP URI");
    }

    #[test]
    fn addresses_and_prefixes() {
        check(host("203.0.113.9"), "203.0.113.9");
        check(host("10.0.0.3/8"), "without the prefix: \"10.0.0.3\"");
        check(host("stun:stun.example.com"), "not available");
        check(host("edge.example.com"), "not a name");
        check(host("0.0.0.0"), "not the address of one host");
        check(host("ff02::1"), "not the address of one host");
        check(advertise("203.0.113.9"), "(203.0.113.9, None)");
        check(advertise("203.0.113.9:5070"), "(203.0.113.9, Some(5070))");
        check(advertise("2001:db8::9"), "(2001:db8::9, None)");
        check(advertise("[2001:db8::9]:5070"), "(2001:db8::9, Some(5070))");
        check(advertise("203.0.113.9:0"), "port 0 cannot be reached");
        check(advertise("203.0.113.9:99999"), "not an address and port");
        check(advertise("[2001:db8::9]"), "without brackets");
        check(advertise("0.0.0.0:5060"), "not the address of one host");
        check(advertise("stun:example.com"), "not available");
        check(advertise("edge.example.com:5060"), "not a name");
        check(prefix("10.0.0.0/8"), "10.0.0.0/8");
        check(prefix("10.0.0.3/8"), "write \"10.0.0.0/8\"");
        check(prefix("10.0.0.3"), "write \"10.0.0.3/32\"");
        check(prefix("10.0.0.0/33"), "is not a prefix");
        check(prefix("2001:db8::/32"), "2001:db8::/32");
    }

    #[test]
    fn secrets_and_routes() {
        check(ha1(&"A".repeat(64)), &"a".repeat(64));
        check(ha1("abc"), "64 hexadecimal digits");
        check(ha1_md5(&"A".repeat(32)), &"a".repeat(32));
        check(ha1_md5(&"a".repeat(64)), "32 hexadecimal digits");
        check(ha1(&"g".repeat(64)), "not a SHA-256");
        check(route("conf-*"), "conf-*");
        check(route("8???"), "8???");
        check(route(""), "never matches");
        check(route("a b"), "not a user part");
        check(route("a@b"), "not a user part");
    }
}
