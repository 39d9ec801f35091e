//! `setup`: what a fresh Debian 12 lacks for building the kernel object and running the tests.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

const LLVM: &str = "22";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER: &str = "0.13.0";

/// Debian packages: a name, a file that shows it is there, and what it is for.
const PACKAGES: [(&str, &str, &str); 24] = [
    (
        "systemd",
        "/usr/bin/systemd-analyze",
        "judges the unit in a test",
    ),
    (
        "man-db",
        "/usr/bin/man",
        "renders the manual pages in a test",
    ),
    ("build-essential", "/usr/bin/cc", "links programs"),
    ("pkg-config", "/usr/bin/pkg-config", "finds libraries"),
    (
        "iproute2",
        "/usr/sbin/ip",
        "network namespaces of the tests",
    ),
    (
        "ethtool",
        "/usr/sbin/ethtool",
        "checksum offload of the tests' interfaces",
    ),
    (
        "strace",
        "/usr/bin/strace",
        "a slow disk, and the daemon's privileged calls",
    ),
    ("nftables", "/usr/sbin/nft", "NAT in the lab"),
    ("iptables", "/usr/sbin/iptables", "NAT in the lab"),
    ("bpftool", "/usr/sbin/bpftool", "looks at programs and maps"),
    ("tcpdump", "/usr/bin/tcpdump", "looks at packets"),
    ("baresip-core", "/usr/bin/baresip", "the demo's phones"),
    (
        "baresip-ffmpeg",
        "/usr/lib/baresip/modules/avcodec.so",
        "the phones' video",
    ),
    ("sox", "/usr/bin/sox", "the demo's tone"),
    ("sipsak", "/usr/bin/sipsak", "a SIP peer of the tests"),
    (
        "mosquitto",
        "/usr/sbin/mosquitto",
        "a broker to compare with",
    ),
    (
        "mosquitto-clients",
        "/usr/bin/mosquitto_pub",
        "MQTT clients of the tests",
    ),
    (
        "python3-paho-mqtt",
        "/usr/lib/python3/dist-packages/paho",
        "an MQTT client of the tests",
    ),
    (
        "kamailio",
        "/usr/sbin/kamailio",
        "a registrar behind us in the tests",
    ),
    ("sip-tester", "/usr/bin/sipp", "a SIP peer of the tests"),
    ("sipvicious", "/usr/bin/svwar", "a scanner for the tests"),
    (
        "chromium",
        "/usr/bin/chromium",
        "looks at the dashboard in the tests",
    ),
    (
        "chromium-driver",
        "/usr/bin/chromedriver",
        "drives chromium in the tests",
    ),
    (
        "fonts-wqy-microhei",
        "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
        "Chinese in the dashboard's pictures",
    ),
];

/// What `bench` compares with.
const PEERS: [(&str, &str, &str); 2] = [
    (
        "rtpengine-daemon",
        "/usr/bin/rtpengine",
        "a relay to compare with, in userspace mode",
    ),
    (
        "kamailio",
        "/usr/sbin/kamailio",
        "a registrar and proxy to compare with",
    ),
];

/// What `dist` needs besides.
const PACKAGING: [(&str, &str, &str); 4] = [
    (
        "dpkg-dev",
        "/usr/bin/dpkg-shlibdeps",
        "names what the package needs",
    ),
    (
        "musl-tools",
        "/usr/bin/musl-gcc",
        "a binary that needs no libraries",
    ),
    ("systemd-container", "/usr/bin/systemd-nspawn", "boots it"),
    (
        "debootstrap",
        "/usr/sbin/debootstrap",
        "a clean system to try the package in",
    ),
];

#[derive(Args)]
pub(crate) struct Options {
    /// And what `cargo xtask bench` compares with
    #[arg(long)]
    bench: bool,
}

pub(crate) fn with(options: &Options) -> Result<()> {
    setup()?;
    if options.bench { bench() } else { Ok(()) }
}

/// Installs what `bench` compares with. Debian starts what it installs as a service.
pub(crate) fn bench() -> Result<()> {
    install(&PEERS)
}

/// Installs what `dist` needs besides.
pub(crate) fn dist() -> Result<()> {
    setup()?;
    install(&PACKAGING)
}

/// And what the image is built by.
pub(crate) fn image() -> Result<()> {
    install(&[(
        "buildah",
        "/usr/bin/buildah",
        "builds images without a daemon",
    )])
}

/// Whether the library is there for a target, or can be fetched.
pub(crate) fn musl(triple: &str) -> bool {
    let added = Command::new("rustup")
        .args(["target", "add", triple])
        .status();
    added.is_ok_and(|status| status.success())
}

/// Installs what is missing, and says what and why. Looks at files only when nothing is.
pub(crate) fn setup() -> Result<()> {
    rust_src()?;
    install(&PACKAGES)?;
    llvm()?;
    bpf_linker()
}

/// `-Zbuild-std=core` compiles the library from its source.
fn rust_src() -> Result<()> {
    let sysroot = output(Command::new(rustc()).args(["--print", "sysroot"]))
        .context("rustc does not run; install Rust from https://rustup.rs")?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if core.exists() {
        return Ok(());
    }
    say("rust-src, the source of the core library: the kernel program is built with its own core");
    let added = Command::new("rustup")
        .args(["component", "add", "rust-src"])
        .status();
    if added.is_ok_and(|status| status.success()) && core.exists() {
        return Ok(());
    }
    bail!(
        "the source of the core library is missing: {} is not there, and `rustup component add \
         rust-src` did not put it there; install it by the means this Rust came by",
        core.display(),
    );
}

fn install(packages: &[(&str, &str, &str)]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|(_, file, _)| !Path::new(file).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (package, _, why) in &missing {
        say(&format!("{package}: {why}"));
    }
    let names: Vec<&str> = missing.iter().map(|(package, _, _)| *package).collect();
    apt(&names)
}

fn llvm() -> Result<()> {
    if Path::new(LLVM_PREFIX).join("lib/libLLVM.so").exists() {
        return Ok(());
    }
    say(&format!("llvm-{LLVM}-dev: bpf-linker is built against it"));
    apt(&[&format!("llvm-{LLVM}-dev")]).context(
        "LLVM 22 is in Debian 12's security archive (suite bookworm-security); if this release has \
         none, install one under /usr/lib/llvm-22",
    )
}

fn bpf_linker() -> Result<()> {
    let version = output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if version.split_whitespace().nth(1) == Some(BPF_LINKER) {
        return Ok(());
    }
    say(&format!(
        "bpf-linker {BPF_LINKER}: links the kernel program (about a minute)"
    ));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{LLVM}"),
        ])
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("bpf-linker does not build; the compiler's message is above");
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    root("apt-get", &["update", "-q"])?;
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    root("apt-get", &[&install, packages].concat())
}

/// Runs a command as root: directly, or through sudo, or not at all.
fn root(program: &str, arguments: &[&str]) -> Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        Command::new(program)
    } else if Path::new("/usr/bin/sudo").exists() {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    } else {
        bail!("needs root and there is no sudo; run as root: {line}");
    };
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("{line}: does not start"))?;
    if !status.success() {
        bail!("{line}: failed; its message is above");
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

#[allow(clippy::print_stderr, reason = "progress is for people")]
fn say(what: &str) {
    eprintln!("setup: {what}");
}
