//! What STUN servers see of our media ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Config, Network};
use crate::doctor::facts::Observed;
use crate::doctor::sample::ports;
use crate::doctor::stun::{RETRANSMIT_MS, TRANSACTION_BYTES, mapped, request};
use crate::shell::clock;

/// Networks whose peers are elsewhere: what others see of them is what counts.
const NETWORKS_MAX: usize = 4;
const SERVERS_MAX: usize = 4;
/// `stun:` without a port (RFC 8489 §18.6).
const PORT: u16 = 3478;

pub(super) async fn read(config: &Config, servers: &[String]) -> Result<Vec<Observed>, String> {
    let mut asked = Vec::new();
    for server in servers.iter().take(SERVERS_MAX) {
        let server = server.strip_prefix("stun:").unwrap_or(server);
        let address: SocketAddr = match server.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => resolve(server).await?,
        };
        asked.push(address);
    }
    let outside = |network: &&Network| {
        network.advertise_media != network.address
            || network.peers.iter().any(|net| net.prefix_len() == 0)
    };
    let mut set = JoinSet::new();
    for network in config.networks.iter().filter(outside).take(NETWORKS_MAX) {
        for port in ports(network.media_ports) {
            let (name, local) = (network.name.clone(), SocketAddr::new(network.address, port));
            let asked: Vec<SocketAddr> = asked
                .iter()
                .filter(|server| server.is_ipv4() == local.is_ipv4())
                .copied()
                .collect();
            set.spawn(port_seen(name, local, asked));
        }
    }
    Ok(set.join_all().await.into_iter().flatten().collect())
}

async fn resolve(server: &str) -> Result<SocketAddr, String> {
    let named = match server.parse::<IpAddr>() {
        Ok(ip) => return Ok(SocketAddr::new(ip, PORT)),
        Err(_) if server.contains(':') => server.to_owned(),
        Err(_) => format!("{server}:{PORT}"),
    };
    let found = lookup_host(&named).await;
    let mut found = found.map_err(|error| format!("STUN server {named}: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("STUN server {named}: no address"))
}

/// One port asks every server from one socket: a router keeps one mapping for it, or one each.
async fn port_seen(network: String, local: SocketAddr, servers: Vec<SocketAddr>) -> Vec<Observed> {
    let mut seen = Vec::new();
    let socket = UdpSocket::bind(local).await;
    for server in servers {
        let mapped = match &socket {
            Ok(socket) => ask(socket, server).await,
            Err(error) => Err(format!("{local}: {error}")),
        };
        seen.push(Observed {
            network: network.clone(),
            server,
            local,
            mapped,
        });
    }
    seen
}

async fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<SocketAddr, String> {
    let mut transaction = [0; TRANSACTION_BYTES];
    let seed = clock::seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    for (byte, random) in transaction.iter_mut().zip(seed) {
        *byte = random;
    }
    let message = request(transaction);
    let mut buffer = [0; 1500];
    for wait in RETRANSMIT_MS {
        let sent = socket.send_to(&message, server).await;
        sent.map_err(|error| format!("cannot send to {server}: {error}"))?;
        let answer = timeout(Duration::from_millis(wait), async {
            loop {
                // A router's refusal (ICMP) shows here too: the next attempt may get through.
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let found = buffer.get(..length).and_then(|m| mapped(m, transaction));
                if let (Some(found), true) = (found, from.ip() == server.ip()) {
                    return found;
                }
            }
        });
        if let Ok(found) = answer.await {
            return Ok(found);
        }
    }
    Err("no answer".to_owned())
}
