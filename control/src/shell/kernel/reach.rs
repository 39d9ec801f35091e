//! What the kernel path reaches, changed while it runs: interfaces and local addresses come and
//! go, live flows stay as they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use common::map::{self, LOCALS_MAX, Settings};
use common::wire::Ip;

use super::{Interface, Kernel, KernelError};

/// Interfaces, by index, and local addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    pub interfaces: Vec<u32>,
    pub locals: Vec<IpAddr>,
}

impl Kernel {
    /// Brings in interfaces and local addresses, all of them or none. Returns those that were not
    /// there before, for `withdraw` to undo.
    ///
    /// # Errors
    /// `TooManyLocals`, why an interface cannot carry the program, or that a map cannot be
    /// written; then everything is as it was.
    pub fn extend(
        &mut self,
        interfaces: &[Interface],
        locals: &[IpAddr],
    ) -> Result<Reach, KernelError> {
        let known = self.locals();
        let wanted: BTreeSet<IpAddr> = known.iter().chain(locals).copied().collect();
        check_locals(&wanted)?;
        let mut added = Reach {
            interfaces: Vec::new(),
            locals: wanted.difference(&known).copied().collect(),
        };
        for interface in interfaces {
            if self.links.contains_key(&interface.index) {
                continue;
            }
            if let Err(error) = self.add_interface(interface) {
                self.undo(&added.interfaces);
                return Err(error);
            }
            added.interfaces.push(interface.index);
        }
        if let Err(error) = self.write_locals(&wanted) {
            self.undo(&added.interfaces);
            return Err(error);
        }
        Ok(added)
    }

    /// Lets go of interfaces and local addresses. Those that a flow leaves by or is at stay until
    /// it ends or goes elsewhere: they are returned, for the caller to ask again.
    ///
    /// What arrives by an interface that was let go reaches the stack's sockets.
    ///
    /// # Errors
    /// That a pin cannot be removed or a map cannot be written; the rest may be asked for again.
    pub fn withdraw(&mut self, gone: &Reach) -> Result<Reach, KernelError> {
        let (mut leave_by, mut are_at) = (BTreeSet::new(), BTreeSet::new());
        for (at, installed) in &self.installed {
            leave_by.insert(installed.flow.egress);
            are_at.insert(at.ip());
        }
        let mut wanted = self.locals();
        let mut kept = Reach::default();
        for ip in &gone.locals {
            if are_at.contains(ip) {
                kept.locals.push(*ip);
            } else {
                wanted.remove(ip);
            }
        }
        self.write_locals(&wanted)?;
        for index in &gone.interfaces {
            if leave_by.contains(index) {
                kept.interfaces.push(*index);
            } else {
                self.remove_interface(*index)?;
            }
        }
        Ok(kept)
    }

    /// The media addresses the program knows.
    #[must_use]
    pub fn locals(&self) -> BTreeSet<IpAddr> {
        let mine = self.settings.locals.iter();
        mine.filter(|ip| **ip != Ip::default())
            .map(|ip| IpAddr::from(*ip))
            .collect()
    }

    /// `TooManyLocals` was ruled out by `check_locals`.
    pub(super) fn write_locals(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        let settings = rearranged(&self.settings, wanted, tick_ns());
        self.settings_map
            .set(0, settings, 0)
            .map_err(|e| KernelError::map(map::SETTINGS, e))?;
        self.settings = settings;
        Ok(())
    }

    /// Takes back what has just been attached. The reason for it is what the caller is told.
    fn undo(&mut self, interfaces: &[u32]) {
        for index in interfaces {
            if let Err(error) = self.remove_interface(*index) {
                tracing::error!(index, %error, "an interface that was just attached stays so");
            }
        }
    }
}

pub(super) fn check_locals(wanted: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
    match wanted.iter().nth(LOCALS_MAX as usize) {
        Some(ip) => Err(KernelError::TooManyLocals { ip: *ip }),
        None => Ok(()),
    }
}

/// How long a timer tick of this machine lasts: no clock is read, its resolution is.
fn tick_ns() -> u64 {
    let tick = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    tick.map_or(TICK_NS, |tick| {
        let tick = Duration::from(tick).as_nanos();
        u64::try_from(tick).unwrap_or(TICK_NS)
    })
}

/// Of most kernels, should this one not tell.
const TICK_NS: u64 = 4_000_000;

/// The settings with other addresses: those that stay keep their slots, new ones fill the holes.
fn rearranged(old: &Settings, wanted: &BTreeSet<IpAddr>, tick_ns: u64) -> Settings {
    let mut settings = Settings {
        locals: old.locals,
        bans: old.bans,
        guarded_used: old.guarded_used,
        guarded: old.guarded,
        ..Settings::new(&[]).with_tick(tick_ns)
    };
    let mut missing: BTreeSet<IpAddr> = wanted.clone();
    for local in &mut settings.locals {
        if *local == Ip::default() || !missing.remove(&IpAddr::from(*local)) {
            *local = Ip::default();
        }
    }
    for local in settings
        .locals
        .iter_mut()
        .filter(|local| **local == Ip::default())
    {
        let Some(ip) = missing.pop_first() else {
            break;
        };
        *local = Ip::from(ip);
    }
    for (used, local) in (1..).zip(&settings.locals) {
        if *local != Ip::default() {
            settings.locals_used = used;
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stays_keeps_its_slot() {
        let none = Settings::default();
        let first = check(&none, &["10.1.2.3", "192.0.2.7", "2001:db8::1"], 3);
        let ip = |text: &str| Ip::from(text.parse::<IpAddr>().unwrap());
        let kept = first.slot(ip("192.0.2.7"));
        let second = check(&first, &["192.0.2.7"], kept + 1);
        assert_eq!(second.slot(ip("192.0.2.7")), kept);
        assert_eq!(second.slot(ip("10.1.2.3")), LOCALS_MAX);
        let third = check(&second, &["192.0.2.7", "198.51.100.4", "2001:db8::2"], 3);
        assert_eq!(third.slot(ip("192.0.2.7")), kept);
        check(&third, &[], 0);
    }

    fn check(old: &Settings, wanted: &[&str], used: u32) -> Settings {
        let wanted: BTreeSet<IpAddr> = wanted.iter().map(|ip| ip.parse().unwrap()).collect();
        let settings = rearranged(old, &wanted, 1);
        assert_eq!(settings.locals_used, used);
        for ip in &wanted {
            assert!(settings.slot(Ip::from(*ip)) < used);
        }
        settings
    }
}
