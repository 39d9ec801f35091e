//! How `towpath run` ends when it cannot start: a service manager is told which of it a person
//! has to mend first (sysexits.h).

use std::io;

/// Why the daemon does not run; its number is the exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// The file that was named cannot be read (`EX_NOINPUT`).
    NoInput = 66,
    /// A port, a socket or the kernel path cannot be had as things are (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// The daemon may not do what it was asked for (`EX_NOPERM`).
    Permission = 77,
    /// The configuration is refused (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// Of what the system does not give.
    pub(super) fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Permission
        } else {
            Self::Unavailable
        }
    }

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
