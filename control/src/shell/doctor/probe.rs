//! Packets to our own advertised addresses: from here (hairpin), and from a second node that is
//! asked to knock. A knock is one small packet with the token of whoever asked for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::peer::Peer;
use crate::config::{Config, Network};
use crate::doctor::facts::Arrival;
use crate::doctor::outer_port;
use crate::shell::clock;
use crate::shell::hex::hex;

/// Ports tried beside the first and the last.
const SAMPLED: u16 = 16;
/// How long a packet may take from there to here, with an order that had to wait for another.
pub(super) const ARRIVAL: Duration = Duration::from_secs(3);
/// How often a knock is repeated: one may be lost.
const KNOCKS: usize = 2;

/// A port of ours that waits to be knocked at.
struct Door {
    network: String,
    socket: UdpSocket,
    outside: SocketAddr,
}

/// First, last, and some between, of those that are free.
async fn doors(network: &Network, between: u16) -> Vec<Door> {
    let (first, last) = (network.media_ports.first, network.media_ports.last);
    let step = (last - first) / (between + 1);
    let mut ports = vec![first, last];
    if step > 0 {
        ports.extend((1..=between).map(|n| first + n * step));
    }
    ports.sort_unstable();
    ports.dedup();
    let mut doors = Vec::new();
    for port in ports {
        let at = SocketAddr::new(network.address, port);
        // One that a call has is not ours to try.
        if let Ok(socket) = UdpSocket::bind(at).await {
            doors.push(Door {
                network: network.name.clone(),
                socket,
                outside: SocketAddr::new(network.advertise_media, outer_port(network, port)),
            });
        }
    }
    doors
}

pub(super) async fn hairpin(config: &Config) -> Result<Vec<Arrival>, String> {
    let mut arrivals = Vec::new();
    let elsewhere = |network: &&Network| network.advertise_media != network.address;
    for network in config.networks.iter().filter(elsewhere) {
        let token = token()?;
        let sender = UdpSocket::bind(SocketAddr::new(network.address, 0)).await;
        let sender = sender.map_err(|error| format!("{}: {error}", network.address))?;
        let doors = doors(network, 0).await;
        for door in &doors {
            for _ in 0..KNOCKS {
                // Not sent is not arrived.
                drop(sender.send_to(token.as_bytes(), door.outside).await);
            }
        }
        arrivals.extend(waited(doors, &token).await);
    }
    Ok(arrivals)
}

pub(super) async fn inbound(config: &Config, peer: Option<Peer>) -> Result<Vec<Arrival>, String> {
    let Some(peer) = peer else {
        return Ok(Vec::new());
    };
    let mut arrivals = Vec::new();
    for network in config.networks.iter().filter(|n| is_outside(n)) {
        let (token, doors) = (token()?, doors(network, SAMPLED).await);
        let targets: Vec<String> = doors.iter().map(|door| door.outside.to_string()).collect();
        if targets.is_empty() {
            continue;
        }
        let order = json!({ "token": token, "targets": targets }).to_string();
        let knocks = peer.order(config, "/api/v1/doctor/knock", order);
        let (answer, found) = tokio::join!(knocks, waited(doors, &token));
        answer?;
        arrivals.extend(found);
    }
    Ok(arrivals)
}

/// Whether its peers are where a second node may stand.
pub(super) fn is_outside(network: &Network) -> bool {
    network.advertise_media != network.address
        || network.peers.iter().any(|net| net.prefix_len() == 0)
}

/// Whether the token comes to each of them in time.
async fn waited(doors: Vec<Door>, token: &str) -> Vec<Arrival> {
    let mut set = JoinSet::new();
    for door in doors {
        let token = token.to_owned();
        set.spawn(async move {
            let expected_at = door.socket.local_addr();
            let expected_at = expected_at.unwrap_or(door.outside);
            let mut buffer = [0; 256];
            let heard = timeout(ARRIVAL, async {
                loop {
                    let Ok((length, from)) = door.socket.recv_from(&mut buffer).await else {
                        continue;
                    };
                    if buffer.get(..length) == Some(token.as_bytes()) {
                        return from;
                    }
                }
            });
            Arrival {
                network: door.network,
                sent_to: door.outside,
                expected_at,
                arrived: heard.await.map_err(|_| "nothing came".to_owned()),
            }
        });
    }
    let mut arrivals = set.join_all().await;
    arrivals.sort_by_key(|arrival| (arrival.network.clone(), arrival.expected_at));
    arrivals
}

/// What nobody can guess, in letters.
pub(super) fn token() -> Result<String, String> {
    let seed = clock::seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(format!("{TOKEN_PREFIX}{}", hex(&seed)))
}

/// What every token begins with: the packet says what it is.
pub(crate) const TOKEN_PREFIX: &str = "towpath-knock-";

pub(super) async fn knock(to: SocketAddr, token: &str) -> std::io::Result<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    for _ in 0..KNOCKS {
        socket.send_to(token.as_bytes(), to).await?;
    }
    Ok(())
}
