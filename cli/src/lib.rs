//! sessctl: the thin client.

/// Runs the client.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
