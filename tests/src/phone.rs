//! Real phones: baresip in a namespace, driven over its control socket, with a tone to play and
//! a recording of what it hears.

mod control;
mod files;

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

pub use control::{Event, RtcpStats};

use crate::netns::Namespace;
use crate::{clock, wav};
use control::Control;

/// How long baresip may take from its start to an open control socket.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How much of a log an error shows.
const LOG_LINES_SHOWN: usize = 40;

/// Where the control socket listens, inside the phone's namespace.
const CONTROL: &str = "127.0.0.1:4444";

/// What kind of phone, and whose.
#[derive(Clone, Debug)]
pub struct Settings {
    pub user: String,
    /// The host of its address of record.
    pub domain: String,
    /// Where requests are sent, `sip:host:port`; none is where their address says.
    pub outbound: Option<String>,
    /// For digest; a phone with a password registers every 60 s, one without never.
    pub password: Option<String>,
    /// Answers by itself.
    pub auto_answer: bool,
    /// What it plays.
    pub tone_hz: u32,
    /// Offers it, with a generated picture.
    pub video: Option<Codec>,
    /// Encrypts media with keys in SDP, and talks to nobody who does not (RFC 4568).
    pub srtp: bool,
    /// Who issues the certificates it believes; none: whoever.
    pub ca: Option<PathBuf>,
}

/// Of video.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Codec {
    Vp8,
    H264,
}

/// A running phone. There is one per namespace. Dropping it kills the process.
#[derive(Debug)]
pub struct Phone {
    name: String,
    directory: PathBuf,
    child: Child,
    control: Control,
}

impl Phone {
    /// Starts a phone with its files in `directory` and waits until it takes commands.
    /// Registration is under way when this returns; `registered` waits for it.
    ///
    /// # Errors
    /// baresip is not installed, ends, or is not ready within 10 s; its log is in the message.
    pub fn start(namespace: &Namespace, directory: &Path, settings: &Settings) -> Result<Self> {
        files::write(directory, settings)?;
        let log = File::create(directory.join(LOG)).context("phone's log")?;
        let mut child = namespace
            .command("baresip")?
            .arg("-f")
            .arg(directory)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .context("start baresip (Debian package baresip-core)")?;
        let stream = match connect(namespace, &mut child) {
            Ok(stream) => stream,
            Err(e) => {
                end(&mut child);
                return Err(anyhow!("{e:#}\n{}", tail(directory)));
            }
        };
        let name = settings.user.clone();
        let directory = directory.to_owned();
        let this = Self {
            name,
            directory,
            child,
            control: Control::new(stream)?,
        };
        this.control.command("uanew", &files::account(settings))?;
        Ok(this)
    }

    /// Waits until the registrar accepted it.
    ///
    /// # Errors
    /// It refused, or `limit` passed.
    pub fn registered(&self, limit: Duration) -> Result<Event> {
        self.wait("REGISTER_OK", &["REGISTER_FAIL"], limit)
    }

    /// Calls `uri`; returns when the call is under way. `established` waits for the answer.
    ///
    /// # Errors
    /// The phone refuses to dial.
    pub fn dial(&self, uri: &str) -> Result<Instant> {
        let at = clock::now();
        self.control.command("dial", uri)?;
        Ok(at)
    }

    /// Calls `uri` and waits until it is answered; how long that took.
    ///
    /// # Errors
    /// The call is refused or not answered within `limit`.
    pub fn call(&self, uri: &str, limit: Duration) -> Result<Duration> {
        let dialled = self.dial(uri)?;
        let event = self
            .established(limit)
            .with_context(|| format!("call to {uri}"))?;
        Ok(event.at.saturating_duration_since(dialled))
    }

    /// Waits until a call stands.
    ///
    /// # Errors
    /// It was closed instead, or `limit` passed.
    pub fn established(&self, limit: Duration) -> Result<Event> {
        self.wait("CALL_ESTABLISHED", &["CALL_CLOSED"], limit)
    }

    /// Waits until the phone rings.
    ///
    /// # Errors
    /// `limit` passed.
    pub fn incoming(&self, limit: Duration) -> Result<Event> {
        self.wait("CALL_INCOMING", &[], limit)
    }

    /// Waits until a call ended; its parameter says why.
    ///
    /// # Errors
    /// `limit` passed.
    pub fn closed(&self, limit: Duration) -> Result<Event> {
        self.wait("CALL_CLOSED", &[], limit)
    }

    /// Waits until the other side's SDP came: the answer to a re-INVITE, for one.
    ///
    /// # Errors
    /// `limit` passed, or the call was closed.
    pub fn remote_sdp(&self, limit: Duration) -> Result<Event> {
        self.wait("CALL_REMOTE_SDP", &["CALL_CLOSED"], limit)
    }

    /// Waits until the first RTP of a stream (`audio`, `video`) arrived.
    ///
    /// # Errors
    /// `limit` passed, or the call was closed.
    pub fn media(&self, stream: &str, limit: Duration) -> Result<Event> {
        let wanted = |e: &Event| e.kind == "CALL_RTPESTAB" && e.parameter == stream;
        let what = format!("RTP of {stream}");
        self.control
            .wait(&what, wanted, &["CALL_CLOSED"], limit)
            .map_err(|e| self.explain(e))
    }

    /// Answers a ringing call.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn accept(&self) -> Result<()> {
        self.control.command("accept", "").map(drop)
    }

    /// Puts the current call on hold by a re-INVITE.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn hold(&self) -> Result<()> {
        self.control.command("hold", "").map(drop)
    }

    /// Takes it off hold.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn resume(&self) -> Result<()> {
        self.control.command("resume", "").map(drop)
    }

    /// Ends the current call.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn hangup(&self) -> Result<()> {
        self.control.command("hangup", "").map(drop)
    }

    /// The phone's own list of calls, as text.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn list_calls(&self) -> Result<String> {
        self.control.command("listcalls", "")
    }

    /// Any other command of baresip's.
    ///
    /// # Errors
    /// The phone does not take the command.
    pub fn command(&self, command: &str, parameter: &str) -> Result<String> {
        self.control.command(command, parameter)
    }

    /// Forgets events that nobody waited for.
    pub fn forget_events(&self) {
        self.control.forget();
    }

    /// The last RTCP statistics of a stream (`audio`, `video`).
    #[must_use]
    pub fn rtcp(&self, stream: &str) -> Option<RtcpStats> {
        self.control.rtcp(stream)
    }

    /// The tone in all it heard in its latest call, to 5 Hz; none if there is no steady one.
    #[must_use]
    pub fn received_tone(&self) -> Option<f64> {
        wav::tone(&self.received().ok()?)
    }

    /// The tone in the last part of what it heard.
    #[must_use]
    pub fn received_tone_of_last(&self, time: Duration) -> Option<f64> {
        let samples = self.received().ok()?;
        let count = usize::try_from(time.as_millis()).ok()? * wav::RATE_HZ as usize / 1000;
        wav::tone(samples.get(samples.len().saturating_sub(count)..)?)
    }

    /// The samples it heard in its latest call.
    ///
    /// # Errors
    /// It had none.
    pub fn received(&self) -> Result<Vec<i16>> {
        let recordings = fs::read_dir(&self.directory)?.filter_map(|e| Some(e.ok()?.path()));
        let heard = |p: &PathBuf| p.to_string_lossy().ends_with("-dec.wav");
        // Their names contain the time.
        let latest = recordings.filter(heard).max();
        wav::read(&latest.with_context(|| format!("{} recorded nothing", self.name))?)
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait(&self, kind: &str, instead: &[&str], limit: Duration) -> Result<Event> {
        let wanted = |e: &Event| e.kind == kind;
        self.control
            .wait(kind, wanted, instead, limit)
            .map_err(|e| self.explain(e))
    }

    fn explain(&self, e: anyhow::Error) -> anyhow::Error {
        e.context(format!("phone {}", self.name))
            .context(tail(&self.directory))
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

const LOG: &str = "phone.log";

fn connect(namespace: &Namespace, child: &mut Child) -> Result<TcpStream> {
    clock::until("baresip's control socket", START_LIMIT, || {
        if let Some(status) = child.try_wait()? {
            bail!("baresip ended: {status}");
        }
        Ok(namespace.enter(|| TcpStream::connect(CONTROL))?.ok())
    })
}

fn end(child: &mut Child) {
    // It may be dead already.
    if child.kill().and_then(|()| child.wait()).is_err() {
        eprintln!("lab: a phone did not end");
    }
}

/// The end of its log, for error messages. Its status line rewrites itself and is left out.
fn tail(directory: &Path) -> String {
    let log = fs::read(directory.join(LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().filter(|l| !l.contains("(bit/s)")).collect();
    let shown = lines
        .get(lines.len().saturating_sub(LOG_LINES_SHOWN)..)
        .unwrap_or_default();
    format!("log of {}:\n{}", directory.display(), shown.join("\n"))
}
