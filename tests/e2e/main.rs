//! End-to-end tests: the real programs in a sealed environment, one behaviour a module.

mod real_cli_works;
mod tidy;

use sessd_tests::sandbox::Binaries;

/// The programs under test, built by the same `cargo test`.
pub(crate) const BINARIES: Binaries =
    Binaries { sessctl: env!("CARGO_BIN_EXE_e2e-sessctl"), sessd: env!("CARGO_BIN_EXE_e2e-sessd") };
