//! `towpath bench`: both paths at work, in a network of their own. Nothing of the host is touched.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkUnspec;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::effect::{MediaKind, Rule};
use crate::engine::shard::Shards;
use crate::shell::clock;
use crate::shell::kernel::costs;
use crate::shell::media::Media;
use crate::shell::object;
use crate::shell::shard::Queues;

/// Sent before what was sent arrives.
const BURST: usize = 32;
/// G.711, 20 ms.
const PACKET_BYTES: usize = 172;
/// A burst that has not come by then never will.
const ARRIVAL: Duration = Duration::from_millis(500);

/// Measures for so long, and describes what came of it.
///
/// # Errors
/// No right to make namespaces, or a path that does not forward at all.
pub fn bench(object: Option<&Path>, time: Duration) -> anyhow::Result<Value> {
    let kernel = match object::bytes(object).and_then(|object| Ok(costs(&object)?)) {
        Ok(costs) => {
            let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let costs = costs
                .iter()
                .map(|cost| json!({ "packet": cost.packet, "ns": ns(cost.time) }));
            json!({ "works": true, "why": null, "costs": costs.collect::<Vec<_>>() })
        }
        Err(why) => json!({ "works": false, "why": format!("{why:#}"), "costs": [] }),
    };
    let line = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let load = line("/proc/loadavg");
    // A thread's network goes with it.
    let user = thread::spawn(move || userspace(time));
    let user = match user.join() {
        Ok(measured) => measured?,
        Err(_) => bail!("the userspace path broke down"),
    };
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "linux": line("/proc/sys/kernel/osrelease"),
        "load_1min": load.split(' ').next(),
        "kernel": kernel,
        "user": user,
    }))
}

/// Packets from a socket through the daemon's path to another socket, over a loopback interface
/// of our own, all on one thread.
fn userspace(time: Duration) -> anyhow::Result<Value> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network of our own: be root")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loopback_up().await.context("the loopback interface")?;
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (sender, receiver) = (bind().await?, bind().await?);
        let (queues, _kept) = Queues::new(Shards::new(1, [0; 16]));
        let mut media = Media::new(queues);
        let [at, source] =
            [30_000, 20_000].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        media.open(at, None)?;
        media.open(source, None)?;
        let rule = Rule {
            peer: sender.local_addr()?,
            source,
            target: receiver.local_addr()?,
            tos: None,
            hops: None,
            kind: MediaKind::Audio,
            rtcp: None,
        };
        media.install(at, rule, None);
        let begin = clock::now();
        let (sent, arrived) = bursts(&sender, &receiver, at, begin + time).await?;
        let passed = begin.elapsed();
        if arrived == 0 {
            bail!("no packet was forwarded in userspace");
        }
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        let ns = passed / arrived;
        Ok(json!({
            "packets": sent, "lost": sent - arrived,
            "packets_per_s": 1_000_000_000_u64.checked_div(ns), "ns": ns,
        }))
    })
}

/// Packets sent and arrived.
async fn bursts(
    sender: &UdpSocket,
    receiver: &UdpSocket,
    at: SocketAddr,
    until: Instant,
) -> anyhow::Result<(u64, u64)> {
    let mut packet = [0x55; PACKET_BYTES];
    packet[..2].copy_from_slice(&[0x80, 0]);
    let mut buffer = [0; PACKET_BYTES];
    let (mut sent, mut arrived) = (0_u64, 0);
    while clock::now() < until {
        for _ in 0..BURST {
            let [high, low] = u16::try_from(sent & 0xffff)?.to_be_bytes();
            packet[2..4].copy_from_slice(&[high, low]);
            sender.send_to(&packet, at).await?;
            sent += 1;
        }
        for _ in 0..BURST {
            match timeout(ARRIVAL, receiver.recv(&mut buffer)).await {
                Ok(received) => arrived += u64::from(received? == PACKET_BYTES),
                Err(_) => break,
            }
        }
    }
    Ok((sent, arrived))
}

async fn loopback_up() -> anyhow::Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut links = handle.link().get().match_name("lo".to_owned()).execute();
    let lo = links.try_next().await?.context("there is none")?;
    let up = LinkUnspec::new_with_index(lo.header.index).up().build();
    handle.link().set(up).execute().await?;
    Ok(())
}
