//! The daemon without its kernel program, with one call set up over SIP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::path::{Path, RELAY_IN, RELAY_OUT, SINK, SINK_PORT, SOURCE, SOURCE_PORT};
use super::stand::Programs;
use crate::clock;
use crate::netns::stale;
use crate::process::Towpath;
use crate::scratch::Scratch;
use crate::talk::{End, Talk};
use crate::ua::{Dialog, Ua};

const DOMAIN: &str = "bench.test";
/// How long setting up may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A call that stands.
pub(super) struct Call {
    towpath: Towpath,
    dialog: Dialog,
    _parties: [Ua; 2],
    _files: Scratch,
}

impl Call {
    pub(super) fn place(path: &mut Path, programs: &Programs) -> Result<Self> {
        path.sink_passes(true)?;
        let files = Scratch::create(&stale::unique_name())?;
        let config = format!(
            "[node]\nid = \"bench\"\n\n[sip]\ndomain = \"{DOMAIN}\"\nauth = \"none\"\n\
             listen = [\"udp:{RELAY_IN}:5060\", \"udp:{RELAY_OUT}:5060\"]\n\n\
             [[network]]\nname = \"in\"\ninterface = \"a0\"\naddress = \"{RELAY_IN}\"\n\
             peers = [\"10.80.1.0/24\"]\nmedia_ports = \"30000-30099\"\n\n\
             [[network]]\nname = \"out\"\ninterface = \"b0\"\naddress = \"{RELAY_OUT}\"\n\
             peers = [\"10.80.2.0/24\"]\nmedia_ports = \"20000-20099\"\n\n\
             [datapath]\nmode = \"userspace\"\n"
        );
        let towpath = Towpath::start(&path.relay, &programs.towpath, files.path(), &config)?;
        let at = |ip: &str, port| -> Result<SocketAddr> { Ok(SocketAddr::new(ip.parse()?, port)) };
        let caller = Ua::new(
            &path.source,
            "1001",
            DOMAIN,
            SOURCE.parse()?,
            SOURCE_PORT,
            at(RELAY_IN, 5060)?,
        )?;
        let callee = Ua::new(
            &path.sink,
            "1002",
            DOMAIN,
            SINK.parse()?,
            SINK_PORT,
            at(RELAY_OUT, 5060)?,
        )?;
        caller.register()?;
        callee.register()?;
        let dialog = caller.call(&callee)?;
        let ends = [
            (&caller, dialog.caller_sends_to),
            (&callee, dialog.callee_sends_to),
        ];
        let ends = ends.map(|(ua, sends_to)| End {
            rtp: &ua.rtp,
            rtcp: &ua.rtcp,
            sends_to,
            ssrc: ua.ssrc,
        });
        // Both are heard, so that no latch waits any more.
        let talk = Talk::start(ends, Duration::from_millis(5))?;
        talk.hear(5, LIMIT)?;
        talk.finish()?;
        clock::until("both media flows in userspace", LIMIT, || {
            let flows = towpath.calls()?.into_iter().flat_map(|call| call.flows);
            let media = flows.filter(|flow| flow.is_media() && flow.path == "user");
            Ok((media.count() == 2).then_some(()))
        })
        .context("the call")?;
        path.sink_passes(false)?;
        Ok(Self {
            towpath,
            dialog,
            _parties: [caller, callee],
            _files: files,
        })
    }

    pub(super) fn sends_to(&self) -> SocketAddr {
        self.dialog.caller_sends_to
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.towpath.id()
    }
}
