//! The configuration the demonstration's daemon runs with.

use std::path::PathBuf;

use crate::lab::plan;

/// Of the phones' addresses of record.
pub const DOMAIN: &str = "towpath.test";

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    /// On a BPF file system.
    pub pins: PathBuf,
    /// The kernel object; none is the one in the binary.
    pub object: Option<PathBuf>,
}

/// Each account has its own.
#[must_use]
pub fn password(user: &str) -> String {
    format!("secret-{user}")
}

/// `towpath.toml` of an edge with the three networks of the lab.
#[must_use]
pub fn towpath_toml(paths: &Paths) -> String {
    let (wan, lan, core) = (plan::EDGE_WAN, plan::EDGE_LAN, plan::EDGE_CORE);
    let account = |user: &&str| {
        format!(
            "[[sip.account]]\nuser = \"{user}\"\npassword = \"{}\"\n\n",
            password(user)
        )
    };
    let accounts: String = ["1001", "1002", "1003"].iter().map(account).collect();
    let object = match &paths.object {
        Some(object) => format!("object = {object:?}"),
        None => String::new(),
    };
    format!(
        r#"[node]
id = "lab-edge"
state_dir = {state:?}

[sip]
domain = "{DOMAIN}"
listen = ["udp:{wan}:5060", "udp:{lan}:5060", "udp:{core}:5060"]
auth = "digest"

{accounts}[[sip.peer]]
name = "mcu"
uri = "sip:{mcu}:5060"
routes = ["9*"]

[[network]]
name = "wan"
interface = "wan"
address = "{wan}"
peers = ["0.0.0.0/0"]
media_ports = "30000-39999"

[[network]]
name = "lan"
interface = "lan"
address = "{lan}"
peers = ["10.1.0.0/24"]
media_ports = "20000-29999"

[[network]]
name = "core"
interface = "core"
address = "{core}"
peers = ["10.9.0.0/24"]
media_ports = "40000-49999"

[datapath]
mode = "xdp"
pin_dir = {pins:?}
{object}
"#,
        state = paths.state,
        pins = paths.pins,
        mcu = plan::ip(plan::MCU_V4),
    )
}
