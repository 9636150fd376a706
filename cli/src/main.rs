//! The `sessctl` program; everything is in the library.

fn main() -> std::process::ExitCode {
    sessctl::main()
}
