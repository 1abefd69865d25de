//! The binary: hand the arguments to `cli`, leave with its exit code.

fn main() -> std::process::ExitCode {
    cutover::cli::main()
}
