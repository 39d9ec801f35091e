//! `mutants`: breaks the code that decides about media packets in one line at a time, in a copy of
//! the workspace, and runs the tests there. A break that no test notices is an error, and so is one
//! that does not compile or whose line is no longer found: it would prove nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::run::{cargo, root, say, step, target};

#[derive(Args)]
pub(crate) struct Options {
    /// Only mutants whose name contains this
    name: Option<String>,
}

struct Mutant {
    name: &'static str,
    file: &'static str,
    /// Stands exactly once in the file.
    was: &'static str,
    becomes: &'static str,
}

const FORWARD: &str = "common/src/forward.rs";
const HEADERS: &str = "common/src/forward/headers.rs";
const CHECKSUM: &str = "common/src/checksum.rs";
const FLOW: &str = "common/src/flow.rs";
const MEDIA: &str = "common/src/media.rs";
const STATS: &str = "common/src/stats.rs";
const LATCH: &str = "control/src/nat/latch.rs";

/// The tests of what a file belongs to; those of the core need no kernel.
fn tests_of(file: &str) -> &'static [&'static str] {
    match file.split('/').next() {
        Some("control") => &["-p", "towpath", "--no-default-features", "--lib"],
        _ => &["-p", "towpath-common"],
    }
}

const MUTANTS: [Mutant; 65] = [
    Mutant {
        name: "checksum: the IPv4 header's is not updated",
        file: HEADERS,
        was: "self.ip.checksum = apply(self.ip.checksum, delta_l3);",
        becomes: "self.ip.checksum = apply(self.ip.checksum, delta_l3 & 0);",
    },
    Mutant {
        name: "checksum: UDP's is not updated",
        file: HEADERS,
        was: "udp.checksum = apply_udp(udp.checksum, flow.delta_l4);",
        becomes: "udp.checksum = apply_udp(udp.checksum, flow.delta_l4 & 0);",
    },
    Mutant {
        name: "checksum: UDP's zero is sent as zero",
        file: CHECKSUM,
        was: "Be16(0) => Be16(0xffff),",
        becomes: "Be16(0) => Be16(0),",
    },
    Mutant {
        name: "checksum: an absent UDP checksum is made up",
        file: HEADERS,
        was: "if udp.checksum.0 != 0 {",
        becomes: "if true {",
    },
    Mutant {
        name: "checksum: a carry is lost",
        file: CHECKSUM,
        was: "(sum + (sum >> 16)) as u16",
        becomes: "sum as u16",
    },
    Mutant {
        name: "checksum: a whole one that looks partial is punted",
        file: FORWARD,
        was: "if !frame.is_whole(",
        becomes: "if true || !frame.is_whole(",
    },
    Mutant {
        name: "checksum: a partial one is taken for whole",
        file: CHECKSUM,
        was: "left == 0 && fold(sum) == 0xffff",
        becomes: "left == 0",
    },
    Mutant {
        name: "ports: the source's is not rewritten",
        file: HEADERS,
        was: "udp.src = flow.source.port;",
        becomes: "",
    },
    Mutant {
        name: "ports: the destination's is not rewritten",
        file: HEADERS,
        was: "udp.dst = flow.target.port;",
        becomes: "",
    },
    Mutant {
        name: "TTL: IPv4's is not decremented",
        file: HEADERS,
        was: "self.ip.ttl -= 1;",
        becomes: "",
    },
    Mutant {
        name: "TTL: IPv6's hop limit is not decremented",
        file: HEADERS,
        was: "self.ip.hop_limit -= 1;",
        becomes: "",
    },
    Mutant {
        name: "TTL: a spent one is sent on",
        file: FORWARD,
        was: "headers.hops() <= 1",
        becomes: "headers.hops() < 1",
    },
    Mutant {
        name: "source: anyone is let in",
        file: FORWARD,
        was: "|| headers.source() != flow.peer",
        becomes: "",
    },
    Mutant {
        name: "source: only the address is compared",
        file: FORWARD,
        was: "udp.src.0 == 0 || headers.source() != flow.peer",
        becomes: "udp.src.0 == 0 || headers.source().ip != flow.peer.ip",
    },
    Mutant {
        name: "latch: another host takes a held stream",
        file: LATCH,
        was: "let rank = if peer.at.ip() == from.ip() {",
        becomes: "let rank = if true {",
    },
    Mutant {
        name: "latch: a peer that is heard is replaced",
        file: LATCH,
        was: "if !self.is_quiet(peer.heard.unwrap_or(self.opened), now) {",
        becomes: "if false {",
    },
    Mutant {
        name: "latch: another stream of the same host is taken for the peer's",
        file: LATCH,
        was: "if peer.ssrc != sign.ssrc || peer.heard.is_none() {",
        becomes: "if peer.heard.is_none() {",
    },
    Mutant {
        name: "DSCP: the sender's ECN bits are lost",
        file: HEADERS,
        was: "(new & 0xfc) | (old & 3)",
        becomes: "(new & 0xfc) | (old & 0)",
    },
    Mutant {
        name: "ports: the port of the source is not in UDP's difference",
        file: FLOW,
        was: ".halfword(peer.port, source.port)",
        becomes: "",
    },
    Mutant {
        name: "ports: the port of the destination is not in UDP's difference",
        file: FLOW,
        was: ".halfword(local.port, target.port)",
        becomes: "",
    },
    Mutant {
        name: "checksum: the hop is not in the header's difference",
        file: FLOW,
        was: "addresses.halfword(Be16(ONE_HOP), Be16(0)).folded()",
        becomes: "addresses.folded()",
    },
    Mutant {
        name: "checksum: the pseudo-header forgets its protocol",
        file: FLOW,
        was: "u32::from(dst.sum()) + u32::from(protocol))",
        becomes: "u32::from(dst.sum()) + u32::from(protocol) * 0)",
    },
    Mutant {
        name: "flow: two families are for the kernel",
        file: FLOW,
        was: "if one_family {",
        becomes: "if true {",
    },
    Mutant {
        name: "flow: a class that is asked for is not written",
        file: FLOW,
        was: "if tos.is_some() {",
        becomes: "if false {",
    },
    Mutant {
        name: "flow: endpoints differ by address alone",
        file: FLOW,
        was: "self.port.0 == other.port.0 && self.ip == other.ip",
        becomes: "self.ip == other.ip",
    },
    Mutant {
        name: "TTL: a hop limit to write does not change the difference",
        file: FLOW,
        was: "            delta_l3: addresses.folded(),\n            ..self",
        becomes: "            ..self",
    },
    Mutant {
        name: "TTL: IPv4's is not written",
        file: HEADERS,
        was: "self.ip.ttl = flow.hops;",
        becomes: "",
    },
    Mutant {
        name: "TTL: IPv6's is not written",
        file: HEADERS,
        was: "self.ip.hop_limit = flow.hops;",
        becomes: "",
    },
    Mutant {
        name: "TTL: IPv4's checksum forgets what was written",
        file: HEADERS,
        was: "let change = u32::from(!halfword(self.ip.ttl)) + u32::from(halfword(flow.hops));",
        becomes: "let change = u32::from(halfword(0)) * 0;",
    },
    Mutant {
        name: "shape: fragments are forwarded",
        file: HEADERS,
        was: "if self.ip.fragment.0 & FRAGMENT.0 != 0 {",
        becomes: "if false {",
    },
    Mutant {
        name: "shape: options are forwarded",
        file: HEADERS,
        was: "if self.ip.version_ihl != 0x45 {",
        becomes: "if false {",
    },
    Mutant {
        name: "shape: other protocols are forwarded",
        file: HEADERS,
        was: "if self.ip.protocol != UDP {",
        becomes: "if false {",
    },
    Mutant {
        name: "length: a frame shorter than its packet is forwarded",
        file: FORWARD,
        was: "if came.at + usize::from(ETHERNET_BYTES) + usize::from(ip_bytes) > frame_bytes",
        becomes: "if false",
    },
    Mutant {
        name: "length: a datagram longer than its packet is forwarded",
        file: FORWARD,
        was: "|| u32::from(udp_bytes) + u32::from(headers.before_udp()) > u32::from(ip_bytes)",
        becomes: "",
    },
    Mutant {
        name: "length: a datagram shorter than its header is forwarded",
        file: FORWARD,
        was: "        || udp_bytes < UDP_BYTES\n",
        becomes: "",
    },
    Mutant {
        name: "size: what the egress does not carry is sent",
        file: FORWARD,
        was: "if ip_bytes > flow.mtu {",
        becomes: "if false {",
    },
    Mutant {
        name: "checksum: IPv6 without one is forwarded",
        file: HEADERS,
        was: "        Reason::NoChecksum\n    }",
        becomes: "        Reason::Forwarded\n    }",
    },
    Mutant {
        name: "flow: a marked one is forwarded",
        file: FORWARD,
        was: "if flow.flags.has(Flags::USERSPACE) {",
        becomes: "if false {",
    },
    Mutant {
        name: "egress: what turns back is redirected",
        file: FORWARD,
        was: "let action = if flow.egress == came.ingress {",
        becomes: "let action = if flow.egress == came.ingress && false {",
    },
    Mutant {
        name: "source: port 0 is shown",
        file: FORWARD,
        was: "            && from.port.0 != 0\n",
        becomes: "",
    },
    Mutant {
        name: "measure: reports are taken for media",
        file: FORWARD,
        was: "Some(rtp) if !Kind::is_rtcp(rtp.second()) =>",
        becomes: "Some(rtp) =>",
    },
    Mutant {
        name: "measure: a late packet moves the highest number",
        file: MEDIA,
        was: "if ahead.wrapping_sub(1) < DROPOUT_MAX - 1 {",
        becomes: "if ahead.wrapping_sub(1) < u16::MAX {",
    },
    Mutant {
        name: "measure: losses of an old source are forgotten",
        file: MEDIA,
        was: "self.changes = self.changes.wrapping_add(1);",
        becomes: "self.changes = self.changes.wrapping_add(1);\nself.lost_before = 0;",
    },
    Mutant {
        name: "measure: jitter never fades",
        file: MEDIA,
        was: ".wrapping_sub((self.jitter + 8) >> 4);",
        becomes: ".wrapping_sub(0);",
    },
    Mutant {
        name: "stats: silence is not noticed",
        file: STATS,
        was: "} else if now_ns.wrapping_sub(self.last_ns) >= silence_ns {",
        becomes: "} else if false {",
    },
    Mutant {
        name: "kind: what is not RTP is forwarded",
        file: FORWARD,
        was: "if !Kind::of(head, udp_bytes - UDP_BYTES).is_media() {",
        becomes: "if !Kind::of(head, udp_bytes - UDP_BYTES).is_media() && false {",
    },
    Mutant {
        name: "interface: any is let in",
        file: FORWARD,
        was: "if flow.ingress != came.ingress || vlan",
        becomes: "if vlan",
    },
    Mutant {
        name: "interface: any VLAN is let in",
        file: FORWARD,
        was: "|| vlan != 0 && vlan != flow.vlan_in.0 {",
        becomes: "{",
    },
    Mutant {
        name: "interface: a tag that is missing is not missed",
        file: FORWARD,
        was: "        if vlan != flow.vlan_in.0 {\n",
        becomes: "        if false {\n",
    },
    Mutant {
        name: "interface: a flow of any has to come by none",
        file: FORWARD,
        was: "    if flow.ingress != 0 {\n",
        becomes: "    if true {\n",
    },
    Mutant {
        name: "interface: the wrong one is passed on",
        file: FORWARD,
        was: "reason == Reason::HopLimit || reason == Reason::WrongInterface",
        becomes: "reason == Reason::HopLimit",
    },
    Mutant {
        name: "tag: the header behind it is looked for in front",
        file: FORWARD,
        was: "        came.at = TAG_BYTES;\n",
        becomes: "",
    },
    Mutant {
        name: "tag: its VLAN is not read",
        file: FORWARD,
        was: "        came.tag = Be16(inner.src.0[2]);\n",
        becomes: "",
    },
    Mutant {
        name: "tag: it stays on",
        file: FORWARD,
        was: "let leaves_at = if flow.vlan_out.0 == 0 { 0 } else { TAG_BYTES };",
        becomes: "let leaves_at = if flow.vlan_out.0 == 0 { came.at } else { TAG_BYTES };",
    },
    Mutant {
        name: "tag: no room for it is not noticed",
        file: FORWARD,
        was: "if !frame.shift(by) {",
        becomes: "frame.shift(by);\n        if false {",
    },
    Mutant {
        name: "tag: its type is not written",
        file: FORWARD,
        was: "        tagged.tag_type = VLAN;\n",
        becomes: "",
    },
    Mutant {
        name: "tag: its priority is lost",
        file: FORWARD,
        was: "came.tag.0 & !VLAN_ID.0 | flow.vlan_out.0",
        becomes: "flow.vlan_out.0",
    },
    Mutant {
        name: "tag: the old VLAN shines through",
        file: FORWARD,
        was: "came.tag.0 & !VLAN_ID.0 | flow.vlan_out.0",
        becomes: "came.tag.0 | flow.vlan_out.0",
    },
    Mutant {
        name: "tag: a packet that has to leave with one takes the short way",
        file: FORWARD,
        was: "if reason != Reason::Forwarded || flow.vlan_out.0 != 0 {",
        becomes: "if reason != Reason::Forwarded {",
    },
    Mutant {
        name: "link: hardware addresses stay",
        file: FORWARD,
        was: "(ethernet.dst, ethernet.src) =",
        becomes: "(_, _) =",
    },
    Mutant {
        name: "link: hardware addresses of a tagged frame stay",
        file: FORWARD,
        was: "(tagged.dst, tagged.src) =",
        becomes: "(_, _) =",
    },
    Mutant {
        name: "ports: half an entry is believed",
        file: FORWARD,
        was: ".filter(|flow| flow.stats == port.stats)",
        becomes: ".filter(|_| true)",
    },
    Mutant {
        name: "short way: what is not to be forwarded is",
        file: FORWARD,
        was: "if reason != Reason::Forwarded || flow.vlan_out.0 != 0 {",
        becomes: "if flow.vlan_out.0 != 0 {",
    },
    Mutant {
        name: "measure: every packet reads the clock",
        file: MEDIA,
        was: "if self.tick_ns != tick_ns {",
        becomes: "if true {",
    },
    Mutant {
        name: "measure: no packet reads the clock",
        file: MEDIA,
        was: "if self.tick_ns != tick_ns {",
        becomes: "if false {",
    },
];

pub(crate) fn mutants(options: &Options) -> Result<()> {
    let wanted = |m: &&Mutant| {
        options
            .name
            .as_ref()
            .is_none_or(|name| m.name.contains(name))
    };
    let mutants: Vec<&Mutant> = MUTANTS.iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "no mutant has that name");
    let copy = Copy::make()?;
    for mutant in &mutants {
        copy.mutated(mutant)?;
    }
    // Seen to pass unchanged, or red would mean nothing.
    let mut files: Vec<&str> = mutants.iter().map(|mutant| mutant.file).collect();
    files.sort_unstable();
    files.dedup_by_key(|file| tests_of(file));
    for file in files {
        step("the unchanged copy", &mut copy.cargo(file, &[])?)?;
    }
    let mut survivors = Vec::new();
    for (index, mutant) in mutants.iter().enumerate() {
        let killed = copy.kills(mutant)?;
        let verdict = if killed {
            "red, as it must be"
        } else {
            "GREEN: NO TEST NOTICES"
        };
        say(&format!(
            "[{}/{}] {}: {verdict}",
            index + 1,
            mutants.len(),
            mutant.name
        ));
        survivors.extend((!killed).then_some(mutant.name));
    }
    if !survivors.is_empty() {
        bail!("{} mutants live: {}", survivors.len(), survivors.join("; "));
    }
    say(&format!("mutants: all {} turn a test red", mutants.len()));
    Ok(())
}

/// A copy of the workspace, with build results of its own.
struct Copy {
    from: PathBuf,
    to: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let base = target()?.join("mutants");
        let copy = Self {
            from: root()?,
            to: base.join("tree"),
            target: base.join("target"),
        };
        if copy.to.exists() {
            fs::remove_dir_all(&copy.to).context("cannot remove the last copy")?;
        }
        for part in [
            "Cargo.toml",
            "Cargo.lock",
            "clippy.toml",
            "rust-toolchain.toml",
        ] {
            copy.bring(Path::new(part))?;
        }
        for part in ["common", "relay-ebpf", "control", "tests", "xtask", "docs"] {
            copy.bring(Path::new(part))?;
        }
        Ok(copy)
    }

    fn bring(&self, part: &Path) -> Result<()> {
        let (from, to) = (self.from.join(part), self.to.join(part));
        let context = || format!("cannot copy {}", from.display());
        if from.is_dir() {
            fs::create_dir_all(&to).with_context(context)?;
            for entry in fs::read_dir(&from).with_context(context)? {
                let name = entry.with_context(context)?.file_name();
                if name != "target" {
                    self.bring(&part.join(name))?;
                }
            }
            return Ok(());
        }
        let parent = to.parent().with_context(context)?;
        fs::create_dir_all(parent).with_context(context)?;
        fs::copy(&from, &to).with_context(context)?;
        Ok(())
    }

    /// The mutant's file with the line broken.
    fn mutated(&self, mutant: &Mutant) -> Result<String> {
        let original = self.original(mutant)?;
        let found = original.matches(mutant.was).count();
        ensure!(
            found == 1,
            "{}: `{}` stands {found} times in {}, not once: bring xtask/src/mutants.rs in step",
            mutant.name,
            mutant.was,
            mutant.file
        );
        Ok(original.replacen(mutant.was, mutant.becomes, 1))
    }

    fn original(&self, mutant: &Mutant) -> Result<String> {
        let file = self.from.join(mutant.file);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Whether the tests turn red. The file is put back whatever happens.
    fn kills(&self, mutant: &Mutant) -> Result<bool> {
        let file = self.to.join(mutant.file);
        fs::write(&file, self.mutated(mutant)?).context("cannot write the mutant")?;
        let red = self.builds(mutant.file).and_then(|builds| {
            ensure!(
                builds,
                "{}: does not compile, which proves nothing",
                mutant.name
            );
            Ok(!self.passes(mutant.file)?)
        });
        fs::write(&file, self.original(mutant)?).context("cannot put the file back")?;
        red
    }

    fn builds(&self, file: &str) -> Result<bool> {
        quietly(&mut self.cargo(file, &["--no-run"])?)
    }

    fn passes(&self, file: &str) -> Result<bool> {
        quietly(&mut self.cargo(file, &[])?)
    }

    /// The tests of a file's package, in the copy.
    fn cargo(&self, file: &str, more: &[&str]) -> Result<Command> {
        let mut command = cargo(&["test", "--quiet"])?;
        command
            .args(tests_of(file))
            .args(more)
            .current_dir(&self.to)
            .env("CARGO_TARGET_DIR", &self.target)
            // A counter-example found in a mutant is no regression of the original.
            .env("PROPTEST_FAILURE_PERSISTENCE", "off")
            .env("RUSTFLAGS", "--cap-lints=warn");
        Ok(command)
    }
}

fn quietly(command: &mut Command) -> Result<bool> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("cannot start cargo")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mutant that changes nothing would live for the wrong reason.
    #[test]
    fn every_mutant_changes_something_under_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = MUTANTS.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        for mutant in &MUTANTS {
            assert_ne!(mutant.was, mutant.becomes, "{}", mutant.name);
        }
    }

    /// A list out of step would be noticed by the next long run only.
    #[test]
    fn every_mutant_finds_its_line() {
        for mutant in &MUTANTS {
            let file = root().unwrap().join(mutant.file);
            let original = fs::read_to_string(file).unwrap();
            assert_eq!(original.matches(mutant.was).count(), 1, "{}", mutant.name);
        }
    }
}
