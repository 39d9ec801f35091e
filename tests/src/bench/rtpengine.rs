//! rtpengine from the distribution's packages, without its kernel module, with one call set up
//! over its control protocol.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::path::{Path, RELAY_IN, RELAY_OUT, SINK, SINK_PORT, SOURCE, SOURCE_PORT};
use crate::clock;
use crate::netns::Namespace;

/// Where Debian's package `rtpengine-daemon` puts it.
pub const BINARY: &str = "/usr/bin/rtpengine";

const CONTROL: &str = "127.0.0.1:2223";
/// How long it may take to answer its first question.
const LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: usize = 8192;

/// What it says of itself.
///
/// # Errors
/// It is not there, or does not run.
pub fn version() -> Result<String> {
    let output = Command::new(BINARY)
        .arg("--version")
        .output()
        .with_context(|| format!("{BINARY}: install Debian's package rtpengine-daemon"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A running one with a call; killed on drop.
pub(super) struct Rtpengine {
    child: Child,
    sends_to: SocketAddr,
}

impl Rtpengine {
    pub(super) fn start(path: &Path) -> Result<Self> {
        let interfaces = [("in", RELAY_IN), ("out", RELAY_OUT)];
        let (child, socket) = spawn(&path.relay, &interfaces, [30_000, 30_100], Some(1))?;
        let mut this = Self {
            child,
            sends_to: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let call = "7:call-id5:bench8:from-tag1:a";
        let inactive = "7:replacel6:origin18:session-connectione3:ICE6:remove";
        let offer = sdp(SOURCE, SOURCE_PORT);
        let direction = "9:directionl2:in3:oute";
        ask(
            &socket,
            &format!("d{call}7:command5:offer{direction}{inactive}3:sdp{offer}e"),
        )?;
        let answer = sdp(SINK, SINK_PORT);
        let answered = ask(
            &socket,
            &format!("d{call}6:to-tag1:b7:command6:answer{inactive}3:sdp{answer}e"),
        )?;
        this.sends_to = media(&answered)
            .with_context(|| format!("rtpengine's answer names no media: {answered}"))?;
        Ok(this)
    }

    pub(super) fn sends_to(&self) -> SocketAddr {
        self.sends_to
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("bench: rtpengine: {error}");
        }
    }
}

/// Starts one that serves these interfaces, (name, address), and waits until it answers at the
/// socket returned. Without a number of threads it chooses its own.
pub(super) fn spawn(
    host: &Namespace,
    interfaces: &[(&str, &str)],
    [first, last]: [u16; 2],
    threads: Option<u8>,
) -> Result<(Child, UdpSocket)> {
    version()?;
    let interfaces = interfaces
        .iter()
        .map(|(name, ip)| format!("--interface={name}/{ip}"));
    let mut child = host
        .command(BINARY)?
        .args(["--config-file=none", "--foreground", "--table=-1"])
        .args(["--log-stderr", "--log-level=1"])
        .args(threads.map(|threads| format!("--num-threads={threads}")))
        .args(interfaces)
        .arg(format!("--listen-ng={CONTROL}"))
        .arg(format!("--port-min={first}"))
        .arg(format!("--port-max={last}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start rtpengine")?;
    let socket = host.enter(|| UdpSocket::bind("127.0.0.1:0"))??;
    socket.connect(CONTROL)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let answers = clock::until("rtpengine answers", LIMIT, || {
        if let Some(status) = child.try_wait()? {
            bail!("rtpengine ended: {status}");
        }
        Ok(ask(&socket, "d7:command4:pinge").ok())
    });
    if let Err(error) = answers {
        child.kill().and_then(|()| child.wait())?;
        return Err(error);
    }
    Ok((child, socket))
}

/// One question, a dictionary in bencoding behind a cookie; the answer's text.
fn ask(socket: &UdpSocket, question: &str) -> Result<String> {
    // The same cookie would bring the same answer.
    let cookie = format!("c{} ", question.len());
    socket.send(format!("{cookie}{question}").as_bytes())?;
    let mut buffer = [0; ANSWER_BYTES_MAX];
    let text = loop {
        let bytes = socket.recv(&mut buffer).context("rtpengine is silent")?;
        let text = String::from_utf8_lossy(buffer.get(..bytes).unwrap_or_default()).into_owned();
        if text.starts_with(&cookie) {
            break text;
        }
    };
    if text.contains("6:result2:ok") || text.contains("6:result4:pong") {
        return Ok(text);
    }
    bail!("rtpengine refuses: {text}");
}

/// A bencoded session description of one audio stream.
fn sdp(ip: &str, port: u16) -> String {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na=sendrecv\r\n"
    );
    format!("{}:{sdp}", sdp.len())
}

/// Where a session description wants its audio.
fn media(text: &str) -> Option<SocketAddr> {
    let after = |what: &str| text.split(what).nth(1)?.split_whitespace().next();
    let ip = after("c=IN IP4 ")?.parse().ok()?;
    let port = after("m=audio ")?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_of_an_answer() {
        let answer = format!("d6:result2:ok3:sdp{}e", sdp("10.80.1.1", 30_002));
        assert_eq!(media(&answer), Some("10.80.1.1:30002".parse().unwrap()));
        assert_eq!(media("d6:result2:oke"), None);
    }
}
