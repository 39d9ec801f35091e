//! Conferences that come and go, as clients and the API make them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::generator::Link;
use crate::http;
use crate::mqtt::wire::Writer;

/// What is retained of each.
const TOPICS: [&str; 3] = ["state", "roster/1001", "floor/audio"];
const STATE: &str = "{\"v\":1,\"epoch\":1,\"rev\":1,\"data\":{\"holders\":[],\"queue\":[]}}";

/// The topics of so many conferences: somebody subscribes, they are published and cleared, and it
/// unsubscribes.
pub(super) fn topics(to: SocketAddr, conferences: u32) -> Result<()> {
    let mut link = Link::connect(to, "churn")?;
    for conference in 0..conferences {
        let mut subscribe = Writer::default();
        subscribe.short(1);
        subscribe.text(&format!("bench/c{conference}/#"));
        subscribe.byte(1);
        link.output.extend(subscribe.packet(0x82));
        publish(&mut link, conference, STATE);
        link.flush()?;
        // What it publishes comes to itself, after the acknowledgement or before it.
        told(&mut link, 2 * TOPICS.len() + 1)?;
        publish(&mut link, conference, "");
        link.flush()?;
        told(&mut link, 2 * TOPICS.len())?;
        let mut unsubscribe = Writer::default();
        unsubscribe.short(1);
        unsubscribe.text(&format!("bench/c{conference}/#"));
        link.output.extend(unsubscribe.packet(0xa2));
        link.flush()?;
        told(&mut link, 1)?;
    }
    Ok(())
}

fn publish(link: &mut Link, conference: u32, payload: &str) {
    for (pkid, topic) in (1..).zip(TOPICS) {
        let mut packet = Writer::default();
        packet.text(&format!("bench/c{conference}/{topic}"));
        packet.short(pkid);
        packet.0.extend(payload.as_bytes());
        link.output.extend(packet.packet(0x33));
    }
}

/// Waits for so many packets.
fn told(link: &mut Link, packets: usize) -> Result<()> {
    let mut came = 0;
    link.until(|_| {
        came += 1;
        came == packets
    })
}

/// So many conferences of ours, made and ended over the API.
pub(super) fn conferences(socket: &Path, count: u32) -> Result<()> {
    for number in 0..count {
        let uri = format!("{{\"uri\":\"8{number:06}\"}}");
        let path = "/api/v1/conferences";
        let json = "Content-Type: application/json\r\n";
        let made = http::send(socket, "POST", path, json, &uri)?;
        let cid = made.body.get("cid").and_then(|cid| cid.as_str());
        let cid = cid.with_context(|| format!("no conference was made: {}", made.body))?;
        let ended = http::send(socket, "DELETE", &format!("{path}/{cid}"), "", "")?;
        ensure!(ended.status < 300, "{cid} did not end: {}", ended.body);
    }
    Ok(())
}
