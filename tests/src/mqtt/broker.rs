//! Brokers on loopback: mosquitto, and our own edge.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{clock, process};

const START_LIMIT: Duration = Duration::from_secs(15);

/// Where mosquitto is; it is no daemon of this machine's that is asked.
pub const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// A broker; killed on drop.
#[derive(Debug)]
pub struct Broker {
    pub address: SocketAddr,
    pub log: PathBuf,
    child: Child,
}

impl Broker {
    /// mosquitto, with its files in `directory`; `more` is added to its configuration.
    ///
    /// # Errors
    /// It does not answer within 15 s.
    pub fn mosquitto(directory: &Path, port: u16, more: &str) -> Result<Self> {
        let config = directory.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             sys_interval 0\nset_tcp_nodelay true\nmax_packet_size 65536\n{more}\n"
        );
        fs::write(&config, text)?;
        let log = directory.join("mosquitto.log");
        let mut command = Command::new(MOSQUITTO);
        command.arg("-c").arg(&config);
        Self::start(command, port, log)
    }

    /// Our edge, with its files in `directory`; `mqtt` is added to its `[mqtt]`, `more` to the end.
    ///
    /// # Errors
    /// It does not answer within 15 s.
    pub fn towpath(directory: &Path, port: u16, mqtt: &str, more: &str) -> Result<Self> {
        let (state, config) = (directory.join("state"), directory.join("towpath.toml"));
        fs::create_dir_all(&state)?;
        let (state, socket) = (state.display(), directory.join("socket"));
        let socket = socket.display();
        let sip = port + 1;
        let auth = if more.contains("[[sip.account]]") {
            "digest"
        } else {
            "none"
        };
        // Some listen elsewhere as well.
        let listen = match mqtt.contains("listen = ") {
            true => String::new(),
            false => format!("listen = [\"tcp:0.0.0.0:{port}\"]\n"),
        };
        let text = format!(
            "[node]\nid = \"edge-01\"\nstate_dir = \"{state}\"\nsocket = \"{socket}\"\n\
             [sip]\ndomain = \"example.com\"\nlisten = [\"udp:0.0.0.0:{sip}\"]\n\
             auth = \"{auth}\"\n[[network]]\nname = \"lo\"\ninterface = \"lo\"\n\
             address = \"127.0.0.1\"\npeers = [\"127.0.0.0/8\"]\nmedia_ports = \"40000-49999\"\n\
             [datapath]\nmode = \"userspace\"\n\
             [mqtt]\n{listen}{mqtt}\n{more}\n"
        );
        fs::write(&config, text)?;
        let log = directory.join("towpath.log");
        let mut command = Command::new(process::binary()?);
        command.arg("run").arg("--config").arg(&config);
        command.env("NO_COLOR", "1");
        Self::start(command, port, log)
    }

    fn start(mut command: Command, port: u16, log: PathBuf) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpStream::connect(address).is_ok() {
            bail!("{address} is somebody else's");
        }
        let file = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let mut broker = Self {
            address,
            log,
            child,
        };
        clock::until("the broker to answer", START_LIMIT, || {
            if let Some(status) = broker.child.try_wait()? {
                bail!("it ended: {status}\n{}", broker.said());
            }
            Ok(TcpStream::connect(address).ok().map(drop))
        })?;
        Ok(broker)
    }

    /// Its log.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.said());
        }
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
