//! A path for TCP that takes its time and can be cut: a proxy before one port, for networks where
//! nothing else delays.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock;

/// Connections that are kept to be cut.
const CONNECTIONS_MAX: usize = 1024;

/// The path. Ends with the process.
#[derive(Clone, Debug)]
pub struct Path {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    /// One way.
    delay: Mutex<Duration>,
    cut: AtomicBool,
    bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Path {
    /// Opens it at an address, towards another.
    ///
    /// # Errors
    /// Somebody listens there.
    pub fn open(at: SocketAddr, to: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind(at).with_context(|| format!("listen at {at}"))?;
        let shared = Arc::new(Shared {
            to,
            delay: Mutex::new(delay),
            cut: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let address = listener.local_addr()?;
        let theirs = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &theirs));
        Ok(Self { address, shared })
    }

    /// Connections break, and none is made any more.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        let open = std::mem::take(&mut *self.shared.open());
        for stream in open {
            // Who is gone already needs no telling.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// Octets that crossed it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delay(&self) -> Duration {
        *self.delay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.cut.load(Ordering::SeqCst) {
            continue;
        }
        // Whom nobody answers is hung up on.
        drop(join(stream, shared));
    }
}

fn join(here: TcpStream, shared: &Arc<Shared>) -> Result<()> {
    let there = TcpStream::connect(shared.to)?;
    for stream in [&here, &there] {
        stream.set_nodelay(true)?;
        let mut open = shared.open();
        if open.len() >= CONNECTIONS_MAX {
            open.remove(0);
        }
        open.push(stream.try_clone()?);
    }
    carry(here.try_clone()?, there.try_clone()?, shared);
    carry(there, here, shared);
    Ok(())
}

/// One direction: read at once, written when it is time.
fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Arc<Shared>) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
    let theirs = Arc::clone(shared);
    thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut chunk) {
            let bytes = chunk.get(..count).unwrap_or_default().to_vec();
            let due = clock::now() + theirs.delay();
            if sender.send((due, bytes)).is_err() || count == 0 {
                return;
            }
        }
    });
    let theirs = Arc::clone(shared);
    thread::spawn(move || {
        for (due, bytes) in receiver {
            clock::wait_until(due);
            let length = u64::try_from(bytes.len()).unwrap_or(0);
            theirs.bytes.fetch_add(length, Ordering::SeqCst);
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        // Who is gone already needs no telling.
        drop(to.shutdown(Shutdown::Write));
    });
}
