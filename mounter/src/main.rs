//! Parse, run, exit.

fn main() -> std::process::ExitCode {
    slotfs::cli::main(std::env::args_os())
}
