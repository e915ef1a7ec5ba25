//! The `longtail` binary: the allocator, and the program, which is in the library.

use std::process::ExitCode;

/// A reader is a few small objects that live long, and a delivery is a few that do not. mimalloc keeps them apart by
/// size and by thread: fewer instructions and bytes, and the memory of readers that have gone returns to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    longtail::internals::program::main()
}
