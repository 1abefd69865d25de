//! The binary: hand the arguments to `cli`, leave with its exit code.

/// A request of the gateway takes and gives back many small pieces of memory on one thread; this allocator does that in fewer cycles than the
/// system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cutover::cli::main()
}
