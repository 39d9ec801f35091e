//! Open files that media may not have: the API, connections and the store need some, however many
//! calls there are.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

/// Files that media leaves to everybody else; an eighth of the limit where that is less.
const RESERVE: u64 = 256;

/// How far media may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    end: RawFd,
}

impl Room {
    /// As the limit of open files is.
    pub(super) fn now() -> Self {
        // Without an answer the system's own refusal has to do.
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        Self::of(limit)
    }

    fn of(limit: u64) -> Self {
        let end = limit - RESERVE.min(limit / 8);
        Self {
            end: RawFd::try_from(end).unwrap_or(RawFd::MAX),
        }
    }

    /// Refuses one that was taken from the reserve. Files get the lowest free number: those below
    /// it are in use, all of them.
    pub(super) fn holds(self, file: &impl AsRawFd) -> io::Result<()> {
        if file.as_raw_fd() < self.end {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_files_is_not_for_media() {
        for (limit, end) in [
            (0, 0),
            (256, 224),
            (1_024, 896),
            (2_048, 1_792),
            (65_536, 65_280),
            (u64::MAX, RawFd::MAX),
        ] {
            assert_eq!(Room::of(limit).end, end, "{limit}");
        }
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let number = file.as_raw_fd();
        Room { end: number + 1 }.holds(&file).unwrap();
        let refused = Room { end: number }.holds(&file).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
    }
}
