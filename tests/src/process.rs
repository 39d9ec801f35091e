//! The daemon as operators run it: a process in the edge's namespace, asked over its socket.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::calls::{self, Call};
use crate::netns::Namespace;
use crate::{clock, http};

/// How long the daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long it may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 80;

/// A running daemon; killed on drop, its log shown if a test failed.
#[derive(Debug)]
pub struct Towpath {
    binary: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    /// What it is started by, with its arguments: `setpriv …`.
    under: Vec<String>,
    child: Option<Child>,
}

impl Towpath {
    /// Starts `binary` in `namespace` with this configuration, its files in `directory`, and waits
    /// until its API answers.
    ///
    /// # Errors
    /// It refuses to start, or does not answer within 15 s; its log is in the message.
    pub fn start(
        namespace: &Namespace,
        binary: &Path,
        directory: &Path,
        config: &str,
    ) -> Result<Self> {
        Self::start_under(namespace, &[], binary, directory, config)
    }

    /// The same, by a command that takes the daemon's as its last arguments: `["setpriv", …]`.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_under(
        namespace: &Namespace,
        under: &[&str],
        binary: &Path,
        directory: &Path,
        config: &str,
    ) -> Result<Self> {
        let mut this = Self::prepare(binary, directory, config)?;
        this.under = under.iter().map(|&word| word.to_owned()).collect();
        this.restart(namespace)?;
        Ok(this)
    }

    /// Starts a daemon that is expected to refuse, and waits until it ended. Its files are not
    /// those of one that runs in the same directory, unless `socket` names its socket.
    ///
    /// # Errors
    /// It runs after 15 s.
    pub fn refusal(
        namespace: &Namespace,
        under: &[&str],
        binary: &Path,
        directory: &Path,
        config: &str,
        socket: Option<&Path>,
    ) -> Result<Refusal> {
        let directory = directory.join("refused");
        fs::create_dir_all(&directory)?;
        let mut this = Self::prepare(binary, &directory, config)?;
        this.under = under.iter().map(|&word| word.to_owned()).collect();
        if let Some(socket) = socket {
            this.socket = socket.to_owned();
        }
        if this.log.exists() {
            fs::remove_file(&this.log)?;
        }
        this.spawn(namespace)?;
        let child = this.child.as_mut().context("started")?;
        let ended = clock::until("towpath to refuse", START_LIMIT, || Ok(child.try_wait()?));
        let status = ended.map_err(|e| anyhow!("{e:#}\n{}", this.tail()))?;
        this.child = None;
        let said = fs::read_to_string(&this.log)?;
        let code = status.code();
        Ok(Refusal { code, said })
    }

    fn prepare(binary: &Path, directory: &Path, config: &str) -> Result<Self> {
        let this = Self {
            binary: binary.to_owned(),
            config: directory.join("towpath.toml"),
            socket: directory.join("towpath.sock"),
            log: directory.join("towpath.log"),
            under: Vec::new(),
            child: None,
        };
        this.configure(config)?;
        Ok(this)
    }

    /// Writes another configuration; `reload` or `restart` makes it count.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        fs::write(&self.config, config).with_context(|| format!("{}", self.config.display()))
    }

    /// Starts it anew, killing what runs.
    ///
    /// # Errors
    /// As `start`.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        self.kill()?;
        self.spawn(namespace)?;
        self.answering()
            .map_err(|e| anyhow!("{e:#}\n{}", self.tail()))
    }

    fn spawn(&mut self, namespace: &Namespace) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let binary = self.binary.to_string_lossy().into_owned();
        let mut command: Command = match self.under.split_first() {
            None => namespace.command(&binary)?,
            Some((first, rest)) => {
                let mut command = namespace.command(first)?;
                command.args(rest).arg(&binary);
                command
            }
        };
        let child = command
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .arg("--socket")
            .arg(&self.socket)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn answering(&mut self) -> Result<()> {
        clock::until("towpath to answer", START_LIMIT, || {
            if let Some(status) = self
                .child
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("towpath ended: {status}");
            }
            Ok(http::get(&self.socket, "/api/v1/status").ok().map(drop))
        })
    }

    /// Kills it with SIGKILL, as a crash would; what it pinned stays. Nothing if it does not run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child
                .kill()
                .and_then(|()| child.wait())
                .context("kill towpath")?;
        }
        Ok(())
    }

    /// Asks it to end and waits until it did.
    ///
    /// # Errors
    /// It does not within 10 s, or ends with a failure.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let Some(child) = self.child.as_mut() else {
            return Ok(());
        };
        let status = clock::until("towpath to end", STOP_LIMIT, || Ok(child.try_wait()?))?;
        self.child = None;
        if status.success() {
            Ok(())
        } else {
            bail!("towpath ended: {status}\n{}", self.tail())
        }
    }

    /// Makes it read its configuration again.
    ///
    /// # Errors
    /// It does not run.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().context("towpath does not run")?.id();
        kill(Pid::from_raw(i32::try_from(id)?), signal).context("signal towpath")
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn is_running(&mut self) -> Result<bool> {
        match self.child.as_mut() {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Asks its API.
    ///
    /// # Errors
    /// No answer, or not 200.
    pub fn get(&self, path: &str) -> Result<Value> {
        http::get(&self.socket, path)
    }

    /// The calls it knows.
    ///
    /// # Errors
    /// As `get`.
    pub fn calls(&self) -> Result<Vec<Call>> {
        Ok(calls::calls(&self.get("/api/v1/calls")?))
    }

    /// What `towpath status -o json` prints, whatever its exit code says.
    ///
    /// # Errors
    /// It prints no JSON.
    pub fn status(&self, namespace: &Namespace) -> Result<Value> {
        let output = namespace
            .command(&self.binary.to_string_lossy())?
            .args(["status", "-o", "json", "--socket"])
            .arg(&self.socket)
            .output()?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "towpath status: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })
    }

    /// Runs `towpath` as a client of it: `["status"]`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client(&self, namespace: &Namespace, arguments: &[&str]) -> Result<Output> {
        let mut command = namespace.command(&self.binary.to_string_lossy())?;
        command.args(arguments).arg("--socket").arg(&self.socket);
        command.output().context("run towpath")
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let shown = lines
            .get(lines.len().saturating_sub(LOG_LINES_SHOWN)..)
            .unwrap_or_default();
        format!("towpath's log:\n{}", shown.join("\n"))
    }
}

/// How a daemon refused to start.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All it said.
    pub said: String,
}

impl Drop for Towpath {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        if let Err(e) = self.kill() {
            eprintln!("lab: {e:#}");
        }
    }
}

/// Where the daemon's binary is: `TOWPATH_BIN`, or beside the running test.
///
/// # Errors
/// Neither is there.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TOWPATH_BIN") {
        return Ok(path.into());
    }
    // target/debug/deps/lab-0123 or target/debug/demo.
    let own = std::env::current_exe().context("own path")?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|d| d.join("towpath"))
        .find(|p| p.is_file());
    found.context("no towpath binary: run `cargo build -p towpath`, or set TOWPATH_BIN")
}

/// Where the kernel object is: `TOWPATH_OBJECT`, or where `cargo xtask ebpf` puts it.
///
/// # Errors
/// It is not there.
pub fn object() -> Result<PathBuf> {
    let object = match std::env::var_os("TOWPATH_OBJECT") {
        Some(object) => object.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../target/ebpf/bpfel-unknown-none/release/relay"),
    };
    anyhow::ensure!(
        object.exists(),
        "{}: missing; run `cargo xtask ebpf`",
        object.display()
    );
    Ok(object)
}
