//! The kernel program: what a file holds, or what this binary was built with.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::shell::kernel;

/// What `cargo xtask dist` builds in: an ELF file, which is read in words of eight bytes.
#[cfg(feature = "embed-object")]
const EMBEDDED: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!(
    "TOWPATH_EMBED",
    "feature embed-object: TOWPATH_EMBED must name the kernel program (`cargo xtask ebpf`)"
)));
#[cfg(not(feature = "embed-object"))]
const EMBEDDED: Option<&[u8]> = None;

/// Whoever builds from a repository says which commit.
const COMMIT: Option<&str> = option_env!("TOWPATH_COMMIT");

/// The program that was asked for; else the one that is built in.
///
/// # Errors
/// The file cannot be read, or none was named and none is built in.
pub(super) fn bytes(named: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    match (named, EMBEDDED) {
        (Some(path), _) => fs::read(path).map(Cow::Owned).with_context(|| {
            format!(
                "cannot read the kernel program {} (`cargo xtask ebpf` builds one)",
                path.display()
            )
        }),
        (None, Some(embedded)) => Ok(Cow::Borrowed(embedded)),
        (None, None) => bail!(
            "no kernel program: build one with `cargo xtask ebpf` and name it in datapath.object \
             or with --object"
        ),
    }
}

/// Which Towpath this is, and which kernel program it has with it.
#[must_use]
pub fn version() -> Value {
    let object = EMBEDDED.map(|bytes| json!({ "bytes": bytes.len(), "abi": kernel::abi(bytes) }));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": COMMIT,
        "target": format!("{}-{}", std::env::consts::ARCH, libc()),
        "abi": common::map::ABI,
        "object": object,
        "features": features(),
    })
}

/// The commit, where it is known.
pub(super) fn commit() -> &'static str {
    COMMIT.unwrap_or("unknown")
}

fn features() -> Vec<&'static str> {
    [
        ("daemon", cfg!(feature = "daemon")),
        ("embed-object", cfg!(feature = "embed-object")),
    ]
    .into_iter()
    .filter_map(|(name, is_on)| is_on.then_some(name))
    .collect()
}

fn libc() -> &'static str {
    if cfg!(target_env = "musl") {
        "linux-musl"
    } else {
        "linux-gnu"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_counts() {
        let file = std::env::temp_dir().join(format!("towpath-object-{}", std::process::id()));
        fs::write(&file, b"an object").unwrap();
        assert_eq!(&*bytes(Some(&file)).unwrap(), b"an object");
        fs::remove_file(&file).unwrap();
        let told = format!("{:#}", bytes(Some(&file)).unwrap_err());
        assert!(told.contains("`cargo xtask ebpf` builds one"), "{told}");
    }

    #[test]
    fn what_is_built_in_has_our_abi() {
        match EMBEDDED {
            Some(embedded) => {
                assert_eq!(embedded.as_ptr().align_offset(8), 0);
                assert_eq!(version()["object"]["abi"], common::map::ABI);
                assert_eq!(&*bytes(None).unwrap(), embedded);
            }
            None => {
                let told = bytes(None).unwrap_err().to_string();
                assert!(told.starts_with("no kernel program: build one"), "{told}");
                assert!(version()["object"].is_null());
            }
        }
    }
}
