//! What is known about a stream is what was sent, whoever forwards it.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use serde_json::Value;
use towpath_tests::clock;
use towpath_tests::http;
use towpath_tests::lab::{Parts, Role};
use towpath_tests::rtp::Stream;

use super::stage::{Between, LAN, LIMIT, Mode, Net, Stage, WAN};

/// 20 ms apart: an hour of voice has no other rate.
const EVERY: Duration = Duration::from_millis(20);
const PACKETS: u32 = 200;
/// Not sent.
const MISSING: [u32; 7] = [20, 50, 51, 52, 90, 91, 150];
/// Sent after the one that follows.
const LATE: u32 = 120;
const SSRC: u32 = 0x0bad_cafe;
/// What the LAN's packets leave with.
const HOPS: i32 = 17;

fn quality(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::with(mode, &parts, |config| {
        let lan = Net {
            more: "hop_limit = 17\n",
            ..LAN
        };
        config.networks = vec![WAN, lan];
    });
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c1, &c3, mode.path());
    let before = stream(&stage, &call);
    let hops = hops_of_a_flawed_stream(&call);
    assert!(
        hops.len() > 100 && hops.iter().all(|hops| *hops == HOPS),
        "{hops:?}"
    );

    let after = clock::until("the account of the stream", LIMIT, || {
        let after = stream(&stage, &call);
        let whole = after["received"].as_u64() == Some(sent(&before));
        Ok(whole.then_some(after))
    })
    .unwrap();
    let more = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert_eq!(after["ssrc"], "0x0badcafe", "{after}");
    assert_eq!(more("ssrc_changes"), 1, "{after}");
    assert_eq!(more("lost"), MISSING.len() as u64, "{after}");
    assert_eq!(more("reordered"), 1, "{after}");
    // Its clock was found, and the machine was not a second late.
    let jitter = after["jitter_us"].as_u64().unwrap();
    assert!(jitter < 1_000_000, "{after}");

    counted(&stage);
    events(&stage);
    call.hang_up();
    stage.is_empty();
}

/// Everything received by then.
fn sent(before: &Value) -> u64 {
    before["received"].as_u64().unwrap() + u64::from(PACKETS) - MISSING.len() as u64
}

/// c1's stream, as its call shows it.
fn stream(stage: &Stage, call: &Between<'_>) -> Value {
    let calls = stage.towpath.get("/api/v1/calls").unwrap();
    let ours = |c: &&Value| c["call_id"] == call.dialog.id.as_str();
    let call = calls["calls"]
        .as_array()
        .unwrap()
        .iter()
        .find(ours)
        .unwrap();
    let flows = call["flows"].as_array().unwrap().iter();
    let mut media = flows.filter(|f| f["leg"] == "caller" && f["component"] == "rtp");
    media.next().unwrap()["stream"].clone()
}

/// c1 sends another source's packets, some missing, one late; the hop limits they arrive with.
fn hops_of_a_flawed_stream(call: &Between<'_>) -> Vec<i32> {
    let (from, to) = (call.caller.rtp.socket(), call.callee.rtp.socket());
    let (from, to): (UdpSocket, UdpSocket) = (from.unwrap(), to.unwrap());
    setsockopt(&to, sockopt::Ipv4RecvTtl, &true).unwrap();
    let stream = Stream {
        every: EVERY,
        ..Stream::voice(SSRC, PACKETS)
    };
    let mut order: Vec<u32> = (0..PACKETS).filter(|n| !MISSING.contains(n)).collect();
    let late = order.iter().position(|n| *n == LATE).unwrap();
    order.swap(late, late + 1);
    let begin = clock::now();
    let mut hops = Vec::new();
    for number in order {
        clock::wait_until(begin + EVERY * number);
        let target = call.dialog.caller_sends_to;
        from.send_to(&stream.packet(number), target).unwrap();
        hops.extend(arrived(&to));
    }
    hops
}

/// Hop limits of what waits at a socket.
fn arrived(socket: &UdpSocket) -> Vec<i32> {
    let mut hops = Vec::new();
    loop {
        let mut buffer = [0; 2048];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(i32);
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
        else {
            return hops;
        };
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::Ipv4Ttl(ttl) = control {
                hops.push(ttl);
            }
        }
    }
}

/// The sums of `/metrics` follow within a second.
fn counted(stage: &Stage) {
    let path = stage.mode.path();
    let carried = |direction: &str, network: &str| {
        let labels = format!("network=\"{network}\",direction=\"{direction}\"");
        format!("towpath_rtp_packets_total{{{labels},kind=\"audio\",path=\"{path}\"}}")
    };
    let lost = "towpath_rtp_received_total{network=\"wan\",kind=\"audio\",result=\"lost\"}";
    let wanted = [
        (lost.to_owned(), MISSING.len() as f64),
        (carried("in", "wan"), f64::from(PACKETS - 10)),
        (carried("out", "lan"), f64::from(PACKETS - 10)),
    ];
    let mut text = String::new();
    let counted = clock::until("the sums", LIMIT, || {
        text = http::text(stage.towpath.socket(), "/metrics")?;
        let of = |series: &str| {
            let line = text.lines().find(|line| line.starts_with(series))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        let mut all = wanted.iter();
        let all = all.all(|(series, least)| of(series).is_some_and(|found| found >= *least));
        Ok(all.then_some(()))
    });
    assert!(counted.is_ok(), "{text}");
}

/// The first packets and the other source were told, each once.
fn events(stage: &Stage) {
    let mut last = Value::Null;
    let told = clock::until("the events of the call's media", LIMIT, || {
        last = stage.towpath.get("/api/v1/events")?;
        let events = &last;
        let events = events["events"].as_array().unwrap();
        let of = |kind: &str| events.iter().filter(|e| e["kind"] == kind).count();
        let told = (of("media.first"), of("media.source"));
        Ok((told == (2, 1)).then_some(()))
    });
    assert!(told.is_ok(), "{last:#}");
}

#[test]
fn loss_order_and_hops_are_what_was_sent_in_the_kernel() {
    quality(Mode::Xdp);
}

#[test]
fn loss_order_and_hops_are_what_was_sent_in_userspace() {
    quality(Mode::Userspace);
}
