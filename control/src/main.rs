//! The binary `towpath`.

use std::process::ExitCode;

/// Every message makes and drops small blocks, on several threads: the C library's allocator takes
/// longer for them, musl's most of all, and gives less back to the system.
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    control::cli::main()
}
