//! How a phone's SIP travels: datagrams, or a connection of TCP or TLS.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

use super::LIMIT;

pub(super) enum Wire {
    Udp(UdpSocket),
    Stream(RefCell<Line>),
}

/// A connection, and what has been read of it.
pub(super) struct Line {
    transport: &'static str,
    end: End,
    buffer: Vec<u8>,
}

enum End {
    Tcp(TcpStream),
    /// `openssl s_client`, and what it prints.
    Tls(Child, ChildStdin, Receiver<Vec<u8>>),
}

impl Wire {
    pub(super) fn tcp(from: &str, to: &str) -> Self {
        Self::accepted(connect(from, to))
    }

    pub(super) fn accepted(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self::of("TCP", End::Tcp(stream))
    }

    /// Whoever answers must show a certificate of `ca` for this address.
    pub(super) fn tls(to: &str, ca: &Path, more: &[&str]) -> Self {
        let host: SocketAddr = to.parse().unwrap();
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-connect", to])
            .args(["-verify_ip", &host.ip().to_string(), "-CAfile"])
            .arg(ca)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, printed) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self::of("TLS", End::Tls(child, input, printed))
    }

    fn of(transport: &'static str, end: End) -> Self {
        Self::Stream(RefCell::new(Line {
            transport,
            end,
            buffer: Vec::new(),
        }))
    }

    pub(super) fn transport(&self) -> &'static str {
        match self {
            Self::Udp(_) => "UDP",
            Self::Stream(line) => line.borrow().transport,
        }
    }

    /// Of a Contact.
    pub(super) fn param(&self) -> String {
        match self {
            Self::Udp(_) => String::new(),
            Self::Stream(_) => format!(";transport={}", self.transport().to_lowercase()),
        }
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(bytes).unwrap()),
            Self::Stream(line) => line.borrow_mut().send(bytes),
        }
    }

    /// The next message; empty if the connection has ended.
    pub(super) fn receive(&self) -> String {
        let bytes = match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 4096];
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            }
            Self::Stream(line) => line.borrow_mut().message(),
        };
        String::from_utf8(bytes).unwrap()
    }

    /// Everything until the other side closes.
    pub(super) fn rest(&self) -> String {
        let Self::Stream(line) = self else {
            panic!("datagrams have no end")
        };
        let mut line = line.borrow_mut();
        while line.read() {}
        String::from_utf8(std::mem::take(&mut line.buffer)).unwrap()
    }
}

/// From an address of ours, so that several phones live on one host.
pub(super) fn connect(from: &str, to: &str) -> TcpStream {
    connect_with(from, to, |_| ())
}

/// The same, with options that must be set before: a window is not taken back.
pub(super) fn connect_with(from: &str, to: &str, set: impl FnOnce(&OwnedFd)) -> TcpStream {
    let from = SocketAddrV4::new(from.parse().unwrap(), 0);
    let SocketAddr::V4(to) = to.parse().unwrap() else {
        panic!("{to}")
    };
    let family = AddressFamily::Inet;
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    set(&fd);
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
    socket::connect(fd.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    TcpStream::from(fd)
}

impl Line {
    fn send(&mut self, bytes: &[u8]) {
        match &mut self.end {
            End::Tcp(stream) => stream.write_all(bytes).unwrap(),
            End::Tls(_, input, _) => input.write_all(bytes).unwrap(),
        }
    }

    /// Whether there was more.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let bytes = match &mut self.end {
            // A reset is an end too.
            End::Tcp(stream) => match stream.read(&mut buffer) {
                Ok(length) => buffer[..length].to_vec(),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Vec::new(),
                Err(e) => panic!("{e}"),
            },
            End::Tls(_, _, printed) => match printed.recv_timeout(LIMIT) {
                Ok(bytes) => bytes,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Vec::new(),
                Err(e) => panic!("{e}"),
            },
        };
        self.buffer.extend_from_slice(&bytes);
        !bytes.is_empty()
    }

    fn message(&mut self) -> Vec<u8> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lines = head.lines().map(str::to_lowercase);
                let length = lines.filter_map(|line| {
                    let length = line.strip_prefix("content-length:")?;
                    length.trim().parse::<usize>().ok()
                });
                let length = length.min().unwrap_or_else(|| panic!("no length: {head}"));
                if body.len() >= length {
                    let end = head.len() + 4 + length;
                    return self.buffer.drain(..end).collect();
                }
            }
            if !self.read() {
                return std::mem::take(&mut self.buffer);
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let End::Tls(child, ..) = &mut self.end {
            // It may have ended with its connection.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
