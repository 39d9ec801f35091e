//! Media over TCP (RFC 4145): a connection from one party is joined to one we make to the other,
//! and bytes go both ways until either ends, the line is silent for too long, or the call is over.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::effect::JoinRule;
use crate::shell::clock;
use crate::shell::device::Link;

/// What a line may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time: a party that lost one may come again before we notice.
    connections: usize,
    /// To reach the other party.
    connect: Duration,
    /// Without a byte in either direction. BFCP asks for life every few minutes at the latest.
    idle: Duration,
    /// A receiver that takes nothing.
    stall: Duration,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        connections: 4,
        connect: Duration::from_secs(10),
        idle: Duration::from_secs(3600),
        stall: Duration::from_secs(30),
    };
}

/// Bytes read at once, for each direction of a connection.
const BUFFER_BYTES: usize = 8 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 8;
/// How long to wait when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Every address listened at.
pub(crate) struct Streams {
    limits: Limits,
    lines: HashMap<SocketAddr, Line>,
}

/// The links to either party, where the routing table could not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    pub(crate) inward: Option<Link>,
    pub(crate) outward: Option<Link>,
}

struct Line {
    rule: watch::Sender<(JoinRule, Links)>,
    task: AbortHandle,
}

impl Streams {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: HashMap::new(),
        }
    }

    /// Listens, or replaces the rule where it does already.
    pub(crate) fn listen(
        &mut self,
        at: SocketAddr,
        rule: JoinRule,
        links: Links,
    ) -> io::Result<()> {
        if let Some(line) = self.lines.get(&at) {
            line.rule.send_replace((rule, links));
            return Ok(());
        }
        let listener = bind(at, links.inward)?.listen(BACKLOG)?;
        let (rule, watched) = watch::channel((rule, links));
        let task = tokio::spawn(serve(listener, watched, self.limits)).abort_handle();
        self.lines.insert(at, Line { rule, task });
        Ok(())
    }

    /// Its connections end with it.
    pub(crate) fn unlisten(&mut self, at: SocketAddr) {
        if let Some(line) = self.lines.remove(&at) {
            line.task.abort();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, rule: watch::Receiver<(JoinRule, Links)>, limits: Limits) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let (rule, links) = rule.borrow().clone();
                    let allowed = admits(&rule, from.ip());
                    if allowed && connections.len() < limits.connections {
                        connections.spawn(join(stream, from, rule, links, limits));
                    } else {
                        let full = allowed;
                        tracing::debug!(%from, full, "a connection to a media port is refused");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to a media port");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(stream: TcpStream, from: SocketAddr, rule: JoinRule, links: Links, limits: Limits) {
    let other = match timeout(limits.connect, connect(&rule, links.outward)).await {
        Ok(Ok(other)) => other,
        Ok(Err(error)) => {
            tracing::warn!(to = %rule.to, %error, "cannot reach a party that waits for TCP");
            return;
        }
        Err(_) => {
            tracing::warn!(to = %rule.to, "a party that waits for TCP does not answer");
            return;
        }
    };
    match splice(stream, other, limits).await {
        Ok(()) => tracing::debug!(%from, to = %rule.to, "a media connection ended"),
        Err(error) => tracing::debug!(%from, to = %rule.to, %error, "a media connection broke"),
    }
}

/// Both directions until both are closed; the end of one is passed on.
async fn splice(mut a: TcpStream, mut b: TcpStream, limits: Limits) -> io::Result<()> {
    for stream in [&a, &b] {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_keepalive(true)?;
    }
    let began = clock::now();
    let moved = Moved {
        began,
        last_ms: AtomicU64::new(0),
    };
    let ((from_a, to_a), (from_b, to_b)) = (a.split(), b.split());
    let there = pump(from_a, to_b, &moved, limits);
    let back = pump(from_b, to_a, &moved, limits);
    tokio::try_join!(there, back).map(|_| ())
}

/// When a connection last carried something, either way.
struct Moved {
    began: std::time::Instant,
    last_ms: AtomicU64,
}

impl Moved {
    fn now(&self) {
        let ms = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.age().saturating_sub(last)
    }

    fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }
}

async fn pump(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    moved: &Moved,
    limits: Limits,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let left = limits.idle.saturating_sub(moved.idle());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The other direction may have moved meanwhile: look again.
        let Ok(read) = timeout(left, from.read(&mut buffer)).await else {
            continue;
        };
        let bytes = buffer.get(..read?).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        moved.now();
        timeout(limits.stall, to.write_all(bytes)).await??;
    }
}

fn admits(rule: &JoinRule, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    rule.accept.iter().any(|prefix| prefix.contains(&ip))
}

async fn connect(rule: &JoinRule, link: Option<Link>) -> io::Result<TcpStream> {
    let from = SocketAddr::new(rule.from, 0);
    bind(from, link)?.connect(rule.to).await
}

fn bind(at: SocketAddr, link: Option<Link>) -> io::Result<TcpSocket> {
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A port that rests after another call may still know its connections.
    socket.set_reuseaddr(true)?;
    if let Some(link) = link.and_then(NonZeroU32::new) {
        let socket = SockRef::from(&socket);
        match at {
            SocketAddr::V4(_) => socket.bind_device_by_index_v4(Some(link))?,
            SocketAddr::V6(_) => socket.bind_device_by_index_v6(Some(link))?,
        }
    }
    socket.bind(at)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// One party listens, the other connects to us; both ends are real sockets.
    struct Stage {
        streams: Streams,
        waiting: TcpListener,
        at: SocketAddr,
        rule: JoinRule,
    }

    impl Stage {
        async fn new(accept: &str, limits: Limits) -> Self {
            let waiting = TcpListener::bind(HERE).await.unwrap();
            // A free port: bound once, and let go.
            let at = TcpListener::bind(HERE).await.unwrap().local_addr().unwrap();
            let rule = JoinRule {
                accept: vec![accept.parse().unwrap()],
                from: HERE.ip(),
                to: waiting.local_addr().unwrap(),
            };
            let mut streams = Streams::new(limits);
            streams.listen(at, rule.clone(), Links::default()).unwrap();
            Self {
                streams,
                waiting,
                at,
                rule,
            }
        }

        async fn call(&self) -> (TcpStream, TcpStream) {
            let caller = TcpStream::connect(self.at).await.unwrap();
            let accepted = timeout(PATIENCE, self.waiting.accept()).await;
            (
                caller,
                accepted
                    .expect("the party that waits is reached")
                    .unwrap()
                    .0,
            )
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);
    const ANYBODY: &str = "127.0.0.0/8";

    async fn is_over(stream: &mut TcpStream) -> bool {
        let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let stage = Stage::new(ANYBODY, Limits::DEFAULT).await;
        let (mut active, mut passive) = stage.call().await;
        // More than the buffer holds, both at once.
        let (there, back) = (vec![1; 300_000], vec![2; 200_000]);
        let (mut at_passive, mut at_active) = (vec![0; there.len()], vec![0; back.len()]);
        {
            let (mut from_active, mut to_active) = active.split();
            let (mut from_passive, mut to_passive) = passive.split();
            let moved = tokio::join!(
                to_active.write_all(&there),
                to_passive.write_all(&back),
                from_passive.read_exact(&mut at_passive),
                from_active.read_exact(&mut at_active),
            );
            assert!(moved.0.is_ok() && moved.1.is_ok() && moved.2.is_ok() && moved.3.is_ok());
        }
        assert!(at_passive == there && at_active == back);
        // The end of one direction is passed on, the other one goes on.
        active.shutdown().await.unwrap();
        assert!(is_over(&mut passive).await);
        passive.write_all(b"bye").await.unwrap();
        let mut last = [0; 3];
        active.read_exact(&mut last).await.unwrap();
        assert_eq!(&last, b"bye");
        drop(passive);
        assert!(is_over(&mut active).await);
    }

    #[tokio::test]
    async fn strangers_are_turned_away() {
        let mut stage = Stage::new("192.0.2.1/32", Limits::DEFAULT).await;
        let mut stranger = TcpStream::connect(stage.at).await.unwrap();
        assert!(is_over(&mut stranger).await);
        // The rule changes under the listener.
        stage.rule.accept = vec![ANYBODY.parse().unwrap()];
        stage
            .streams
            .listen(stage.at, stage.rule.clone(), Links::default())
            .unwrap();
        stage.call().await;
    }

    #[tokio::test]
    async fn connections_are_counted() {
        let limits = Limits {
            connections: 2,
            ..Limits::DEFAULT
        };
        let stage = Stage::new(ANYBODY, limits).await;
        let (first, second) = (stage.call().await, stage.call().await);
        let mut third = TcpStream::connect(stage.at).await.unwrap();
        assert!(is_over(&mut third).await);
        drop((first, second));
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        let limits = Limits {
            idle: Duration::from_millis(200),
            ..Limits::DEFAULT
        };
        let stage = Stage::new(ANYBODY, limits).await;
        let (mut active, mut passive) = stage.call().await;
        assert!(is_over(&mut active).await);
        assert!(is_over(&mut passive).await);
    }

    #[tokio::test]
    async fn the_end_of_the_call_ends_them() {
        let mut stage = Stage::new(ANYBODY, Limits::DEFAULT).await;
        let (mut active, mut passive) = stage.call().await;
        stage.streams.unlisten(stage.at);
        assert!(is_over(&mut active).await);
        assert!(is_over(&mut passive).await);
        let free = async {
            while TcpStream::connect(stage.at).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, free).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits() {
        let mut stage = Stage::new(ANYBODY, Limits::DEFAULT).await;
        stage.rule.to = TcpListener::bind(HERE).await.unwrap().local_addr().unwrap();
        stage
            .streams
            .listen(stage.at, stage.rule.clone(), Links::default())
            .unwrap();
        let mut active = TcpStream::connect(stage.at).await.unwrap();
        assert!(is_over(&mut active).await);
        // A port that is taken is said.
        let taken = stage.waiting.local_addr().unwrap();
        assert!(
            stage
                .streams
                .listen(taken, stage.rule.clone(), Links::default())
                .is_err()
        );
    }
}
