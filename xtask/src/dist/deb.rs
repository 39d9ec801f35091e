//! The Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::stage::Stage;
use super::{Release, output};
use crate::run::{root, step};

/// Of the package, should it change while the sources do not.
const REVISION: &str = "1";

pub(super) fn build(release: &Release, binary: &Path, out: &Path) -> Result<PathBuf> {
    let version = format!("{}-{REVISION}", release.version);
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let mut stage = Stage::new(&out.join("deb"))?;
    stage.fill(release, binary, "usr/")?;
    let changes = changelog(release, &version)?;
    stage.packed("usr/share/doc/towpath/changelog.Debian", &changes)?;
    stage.put(
        "usr/share/doc/towpath/copyright",
        copyright()?.as_bytes(),
        0o644,
    )?;
    let (sums, kibibytes) = contents(stage.directory())?;
    let control = template("control")?
        .replace("@VERSION@", &version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &kibibytes.to_string())
        .replace("@DEPENDS@", &libraries(binary, out)?);
    stage.put("DEBIAN/control", control.as_bytes(), 0o644)?;
    stage.put("DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    stage.put("DEBIAN/conffiles", template("conffiles")?.as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = template(script)?;
        stage.put(&format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    let file = out.join(format!("towpath_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"])
        .arg(stage.directory())
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", &release.epoch);
    step("the package", &mut build)?;
    Ok(file)
}

fn template(name: &str) -> Result<String> {
    let path = root()?.join("control/package/debian").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// What the binary is linked with, as packages and least versions.
fn libraries(binary: &Path, out: &Path) -> Result<String> {
    let sources = out.join("shlibdeps");
    fs::create_dir_all(sources.join("debian"))?;
    let control = "Source: towpath\n\nPackage: towpath\nArchitecture: any\n";
    fs::write(sources.join("debian/control"), control)?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.args(["-O", "-e"]).arg(binary).current_dir(&sources);
    let told = output(&mut command)?;
    let depends = told.trim().strip_prefix("shlibs:Depends=");
    fs::remove_dir_all(&sources)?;
    let depends = depends.with_context(|| {
        let binary = binary.display();
        format!(
            "{binary} uses no library: a package is made of a binary that is linked dynamically"
        )
    })?;
    Ok(depends.to_owned())
}

/// Sums of the files, and how much room they take.
fn contents(tree: &Path) -> Result<(String, u64)> {
    let find = [
        "-c",
        "find . -type f ! -path './DEBIAN/*' -printf '%P\\0' | LC_ALL=C sort -z \
                       | xargs -0 md5sum",
    ];
    let sums = output(Command::new("sh").args(find).current_dir(tree))?;
    let mut kibibytes = 0;
    for line in sums.lines() {
        let (_, name) = line.split_once("  ").context("md5sum")?;
        kibibytes += fs::metadata(tree.join(name))?.len().div_ceil(1024);
    }
    Ok((sums, kibibytes))
}

fn changelog(release: &Release, version: &str) -> Result<String> {
    let at = format!("@{}", release.epoch);
    let date = output(
        Command::new("date")
            .args(["-u", "-R", "-d", &at])
            .env("LC_ALL", "C"),
    )?;
    Ok(format!(
        "towpath ({version}) unstable; urgency=medium\n\n  * Built from {}; changelog.gz says what \
         is new.\n\n -- Towpath maintainers <maintainers@towpath.invalid>  {}\n",
        release.commit,
        date.trim()
    ))
}

/// With the text of the licence that Debian does not bring.
fn copyright() -> Result<String> {
    let mit = fs::read_to_string(root()?.join("LICENSE-MIT"))?;
    let indented: Vec<String> = mit
        .trim_end()
        .lines()
        .map(|line| {
            if line.is_empty() {
                " .".to_owned()
            } else {
                format!(" {line}")
            }
        })
        .collect();
    Ok(template("copyright")?.replace("@MIT@", &indented.join("\n")))
}
