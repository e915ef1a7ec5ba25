//! The `longtail` binary: the allocator, and the program, which is in the library.

use std::process::ExitCode;

/// A reader takes a few small objects that live long, and a delivery takes a few that live for a short time. mimalloc
/// separates objects by size and by thread. This takes fewer instructions and bytes, and the memory of readers that
/// have disconnected returns to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    longtail::internals::program::main()
}
