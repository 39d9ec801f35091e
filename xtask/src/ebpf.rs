//! `ebpf`: builds the kernel object with the workspace's own compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

/// The object, relative to the workspace; `tests` and `dist` look for it there.
const OBJECT: &str = "target/ebpf/bpfel-unknown-none/release/relay";

/// What the object is made of.
const SOURCES: [&str; 5] = [
    "Cargo.lock",
    "common/src",
    "relay-ebpf/Cargo.toml",
    "relay-ebpf/src",
    "xtask/src/ebpf.rs",
];

/// Flags of the kernel program, one argument each:
///
/// - BTF from debug information, so that the verifier and `bpftool` can quote the source.
/// - Instruction set v3 (Linux 5.1): 32-bit arithmetic and jumps.
/// - Word loads from packets, which begin at an odd halfword: x86-64 and aarch64 allow them.
const RUSTFLAGS: [&str; 5] = [
    "-Clinker=bpf-linker",
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds the object unless it is newer than its sources, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let root = root()?;
    let object = root.join(OBJECT);
    if is_fresh(&root, &object)? {
        return Ok(object);
    }
    crate::setup::setup()?;
    let status = cargo(&root, &root.join("target/ebpf"))?
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("the kernel object does not build; the compiler's message is above");
    }
    touch(&object)?;
    say_size(&object)?;
    Ok(object)
}

/// The command that builds the object of a workspace.
pub(crate) fn cargo(workspace: &Path, target: &Path) -> Result<Command> {
    let mut flags = RUSTFLAGS.map(str::to_owned).to_vec();
    flags.extend(crate::run::remap()?);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "relay-ebpf"])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
            "--target-dir",
        ])
        .arg(target)
        // The one unstable flag, allowed for this one command.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS");
    Ok(cargo)
}

/// The workspace.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here
        .parent()
        .context("xtask lies in the workspace")?
        .to_path_buf())
}

fn is_fresh(root: &Path, object: &Path) -> Result<bool> {
    let Ok(built) = object.metadata().and_then(|m| m.modified()) else {
        return Ok(false);
    };
    for source in SOURCES {
        if newest(&root.join(source))? > built {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The latest change of a file, or in a directory.
fn newest(path: &Path) -> Result<SystemTime> {
    let metadata = path
        .metadata()
        .with_context(|| format!("{}: cannot read", path.display()))?;
    let mut newest = metadata.modified()?;
    if metadata.is_dir() {
        for entry in path.read_dir()? {
            newest = newest.max(self::newest(&entry?.path())?);
        }
    }
    Ok(newest)
}

/// Cargo leaves the object alone when nothing it holds has changed; it is fresh all the same.
fn touch(object: &Path) -> Result<()> {
    let file = std::fs::File::options().append(true).open(object)?;
    #[allow(clippy::disallowed_methods, reason = "a build tool lives in real time")]
    file.set_modified(SystemTime::now())?;
    Ok(())
}

/// The verifier's work grows with instructions.
#[allow(clippy::print_stdout, reason = "what the command is for")]
fn say_size(object: &Path) -> Result<()> {
    let bytes = program_bytes(&std::fs::read(object)?).context("the object has no program")?;
    println!(
        "{}: {} instructions",
        object.display(),
        bytes / INSTRUCTION_BYTES
    );
    Ok(())
}

const INSTRUCTION_BYTES: u64 = 8;
const SECTION_HEADER_BYTES: usize = 64;

/// Size of section `xdp` in a 64-bit little-endian ELF file.
fn program_bytes(elf: &[u8]) -> Option<u64> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let table = usize::try_from(u64_at(0x28)?).ok()?;
    let header = |index: u16| table + usize::from(index) * SECTION_HEADER_BYTES;
    let names = usize::try_from(u64_at(header(u16_at(0x3e)?) + 0x18)?).ok()?;
    (0..u16_at(0x3c)?).map(header).find_map(|section| {
        let name = names + usize::try_from(u32_at(section)?).ok()?;
        let is_program = elf.get(name..name + 4)? == b"xdp\0";
        is_program.then(|| u64_at(section + 0x20)).flatten()
    })
}
