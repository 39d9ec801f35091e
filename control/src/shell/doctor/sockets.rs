//! Sockets in our ports, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::files;
use crate::config::Config;
use crate::doctor::facts::Socket;

/// State of a listening TCP socket (`enum` of net/tcp_states.h).
const LISTEN: &str = "0A";

pub(super) fn read(config: &Config) -> Result<Vec<Socket>, String> {
    let mut found: Vec<(u64, Socket)> = Vec::new();
    for (file, tcp) in [
        ("udp", false),
        ("udp6", false),
        ("tcp", true),
        ("tcp6", true),
    ] {
        let path = format!("/proc/self/net/{file}");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let lines = text.lines().skip(1).filter_map(|text| line(text, tcp));
        found.extend(lines.filter(|(_, socket)| concerns(config, socket)));
    }
    if !found.is_empty() {
        let wanted: BTreeSet<u64> = found.iter().map(|(inode, _)| *inode).collect();
        let owners = owners(&wanted);
        for (inode, socket) in &mut found {
            if let Some((pid, name)) = owners.get(inode) {
                socket.owner = Some(format!("{name} (process {pid})"));
                socket.pid = Some(*pid);
            }
        }
    }
    // Those of this process are probes, or the daemon's own.
    let own = Some(std::process::id());
    let sockets = found.into_iter().map(|(_, socket)| socket);
    Ok(sockets.filter(|socket| socket.pid != own).collect())
}

fn concerns(config: &Config, socket: &Socket) -> bool {
    let port = socket.at.port();
    let listens = config
        .sip
        .listen
        .iter()
        .any(|listener| listener.local.port() == port);
    let ranges = config.networks.iter().map(|network| network.media_ports);
    listens
        || (!socket.tcp
            && ranges
                .into_iter()
                .any(|r| (r.first..=r.last).contains(&port)))
}

/// `  12: 0100007F:13C4 00000000:0000 07 … inode` (proc(5)).
fn line(text: &str, tcp: bool) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if tcp && *fields.get(3)? != LISTEN {
        return None;
    }
    let at = address(fields.get(1)?)?;
    let inode = fields.get(9)?.parse().ok()?;
    let socket = Socket {
        tcp,
        at,
        owner: None,
        pid: None,
    };
    Some((inode, socket))
}

/// Words of four bytes in the order of this machine, each in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = if ip.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?);
        ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
    };
    Some(SocketAddr::new(ip, port))
}

/// The process of each socket, as far as it may be seen.
fn owners(wanted: &BTreeSet<u64>) -> BTreeMap<u64, (u32, String)> {
    let mut owners = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let links = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        for link in links {
            let Ok(target) = fs::read_link(link.path()) else {
                continue;
            };
            let inode = target.to_str().and_then(|target| {
                let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
                inode.parse::<u64>().ok()
            });
            if let Some(inode) = inode.filter(|inode| wanted.contains(inode)) {
                let name = files::line(format!("/proc/{pid}/comm")).unwrap_or_default();
                owners.insert(inode, (pid, name));
            }
        }
        if owners.len() == wanted.len() {
            break;
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let text = "  12: 0100000A:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 2 0000000000000000 0";
        let (inode, socket) = line(text, false).unwrap();
        assert_eq!((inode, socket.at), (4711, "10.0.0.1:5060".parse().unwrap()));
        assert_eq!(line(text, true), None, "not listening");
        let mapped = "0000000000000000FFFF00000100000A:13C4";
        assert_eq!(address(mapped), "10.0.0.1:5060".parse().ok());
        let v6 = "B80D0120000000000000000001000000:13C4";
        assert_eq!(address(v6), "[2001:db8::1]:5060".parse().ok());
    }
}
