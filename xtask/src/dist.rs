//! `dist`: what is handed out: a Debian package, a tarball, their checksums. The same sources give
//! the same bytes.

mod clean;
mod deb;
mod image;
mod licences;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::run::{self, cargo, say, step, target};
use crate::{ebpf, setup};

use stage::Stage;

#[derive(Args)]
pub(crate) struct Options {
    /// Package this binary, and build none
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the results go [default: target/package]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Then build the image of containers too; needs root
    #[arg(long)]
    image: bool,
    /// Then boot a clean Debian, install the package, call, upgrade, remove it; needs root
    #[arg(long = "try")]
    and_try: bool,
}

pub(crate) fn dist(options: &Options) -> Result<()> {
    let out = match &options.out {
        Some(out) => out.clone(),
        None => target()?.join("package"),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let release = Release::here()?;
    let (dynamic, portable) = match &options.binary {
        Some(binary) => {
            let binary = fs::canonicalize(binary)
                .with_context(|| format!("--binary {}", binary.display()))?;
            (binary.clone(), binary)
        }
        None => build(&release)?,
    };
    let deb = deb::build(&release, &dynamic, &out)?;
    let tarball = tarball(&release, &portable, &out)?;
    let names = [&deb, &tarball].map(|path| path.file_name().unwrap_or_default().to_owned());
    let sums = output(Command::new("sha256sum").args(&names).current_dir(&out))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    for path in [&deb, &tarball] {
        say(&path.display().to_string());
    }
    if options.image {
        // Its name without `.tar.gz` is the tree it is made of.
        let name = tarball.to_string_lossy();
        let tree = Path::new(name.trim_end_matches(".tar.gz"));
        say(&image::build(&release, tree, &out)?.display().to_string());
    }
    if options.and_try {
        clean::install_and_call(&deb)?;
    }
    Ok(())
}

/// What is handed out, and of when.
struct Release {
    version: String,
    /// Twelve digits; with `-dirty` where the sources are not that commit's.
    commit: String,
    /// Seconds since 1970: no file is younger.
    epoch: String,
}

impl Release {
    fn here() -> Result<Self> {
        let git = |arguments: &[&str]| output(Command::new("git").args(arguments));
        let head = git(&["rev-parse", "--short=12", "HEAD"])?;
        let is_clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(&["log", "-1", "--format=%ct"])?.trim().to_owned(),
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: format!("{}{}", head.trim(), if is_clean { "" } else { "-dirty" }),
            epoch,
        })
    }
}

/// The binary of the package, which uses this system's libraries, and that of the tarball, which
/// needs none where the musl target is to be had.
fn build(release: &Release) -> Result<(PathBuf, PathBuf)> {
    setup::dist()?;
    let object = ebpf::build()?;
    let architecture = std::env::consts::ARCH;
    let dynamic = binary(
        release,
        &object,
        &format!("{architecture}-unknown-linux-gnu"),
    )?;
    let musl = format!("{architecture}-unknown-linux-musl");
    let portable = if setup::musl(&musl) {
        binary(release, &object, &musl)?
    } else {
        say("the musl target is not to be had: the tarball's binary needs this system's glibc");
        dynamic.clone()
    };
    Ok((dynamic, portable))
}

fn binary(release: &Release, object: &Path, triple: &str) -> Result<PathBuf> {
    let build = ["build", "--profile", "dist", "-p", "towpath", "--locked"];
    let mut command = cargo(&build)?;
    command
        .args(["--features", "embed-object", "--target", triple])
        .env("TOWPATH_EMBED", object)
        .env("TOWPATH_COMMIT", &release.commit)
        .env("SOURCE_DATE_EPOCH", &release.epoch)
        .env("CARGO_ENCODED_RUSTFLAGS", run::remap()?.join("\x1f"))
        .env_remove("RUSTFLAGS");
    step(&format!("the binary for {triple}"), &mut command)?;
    let binary = target()?.join(triple).join("dist/towpath");
    let told = output(Command::new(&binary).args(["version", "-o", "json"]))?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let bytes = fs::metadata(object)?.len();
    ensure!(
        told.pointer("/object/bytes") == Some(&bytes.into())
            && told.pointer("/object/abi") == told.get("abi"),
        "{}: not with the kernel program that was built: {told}",
        binary.display()
    );
    Ok(binary)
}

/// Everything below one directory: `bin`, `lib`, `share`, `etc`.
fn tarball(release: &Release, binary: &Path, out: &Path) -> Result<PathBuf> {
    let told = output(Command::new(binary).args(["version", "-o", "json"]))?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let target = told.get("target").and_then(|t| t.as_str());
    let target = target.context("`towpath version` names no target")?;
    let name = format!("towpath-{}-{target}", release.version);
    let tree = out.join(&name);
    let mut stage = Stage::new(&tree)?;
    stage.fill(release, binary, "")?;
    stage.copy("LICENSE-MIT", "LICENSE-MIT", 0o644)?;
    stage.copy("LICENSE-APACHE", "LICENSE-APACHE", 0o644)?;
    stage.copy("README.md", "README.md", 0o644)?;
    stage.copy("control/package/Containerfile", "Containerfile", 0o644)?;
    let file = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--format=gnu", "--use-compress-program=gzip -9n"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg("-cf")
        .arg(&file)
        .arg("-C")
        .arg(out)
        .arg(&name);
    step("the tarball", &mut tar)?;
    Ok(file)
}

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
