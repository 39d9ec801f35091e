//! Certificates for tests, made by `openssl`: an authority and what it issues.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// An authority whose files lie in a directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

/// A certificate and its key, in PEM form.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// # Errors
    /// `openssl` is missing, or the directory cannot be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let this = Self {
            directory: directory.to_owned(),
        };
        let [certificate, key] = [this.certificate(), directory.join("ca.key")];
        let extension = ["-addext", "basicConstraints=critical,CA:TRUE"];
        run(request("authority")
            .args(["-x509", "-days", "30", "-keyout"])
            .arg(key)
            .arg("-out")
            .arg(certificate)
            .args(extension))?;
        Ok(this)
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for these names: `IP:10.0.0.3,DNS:edge.example.com`.
    ///
    /// # Errors
    /// `openssl` refuses.
    pub fn issue(&self, file: &str, names: &str, days: u32) -> Result<Issued> {
        let path = |ending: &str| self.directory.join(format!("{file}.{ending}"));
        let extensions = path("ext");
        let usage = "extendedKeyUsage=serverAuth,clientAuth";
        fs::write(&extensions, format!("subjectAltName={names}\n{usage}\n"))?;
        run(request(file)
            .arg("-keyout")
            .arg(path("key"))
            .arg("-out")
            .arg(path("csr")))?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", &days.to_string()])
            .arg("-in")
            .arg(path("csr"))
            .arg("-CA")
            .arg(self.certificate())
            .arg("-CAkey")
            .arg(self.directory.join("ca.key"))
            .args(["-CAcreateserial", "-extfile"])
            .arg(extensions)
            .arg("-out")
            .arg(path("pem"));
        run(&mut sign)?;
        Ok(Issued {
            certificate: path("pem"),
            key: path("key"),
        })
    }
}

fn request(name: &str) -> Command {
    let mut command = Command::new("openssl");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    command.arg("req").args(curve).args(["-nodes", "-subj"]);
    command.arg(format!("/CN={name}"));
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("start openssl")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
