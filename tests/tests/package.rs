//! The Debian package as `cargo xtask dist` makes it, with the binary of the tests in it.
//! Needs no root.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towpath_tests::process;

/// What must be in it, and how it may be used.
const FILES: [(&str, &str); 18] = [
    ("./etc/towpath/towpath.toml", "-rw-r--r--"),
    ("./usr/bin/towpath", "-rwxr-xr-x"),
    ("./usr/lib/systemd/system/towpath.service", "-rw-r--r--"),
    ("./usr/lib/sysctl.d/60-towpath.conf", "-rw-r--r--"),
    ("./usr/lib/sysusers.d/towpath.conf", "-rw-r--r--"),
    ("./usr/lib/tmpfiles.d/towpath.conf", "-rw-r--r--"),
    (
        "./usr/share/bash-completion/completions/towpath",
        "-rw-r--r--",
    ),
    ("./usr/share/doc/towpath/book/first-call.md", "-rw-r--r--"),
    (
        "./usr/share/doc/towpath/book/images/networks.svg",
        "-rw-r--r--",
    ),
    ("./usr/share/doc/towpath/changelog.Debian.gz", "-rw-r--r--"),
    ("./usr/share/doc/towpath/copyright", "-rw-r--r--"),
    (
        "./usr/share/doc/towpath/examples/towpath.toml",
        "-rw-r--r--",
    ),
    ("./usr/share/doc/towpath/third-party.txt.gz", "-rw-r--r--"),
    (
        "./usr/share/fish/vendor_completions.d/towpath.fish",
        "-rw-r--r--",
    ),
    ("./usr/share/man/man1/towpath.1.gz", "-rw-r--r--"),
    ("./usr/share/man/man1/towpath-call-show.1.gz", "-rw-r--r--"),
    ("./usr/share/towpath/monitoring/alerts.yml", "-rw-r--r--"),
    ("./usr/share/zsh/vendor-completions/_towpath", "-rw-r--r--"),
];

/// What a command prints; it must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Packages what `binary` is, into `out`; the package.
fn dist(binary: &Path, out: &Path) -> PathBuf {
    let xtask = process::binary().unwrap().with_file_name("xtask");
    let told = run(Command::new(xtask)
        .arg("dist")
        .arg("--binary")
        .arg(binary)
        .arg("--out")
        .arg(out));
    assert_eq!(told, "");
    let mut files = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .unwrap()
}

fn package_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../control/package")
        .join(name)
}

#[test]
fn the_package_has_what_it_should_and_is_the_same_twice() {
    let scratch = std::env::temp_dir().join(format!("towpath-package-{}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    let binary = scratch.join("towpath");
    run(Command::new("strip")
        .arg("-o")
        .arg(&binary)
        .arg(process::binary().unwrap()));
    let deb = dist(&binary, &scratch.join("one"));
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    for (file, mode) in FILES {
        let mut lines = listed
            .lines()
            .filter(|line| line.ends_with(&format!(" {file}")));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("{file} is missing:\n{listed}"));
        assert!(line.starts_with(&format!("{mode} root/root ")), "{line}");
    }
    assert!(
        listed.lines().all(|line| !line.contains(" ./usr/local")),
        "{listed}"
    );
    let field = |name: &str| run(Command::new("dpkg-deb").arg("--field").arg(&deb).arg(name));
    assert_eq!(field("Package").trim(), "towpath");
    assert!(
        field("Depends").starts_with("libc6 (>= "),
        "{}",
        field("Depends")
    );
    let again = dist(&binary, &scratch.join("two"));
    assert!(
        fs::read(&deb).unwrap() == fs::read(&again).unwrap(),
        "two packages of one source"
    );
    for script in ["postinst", "prerm", "postrm"] {
        run(Command::new("sh")
            .arg("-n")
            .arg(package_file("debian").join(script)));
    }
    fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn the_unit_is_what_systemd_understands_and_well_locked_up() {
    let unit = package_file("towpath.service");
    let told = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&unit));
    let level = told
        .lines()
        .find_map(|line| line.split_once("exposure level for towpath.service: "));
    let (_, level) = level.unwrap_or_else(|| panic!("{told}"));
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= 2.5, "{told}");
    let text = fs::read_to_string(unit).unwrap();
    for line in [
        "Type=notify",
        "User=towpath",
        "WatchdogSec=10",
        "NoNewPrivileges=yes",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
    // Told in docs/operations.md: those that a person has to mend.
    assert!(text.contains("RestartPreventExitStatus=66 77 78\n"));
}

#[test]
fn every_manual_page_is_rendered_without_a_warning() {
    let scratch = std::env::temp_dir().join(format!("towpath-manual-{}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    run(Command::new(process::binary().unwrap())
        .arg("man")
        .arg("--dir")
        .arg(&scratch));
    let mut pages = 0;
    for page in fs::read_dir(&scratch).unwrap() {
        let page = page.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(&page);
        let output = man
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && told.is_empty(),
            "{}: {told}",
            page.display()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("SYNOPSIS"), "{}", page.display());
        pages += 1;
    }
    assert!(pages > 30, "{pages}");
    fs::remove_dir_all(&scratch).unwrap();
}
