//! The program `sessd`; everything is in the library.

fn main() -> std::process::ExitCode {
    sessd::main()
}
