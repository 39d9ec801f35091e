//! Another program in place of the one that runs: tried before it takes over, and taken back if
//! the takeover does not succeed everywhere.

use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{Xdp, XdpLink};
use aya_obj::programs::XdpAttachType;
use common::map;

use super::link::unpin;
use super::{Attach, Interface, Kernel, KernelError, adopt, selftest};

/// The pin of the program that runs: by it the next daemon goes back to it.
const PROGRAM_PIN: &str = "program";
/// The next one's, until it takes that name.
const PROGRAM_PIN_NEW: &str = "program-new";

/// The program that ran before, which goes on.
pub(super) struct Kept {
    pub(super) program: Xdp,
    /// What is wrong with the one that should have followed it.
    pub(super) why: KernelError,
}

/// Loads the object over the pinned maps, once it has passed its test. One that does not pass is
/// left alone if there is a program to go on with.
pub(super) fn load(dir: &Path, attach: &Attach<'_>) -> Result<(Ebpf, Option<Kept>), KernelError> {
    let trial = selftest::open(attach.object)?;
    let mut ebpf = adopt::open(dir, attach)?;
    // The verifier takes its time: what runs already has been tried.
    let tried = adopt::verify(&mut ebpf).and_then(|()| {
        if is_pinned(dir, &ebpf) {
            return Ok(());
        }
        selftest::check(trial)
    });
    match tried {
        Ok(()) => Ok((ebpf, None)),
        Err(why @ (KernelError::SelfTest { .. } | KernelError::Refused { .. })) => {
            match pinned_program(dir) {
                Some(program) => Ok((ebpf, Some(Kept { program, why }))),
                None => Err(why),
            }
        }
        Err(why) => Err(why),
    }
}

/// Whether the program that runs has the same instructions.
fn is_pinned(dir: &Path, ebpf: &Ebpf) -> bool {
    let own = ebpf
        .program(map::PROGRAM)
        .and_then(|program| <&Xdp>::try_from(program).ok()?.info().ok());
    let pinned = ProgramInfo::from_pin(dir.join(PROGRAM_PIN)).ok();
    own.zip(pinned)
        .is_some_and(|(own, pinned)| own.tag() == pinned.tag())
}

fn pinned_program(dir: &Path) -> Option<Xdp> {
    let pin = dir.join(PROGRAM_PIN);
    Xdp::from_pin(pin, XdpAttachType::Interface).ok()
}

impl Kernel {
    /// Attaches to every interface, or takes over its link; all of them or none.
    pub(super) fn attach_all(&mut self, interfaces: &[Interface]) -> Result<(), KernelError> {
        let before: Vec<&Interface> = interfaces
            .iter()
            .filter(|interface| self.pin(interface.index).exists())
            .collect();
        for interface in interfaces {
            if let Err(error) = self.add_interface(interface) {
                self.roll_back(&before);
                return Err(error);
            }
        }
        self.pin_program()
    }

    /// The old program in its links again; from where it was not, the new one goes.
    fn roll_back(&mut self, before: &[&Interface]) {
        let mut old = pinned_program(&self.dir);
        for (index, link) in std::mem::take(&mut self.links) {
            let was = before.iter().find(|interface| interface.index == index);
            let result = match (was, &mut old) {
                (Some(interface), Some(old)) => {
                    put(old, &self.pin(interface.index), &interface.name)
                }
                // Pinned by a daemon that pinned no program: nothing to go back to.
                (Some(_), None) => Ok(()),
                (None, _) => unpin(&self.pin(index)),
            };
            drop(link);
            if let Err(error) = result {
                tracing::error!(index, %error, "cannot go back to the program that ran");
            }
        }
    }

    /// Lets the next daemon find the program that is attached.
    fn pin_program(&mut self) -> Result<(), KernelError> {
        if self.kept.is_some() {
            return Ok(());
        }
        let (new, pin) = (self.dir.join(PROGRAM_PIN_NEW), self.dir.join(PROGRAM_PIN));
        unpin(&new)?;
        let error = |source| KernelError::PinDir {
            path: pin.clone(),
            source,
        };
        self.program()?
            .pin(&new)
            .map_err(|e| error(io::Error::other(e)))?;
        std::fs::rename(&new, &pin).map_err(error)
    }

    /// Why the program of the object is not the one that runs.
    #[must_use]
    pub fn refused(&self) -> Option<&KernelError> {
        self.kept.as_ref().map(|kept| &kept.why)
    }
}

/// Puts a program into a pinned link, in one step.
fn put(program: &mut Xdp, pin: &Path, name: &str) -> Result<(), KernelError> {
    let link = PinnedLink::from_pin(pin).map_err(|e| KernelError::link(name, e))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|e| KernelError::link(name, e))?;
    let id = program
        .attach_to_link(link)
        .map_err(|e| KernelError::attach(name, e))?;
    // Dropped: the pin holds the link, not this handle.
    program
        .take_link(id)
        .map(drop)
        .map_err(|e| KernelError::attach(name, e))
}
