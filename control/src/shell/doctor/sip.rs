//! SIP from a second node: whether it comes to our port, and as it was sent. What comes is read
//! beside the daemon, from a raw socket; nothing is answered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::peer::Peer;
use super::probe::{self, ARRIVAL};
use crate::config::{Config, Network};
use crate::doctor::facts::{Heard, Reached};
use crate::id::Transport;

const PATH: &str = "/api/v1/doctor/sip";
/// A UDP header (RFC 768).
const UDP_BYTES: usize = 8;
const PACKET_BYTES_MAX: usize = 4096;
/// How long another node waits for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What was tried, over UDP and over TCP.
pub(super) type Tried = (Vec<Heard>, Vec<Reached>);

pub(super) async fn read(config: &Config, peer: Option<&Peer>) -> Result<Tried, String> {
    let (mut heard, mut reached) = (Vec::new(), Vec::new());
    let Some(peer) = peer else {
        return Ok((heard, reached));
    };
    for network in config.networks.iter().filter(|n| probe::is_outside(n)) {
        let ports = Ports::of(config, network);
        let Some(target) = ports.target else {
            continue;
        };
        let token = probe::token()?;
        let tcp: Vec<String> = ports.tcp.iter().map(|(_, out)| out.to_string()).collect();
        let order = json!({ "token": token, "target": target.to_string(), "tcp": tcp });
        // Held while it is tried, where no daemon has them.
        let mut doors = Vec::new();
        for (local, _) in &ports.tcp {
            doors.extend(TcpListener::bind(local).await);
        }
        let socket = raw(network.address).map_err(|error| {
            format!("packets to the SIP port cannot be read: {error}: be root, or have CAP_NET_RAW")
        })?;
        let (answer, came) = tokio::join!(
            peer.order(config, PATH, order.to_string()),
            wait(&socket, network.address.is_ipv4(), &token)
        );
        let answer = answer?;
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        heard.push(Heard {
            network: network.name.clone(),
            sent_to: target,
            sent: text(&answer, "sent").unwrap_or_default(),
            came,
        });
        let tried = answer.get("tcp").and_then(Value::as_array);
        for tried in tried.into_iter().flatten() {
            reached.push(Reached {
                network: network.name.clone(),
                to: text(tried, "to").unwrap_or_default(),
                refused: text(tried, "why"),
            });
        }
    }
    Ok((heard, reached))
}

/// Where a network's SIP is reached from outside.
struct Ports {
    target: Option<SocketAddr>,
    /// Here and outside.
    tcp: Vec<(SocketAddr, SocketAddr)>,
}

impl Ports {
    fn of(config: &Config, network: &Network) -> Self {
        let serves = |local: &SocketAddr| {
            local.ip() == network.address
                || (local.ip().is_unspecified() && local.is_ipv4() == network.address.is_ipv4())
        };
        let listeners = config.sip.listen.iter().filter(|l| serves(&l.local));
        let mut this = Self {
            target: None,
            tcp: Vec::new(),
        };
        for listener in listeners {
            let port = listener.local.port();
            let told = network.advertise_port.unwrap_or(port);
            match listener.transport {
                Transport::Udp => {
                    this.target = Some(SocketAddr::new(network.advertise, told));
                }
                Transport::Tcp => {
                    let outside = SocketAddr::new(network.advertise, told);
                    this.tcp
                        .push((SocketAddr::new(network.address, port), outside));
                }
                // Its port is told nowhere else.
                Transport::Tls => {
                    let outside = SocketAddr::new(network.advertise, port);
                    this.tcp
                        .push((SocketAddr::new(network.address, port), outside));
                }
            }
        }
        this
    }
}

fn raw(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(address, 0)),
        Type::RAW,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    UdpSocket::from_std(socket.into())
}

/// The request with the token, as it came.
async fn wait(socket: &UdpSocket, is_v4: bool, token: &str) -> Result<String, String> {
    let mut buffer = [0; PACKET_BYTES_MAX];
    let heard = timeout(ARRIVAL, async {
        loop {
            let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let packet = buffer.get(..length).unwrap_or_default();
            // A raw socket of IPv4 shows the header, one of IPv6 does not.
            let header = match packet.first() {
                Some(first) if is_v4 => usize::from(first & 0x0f) * 4,
                _ => 0,
            };
            let body = packet.get(header + UDP_BYTES..).unwrap_or_default();
            let text = String::from_utf8_lossy(body);
            // Answers to it have the token too.
            if text.contains(token) && !text.starts_with("SIP/") {
                return text.into_owned();
            }
        }
    });
    heard.await.map_err(|_| "nothing came".to_owned())
}

/// Sends a request for another node's doctor; what was sent.
pub(super) async fn call(to: SocketAddr, token: &str) -> io::Result<String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    let text = request(to, socket.local_addr()?, token);
    socket.send(text.as_bytes()).await?;
    Ok(text)
}

/// Everything that such routers look at: addresses in headers, and in SDP.
fn request(to: SocketAddr, from: SocketAddr, token: &str) -> String {
    let (ip, port) = (from.ip(), from.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let sdp = format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    );
    format!(
        "OPTIONS sip:doctor@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{token}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:doctor@{from}>;tag=doctor\r\nTo: <sip:doctor@{to}>\r\n\
         Call-ID: {token}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:doctor@{from}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// Why there is no connection; none: there is one.
pub(super) async fn connect(to: SocketAddr) -> Option<String> {
    match timeout(CONNECT_MAX, TcpStream::connect(to)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".to_owned()),
    }
}
