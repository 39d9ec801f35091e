use std::net::UdpSocket as Peer;
use std::time::Duration;

use super::*;
use crate::effect::MediaKind;
use crate::engine::shard::Shards;

/// No packet on the loopback interface takes longer.
const LIMIT: Duration = Duration::from_secs(5);

/// A port of ours with a rule, the sender it lets in and the receiver it sends to.
struct Relay {
    media: Media,
    events: mpsc::Receiver<Event>,
    at: SocketAddr,
    sender: Peer,
    receiver: Peer,
}

impl Relay {
    fn new(host: &str, tos: Option<u8>) -> Self {
        Self::with(host, tos, None)
    }

    fn with(host: &str, tos: Option<u8>, hops: Option<u8>) -> Self {
        let bind = || Peer::bind((host, 0)).unwrap();
        // Ports that were free a moment ago: two of ours.
        let [at, source] = [bind(), bind()].map(|socket| socket.local_addr().unwrap());
        let (sender, receiver) = (bind(), bind());
        receiver.set_read_timeout(Some(LIMIT)).unwrap();
        batch::show_marks(&socket2::SockRef::from(&receiver), at).unwrap();
        let (events, received) = mpsc::channel(4);
        let one = Shards::new(1, [0; 16]);
        let mut media = Media::new(Queues::of(one, vec![events]));
        media.open(at, None).unwrap();
        media.open(source, None).unwrap();
        let rule = Rule {
            peer: sender.local_addr().unwrap(),
            source,
            target: receiver.local_addr().unwrap(),
            tos,
            hops,
            kind: MediaKind::Audio,
            rtcp: None,
        };
        assert!(media.install(at, rule, None));
        Self {
            media,
            events: received,
            at,
            sender,
            receiver,
        }
    }

    fn mark(&self, tos: u8, hops: u8) {
        let socket = socket2::SockRef::from(&self.sender);
        if self.at.is_ipv4() {
            socket.set_tos_v4(tos.into()).unwrap();
            socket.set_ttl_v4(hops.into()).unwrap();
        } else {
            socket.set_tclass_v6(tos.into()).unwrap();
            socket.set_unicast_hops_v6(hops.into()).unwrap();
        }
    }

    fn send(&self, packet: &[u8]) {
        self.sender.send_to(packet, self.at).unwrap();
    }

    /// The next packets that arrive, with their marks.
    fn receive(&self, packets: usize) -> Vec<(Marks, Vec<u8>)> {
        let mut received = Vec::new();
        while received.len() < packets {
            // Waits; a batch never does.
            self.receiver.peek_from(&mut [0; 1]).unwrap();
            batch::with(self.at, |batch| {
                for index in 0..batch.receive(&self.receiver).unwrap() {
                    let marks = batch.packet(index).unwrap().marks;
                    received.push((marks, batch.bytes(index).to_vec()));
                }
            });
        }
        received
    }

    async fn counted(&self, counter: fn(&Count) -> &AtomicU64, expected: u64) {
        let reached = async {
            while counter(self.media.total()).load(Ordering::Relaxed) != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }
}

const HOSTS: [&str; 2] = ["127.0.0.1", "::1"];

/// More than one batch, of every length, in order and whole.
#[tokio::test]
async fn a_burst_is_forwarded_whole() {
    for host in HOSTS {
        let relay = Relay::new(host, None);
        let burst: Vec<Vec<u8>> = (0..80_u8).map(|n| vec![n; usize::from(n) * 17]).collect();
        for packet in &burst {
            relay.send(packet);
        }
        relay.counted(|c| &c.packets, 80).await;
        let received = relay.receive(80).into_iter().map(|(_, packet)| packet);
        assert!(received.eq(burst), "{host}");
        let bytes = (0..80).map(|n| n * 17).sum();
        relay.counted(|c| &c.bytes, bytes).await;
    }
}

/// Byte of service and hop limit: the rule's, the sender's, the receiver's.
#[tokio::test]
async fn marks_are_those_the_kernel_program_writes() {
    for host in HOSTS {
        for (rule, sender, receiver) in [
            ((None, None), (0, 64), (0, 63)),
            ((None, None), (0xb9, 2), (0xb9, 1)),
            ((Some(0x88), None), (0xb9, 255), (0x89, 254)),
            ((Some(0xb8), None), (0, 9), (0xb8, 8)),
            ((None, Some(200)), (0, 2), (0, 200)),
            ((Some(0xb8), Some(1)), (0, 64), (0xb8, 1)),
        ] {
            let relay = Relay::with(host, rule.0, rule.1);
            relay.mark(sender.0, sender.1);
            relay.send(b"media");
            relay.counted(|c| &c.packets, 1).await;
            let (tos, hops) = receiver;
            let expected = vec![(Marks { tos, hops }, b"media".to_vec())];
            assert_eq!(relay.receive(1), expected, "{host} {rule:?} {sender:?}");
        }
    }
}

#[tokio::test]
async fn what_may_not_travel_further_does_not() {
    for (host, hops) in HOSTS.into_iter().zip([None, Some(64)]) {
        let relay = Relay::with(host, None, hops);
        for _ in 0..3 {
            relay.mark(0, 1);
            relay.send(b"spent");
            relay.mark(0, 64);
            relay.send(b"media");
        }
        relay.counted(|c| &c.packets, 3).await;
        relay.counted(|c| &c.hop_limit, 3).await;
        assert!(
            relay
                .receive(3)
                .iter()
                .all(|(_, packet)| packet == b"media")
        );
    }
}

/// Strangers in between reach the engine, as many as its queue holds; the peer does not wait.
#[tokio::test]
async fn strangers_are_shown_and_counted() {
    for host in HOSTS {
        let mut relay = Relay::new(host, None);
        let stranger = Peer::bind((host, 0)).unwrap();
        for _ in 0..6 {
            relay.send(b"media");
            stranger.send_to(b"stranger", relay.at).unwrap();
        }
        relay.counted(|c| &c.packets, 6).await;
        relay.counted(|c| &c.unclaimed, 6).await;
        relay.counted(|c| &c.queue_full, 2).await;
        for _ in 0..4 {
            let Some(Event::Unclaimed { from, packet, .. }) = relay.events.recv().await else {
                panic!("not a stranger's packet");
            };
            assert_eq!(
                (from, &packet[..]),
                (stranger.local_addr().unwrap(), &b"stranger"[..])
            );
        }
        assert!(
            relay
                .receive(6)
                .iter()
                .all(|(_, packet)| packet == b"media")
        );
    }
}

/// What the network refuses is counted, and keeps nothing behind it from going.
#[tokio::test]
async fn what_the_network_refuses_is_counted() {
    let relay = Relay::new("127.0.0.1", None);
    let port = relay.media.port(relay.at).unwrap();
    let mut out = port.out().unwrap();
    // Nobody sends there from a loopback address.
    out.rule.target = "192.0.2.1:9".parse().unwrap();
    port.set(Some(out));
    relay.send(b"one");
    relay.send(b"two");
    relay.counted(|c| &c.send_failed, 2).await;
    relay.counted(|c| &c.packets, 0).await;
}

/// What a rule claims crosses, whatever it is; RTCP by its own way, where there is one.
#[tokio::test]
async fn what_a_rule_claims_crosses() {
    const RTP: [u8; 12] = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    const RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];
    const STUN: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    const DTLS: [u8; 8] = [22, 0xfe, 0xff, 0, 0, 0, 0, 0];

    // An address that nothing else here uses.
    let mut relay = Relay::new("127.7.7.8", None);
    let bind = || UdpSocket::from_std(nonblocking(Peer::bind("127.7.7.8:0").unwrap())).unwrap();
    let (other, other_rtcp) = (bind(), bind());
    let apart = Peer::bind("127.7.7.8:0").unwrap().local_addr().unwrap();
    relay.media.open(apart, None).unwrap();
    let mut rule = relay.media.ports[&relay.at].port.out().unwrap().rule;
    rule.target = other.local_addr().unwrap();
    assert!(relay.media.install(relay.at, rule, None));
    for packet in [&RTP[..], &RTCP, &STUN, &DTLS] {
        relay.send(packet);
        arrives(&other, packet, rule.source).await;
    }
    rule.rtcp = Some(crate::effect::RtcpWay {
        source: apart,
        target: other_rtcp.local_addr().unwrap(),
    });
    assert!(relay.media.install(relay.at, rule, None));
    // In one burst: each goes its way, in order.
    for packet in [&RTP[..], &RTCP, &RTCP, &STUN] {
        relay.send(packet);
    }
    arrives(&other, &RTP, rule.source).await;
    arrives(&other, &STUN, rule.source).await;
    arrives(&other_rtcp, &RTCP, apart).await;
    arrives(&other_rtcp, &RTCP, apart).await;
    assert!(relay.events.try_recv().is_err());
}

async fn arrives(at: &UdpSocket, packet: &[u8], from: SocketAddr) {
    let mut buffer = [0; 64];
    let received = tokio::time::timeout(LIMIT, at.recv_from(&mut buffer)).await;
    let (length, source) = received.expect("it arrives").unwrap();
    assert_eq!((&buffer[..length], source), (packet, from));
}

fn nonblocking(socket: Peer) -> Peer {
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What comes by a link that is another network's is counted and shown to nobody.
#[tokio::test]
async fn another_networks_link_lets_nothing_in() {
    for host in ["127.0.0.1", "::1"] {
        let mut relay = Relay::new(host, None);
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        let close = |link: Link| {
            let links = Arc::new(BTreeSet::from([link]));
            relay
                .media
                .set_borders(HashMap::from([(relay.at.ip(), links)]));
        };
        close(loopback);
        relay.send(b"first");
        let stranger = Peer::bind((host, 0)).unwrap();
        stranger.send_to(b"second", relay.at).unwrap();
        let refused = || {
            let port = relay.media.port(relay.at).unwrap();
            port.count.wrong_interface.load(Ordering::Relaxed)
        };
        tokio::time::timeout(LIMIT, async {
            while refused() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(relay.events.try_recv().is_err());
        close(loopback + 1);
        relay.send(b"third");
        let came = tokio::task::spawn_blocking(move || relay.receive(1));
        assert_eq!(came.await.unwrap()[0].1, b"third");
    }
}
