//! `ebpf --variants`: the kernel program as other builds of it would be, for tests of upgrades. One
//! does the same by other instructions; one forgets the hop limit, and must never take over.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::ebpf;
use crate::run::{root, step, target};

struct Variant {
    name: &'static str,
    /// The compiler's effort; 3 is that of the shipped program.
    opt_level: &'static str,
    /// What stands once in `common/src/forward/headers.rs`, and what stands there instead.
    change: Option<(&'static str, &'static str)>,
}

const VARIANTS: [Variant; 2] = [
    Variant {
        name: "other",
        opt_level: "2",
        change: None,
    },
    Variant {
        name: "broken",
        opt_level: "3",
        change: Some(("self.ip.ttl -= 1;", "")),
    },
];

/// Builds `target/ebpf-variants/NAME.o` for every variant that is older than the program.
pub(crate) fn build() -> Result<()> {
    let program = ebpf::build()?.metadata()?.modified()?;
    let base = target()?.join("ebpf-variants");
    for variant in &VARIANTS {
        let object = base.join(format!("{}.o", variant.name));
        let built = object.metadata().and_then(|m| m.modified());
        if built.is_ok_and(|built| built >= program) {
            continue;
        }
        let tree = base.join("tree");
        copy(&tree, variant)?;
        let mut command = ebpf::cargo(&tree, &base.join("target"))?;
        let opt_level = variant.opt_level;
        let profile = format!("profile.release.package.relay-ebpf.opt-level={opt_level}");
        command.args(["--config", &profile]);
        step(&format!("kernel program `{}`", variant.name), &mut command)?;
        let built = base.join("target/bpfel-unknown-none/release/relay");
        fs::copy(&built, &object).with_context(|| format!("{}", object.display()))?;
    }
    Ok(())
}

/// What the program is made of, in a workspace of its own with the others by reference.
fn copy(tree: &Path, variant: &Variant) -> Result<()> {
    let root = root()?;
    if tree.exists() {
        fs::remove_dir_all(tree).context("cannot remove the last copy")?;
    }
    fs::create_dir_all(tree)?;
    for part in [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "relay-ebpf",
        "common",
    ] {
        bring(&root.join(part), &tree.join(part))?;
    }
    for member in ["control", "tests", "xtask"] {
        std::os::unix::fs::symlink(root.join(member), tree.join(member))?;
    }
    if let Some((was, becomes)) = variant.change {
        let file = tree.join("common/src/forward/headers.rs");
        let text = fs::read_to_string(&file)?;
        ensure!(
            text.matches(was).count() == 1,
            "`{was}` does not stand once in {}: bring xtask/src/variants.rs in step",
            file.display()
        );
        fs::write(&file, text.replacen(was, becomes, 1))?;
    }
    Ok(())
}

fn bring(from: &PathBuf, to: &PathBuf) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "target" {
            bring(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}
