//! sessd: one durable registry of every coding-agent session on the machine.

pub mod process;
pub mod providers;

/// Runs the daemon.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
