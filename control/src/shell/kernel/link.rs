//! Interfaces: the program attached, its links pinned and taken over.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use common::map;

use super::error::errno;
use super::{Interface, Kernel, KernelError};

/// Pinned links are called this and the interface's index: a name may hold a dot, which the BPF
/// file system refuses.
const LINK_PREFIX: &str = "link-";

/// How long an interface may take to be free again.
const RELEASE_TRIES: u32 = 25;
const RELEASE_EVERY: Duration = Duration::from_millis(20);

impl Kernel {
    /// Attaches to one more interface, or takes over the link that is pinned for it, and lets flows
    /// leave by it.
    ///
    /// # Errors
    /// Why the interface cannot carry the program, which is then not attached to it.
    pub(super) fn add_interface(&mut self, interface: &Interface) -> Result<(), KernelError> {
        let Interface { name, index } = interface;
        let pin = self.pin(*index);
        let taken = self.take_over(&pin, name)?;
        let was_there = taken.is_some();
        let link = match taken {
            Some(link) => link,
            None => self
                .attach(name, *index)?
                .pin(&pin)
                .map_err(|e| KernelError::PinDir {
                    path: pin.clone(),
                    source: io::Error::other(e),
                })?,
        };
        if let Err(error) = self.egress.insert(*index, *index, None, 0) {
            drop(link);
            // What ran before goes on running.
            if !was_there {
                unpin(&pin)?;
            }
            return Err(KernelError::map(map::EGRESS, error));
        }
        self.links.insert(*index, link);
        Ok(())
    }

    /// Detaches from an interface: nothing leaves by it any more, what arrives goes to the stack as
    /// soon as the kernel has forgotten the pin.
    pub(super) fn remove_interface(&mut self, index: u32) -> Result<(), KernelError> {
        unpin(&self.pin(index))?;
        if self.links.remove(&index).is_some() {
            self.released.insert(index);
        }
        // It may have gone with its interface.
        drop(self.egress.remove(index));
        Ok(())
    }

    pub(super) fn pin(&self, index: u32) -> PathBuf {
        self.dir.join(format!("{LINK_PREFIX}{index}"))
    }

    /// Detaches from interfaces that are no longer configured.
    pub(super) fn forget_interfaces(&mut self, keep: &[Interface]) -> Result<(), KernelError> {
        for index in pinned(&self.dir)? {
            if !keep.iter().any(|interface| interface.index == index) {
                self.remove_interface(index)?;
            }
        }
        Ok(())
    }

    pub(super) fn program(&mut self) -> Result<&mut Xdp, KernelError> {
        if let Some(kept) = &mut self.kept {
            return Ok(&mut kept.program);
        }
        self.ebpf
            .program_mut(map::PROGRAM)
            .and_then(|program| <&mut Xdp>::try_from(program).ok())
            .ok_or_else(|| KernelError::Object {
                why: format!("no program `{}`", map::PROGRAM),
            })
    }

    fn attach(&mut self, name: &str, index: u32) -> Result<FdLink, KernelError> {
        let mode = if self.native {
            XdpMode::Driver
        } else {
            XdpMode::Skb
        };
        // What we have let go of the kernel may hold for a moment more.
        let tries = if self.released.remove(&index) {
            RELEASE_TRIES
        } else {
            0
        };
        let program = self.program()?;
        let mut attached = program.attach_to_if_index(index, mode);
        for _ in 0..tries {
            match &attached {
                Err(error) if errno(error) == Some(libc::EBUSY) => {
                    std::thread::sleep(RELEASE_EVERY);
                    attached = program.attach_to_if_index(index, mode);
                }
                _ => break,
            }
        }
        let id = attached.map_err(|e| KernelError::attach(name, e))?;
        let link = program
            .take_link(id)
            .map_err(|e| KernelError::attach(name, e))?;
        // An old kernel attaches without a link; that cannot be pinned, and ends with the daemon.
        FdLink::try_from(link).map_err(|e| KernelError::link(name, e))
    }

    /// Puts our program into the link that is pinned for an interface. None if there is none, or
    /// one whose interface has gone.
    fn take_over(&mut self, pin: &Path, name: &str) -> Result<Option<PinnedLink>, KernelError> {
        if !pin.exists() {
            return Ok(None);
        }
        let open = || PinnedLink::from_pin(pin).map_err(|e| KernelError::link(name, e));
        let link =
            XdpLink::try_from(FdLink::from(open()?)).map_err(|e| KernelError::link(name, e))?;
        let kept = open()?;
        let program = self.program()?;
        match program.attach_to_link(link) {
            Ok(id) => {
                // Dropped: the pin holds the link, not this handle.
                drop(
                    program
                        .take_link(id)
                        .map_err(|e| KernelError::attach(name, e))?,
                );
                Ok(Some(kept))
            }
            Err(e) if errno(&e) == Some(libc::ENOLINK) => {
                unpin(pin)?;
                Ok(None)
            }
            Err(e) => Err(KernelError::attach(name, e)),
        }
    }
}

/// The interfaces that links are pinned for.
fn pinned(dir: &Path) -> Result<Vec<u32>, KernelError> {
    let error = |source| KernelError::PinDir {
        path: dir.to_path_buf(),
        source,
    };
    let mut pinned = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        let index = name.to_str().and_then(|n| n.strip_prefix(LINK_PREFIX));
        pinned.extend(index.and_then(|index| index.parse::<u32>().ok()));
    }
    Ok(pinned)
}

pub(super) fn unpin(pin: &Path) -> Result<(), KernelError> {
    match std::fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::PinDir {
            path: pin.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}
