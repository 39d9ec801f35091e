//! What one binding, one call and a full outbox take of memory, counted octet by octet.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "footprint/call.rs"]
mod call;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use control::bus::{Publication, Qos};
use control::effect::Effects;
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::outbox::{Limits, MESSAGE_OVERHEAD, Outbox};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

/// What a binding may take.
const BINDING_BYTES_MAX: usize = 1_500;
const BINDINGS: usize = 8_000;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is the system allocator's, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        block(layout.size()).fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        block(layout.size()).fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Live blocks by their size, the largest together.
static BLOCKS: [AtomicUsize; BLOCK_BYTES_MAX + 1] =
    [const { AtomicUsize::new(0) }; BLOCK_BYTES_MAX + 1];
const BLOCK_BYTES_MAX: usize = 4_096;

#[allow(clippy::indexing_slicing, reason = "no larger than its last")]
fn block(size: usize) -> &'static AtomicUsize {
    &BLOCKS[size.min(BLOCK_BYTES_MAX)]
}

fn blocks() -> Vec<usize> {
    BLOCKS
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect()
}

/// Prints which blocks there are more of, for each of so many things.
fn show(before: &[usize], things: usize) {
    for (size, (now, before)) in blocks().iter().zip(before).enumerate() {
        let more = now.saturating_sub(*before) as f64 / things as f64;
        if more >= 0.05 {
            eprintln!("{:8.0} octets: {more:.2} of {size}", more * size as f64);
        }
    }
}

/// All of the process is counted: one after the other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn an_outbox_at_its_bounds_takes_what_they_say() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = Limits {
        messages: 65_536,
        bytes: 64 << 20,
        window: 100,
    };
    let now = clock::now();
    let before = LIVE.load(Ordering::Relaxed);
    let mut outbox = Outbox::new(limits);
    let topic = "towpath/v1/s/edge-01/evt/call";
    let octets = limits.bytes / limits.messages - topic.len() - MESSAGE_OVERHEAD;
    for _ in 0..limits.messages {
        let publication = Publication {
            topic: topic.to_owned(),
            payload: vec![b'x'; octets].into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            expiry: Some(Duration::from_secs(3600)),
        };
        // Its records go to the store.
        let mut effects = Vec::new();
        outbox.push(publication, now, &mut effects).unwrap();
    }
    assert_eq!(
        (outbox.len(), outbox.bytes()),
        (limits.messages, limits.bytes)
    );
    let taken = LIVE.load(Ordering::Relaxed) - before;
    println!(
        "{} MiB for {} messages of {octets} octets",
        taken >> 20,
        limits.messages
    );
    assert!(taken <= limits.bytes + limits.bytes / 10, "{taken}");
}

#[test]
fn a_binding_is_small() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config = parsed(
        "[sip]\ndomain = 'example.com'\nauth = 'none'\nexpires_natted_max = '1h'\n\
         [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.9'\n\
         keepalive = 'off'\n",
    );
    let start = clock::now();
    let mut engine = Engine::new(config, [1; 32], start);
    // The ring of events is full, and tables have had their first allocations.
    let start = register(&mut engine, 0..BINDINGS, start);
    let before = LIVE.load(Ordering::Relaxed);
    register(&mut engine, BINDINGS..2 * BINDINGS, start);
    let after = LIVE.load(Ordering::Relaxed);
    assert_eq!(engine.totals().registrations, 2 * BINDINGS);
    assert_eq!(engine.totals().transactions, 0);
    let each = (after - before) / BINDINGS;
    println!("{each} octets for each binding");
    assert!(each <= BINDING_BYTES_MAX, "{each} octets");
    assert!(each > 300, "{each} octets are too few to be true");
}

/// What a phone behind NAT sends, with all a binding keeps. Returns when its transactions are over.
fn register(engine: &mut Engine, users: std::ops::Range<usize>, now: Instant) -> Instant {
    let on = Listener {
        transport: Transport::Udp,
        local: "203.0.113.9:5060".parse().unwrap(),
    };
    for user in users {
        let port = 1_024 + user;
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK{user}\r\nMax-Forwards: 70\r\n\
             From: <sip:user{user}@example.com>;tag=f\r\nTo: <sip:user{user}@example.com>\r\n\
             Call-ID: {user}-0123456789abcdef0123456789abcdef@192.168.1.10\r\n\
             CSeq: 1 REGISTER\r\n\
             Contact: <sip:user{user}-0x55d0c0ffee@192.168.1.10:5060;transport=udp;ob>;\
             +sip.instance=\"<urn:uuid:{user:08x}-0000-1000-8000-000a95a0e128>\";reg-id=1\r\n\
             User-Agent: Example Room System 4.21.7 (build 1234)\r\nExpires: 3600\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let input = Input::Sip {
            on,
            from: ([198, 51, 100, 7], u16::try_from(port).unwrap()).into(),
            bytes: text.into(),
        };
        engine.handle(input, now, &mut Effects::new());
    }
    rest(engine, now)
}

/// Lets the time pass that transactions take to end.
fn rest(engine: &mut Engine, now: Instant) -> Instant {
    let end = now + Duration::from_secs(40);
    while engine.next_timeout() <= end {
        let next = engine.next_timeout();
        engine.expire(next, &mut Effects::new());
    }
    end
}
