//! The image, by the recipe and without a daemon of containers: as an archive of OCI layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Release, output};
use crate::run::{root, step};
use crate::setup;

/// Of the image while it is built.
const NAME: &str = "towpath";

/// From the tree of the tarball, whose binary needs no libraries.
pub(super) fn build(release: &Release, tree: &Path, out: &Path) -> Result<PathBuf> {
    setup::image()?;
    let store = out.join("image");
    let archive = out.join(format!("towpath-{}-oci.tar", release.version));
    let buildah = || {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(store.join("root"));
        command.arg("--runroot").arg(store.join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    };
    let mut build = buildah();
    build.args(["bud", "--isolation", "chroot", "--format", "oci"]);
    build.args(["--timestamp", &release.epoch, "--tag", NAME, "--file"]);
    build.arg(root()?.join("control/package/Containerfile"));
    step("the image", build.arg(tree))?;
    // It starts, with nothing else in its file system.
    let container = output(buildah().args(["from", "--pull-never", NAME]))?;
    let container = container.trim();
    let mut run = buildah();
    run.args(["run", "--isolation", "chroot", container, "--"]);
    let told = output(run.args(["/usr/bin/towpath", "version"]))?;
    ensure!(told.contains(&release.version), "the image: {told}");
    if archive.exists() {
        fs::remove_file(&archive)?;
    }
    let to = format!("oci-archive:{}:{NAME}", archive.display());
    step("its archive", buildah().args(["push", NAME, &to]))?;
    output(buildah().args(["rm", "--all"]))?;
    output(buildah().args(["rmi", "--all", "--force"]))?;
    fs::remove_dir_all(&store)?;
    Ok(archive)
}
