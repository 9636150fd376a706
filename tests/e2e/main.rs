//! End-to-end tests: the real programs in a sealed environment, one behaviour a module.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests: a broken assumption must end the test at once, and loudly"
)]

mod agents;
mod agents_real;
mod autostart;
mod background;
mod bad_input;
mod bounds;
mod capabilities;
mod claude_cleanup;
mod cleanup;
mod concurrent_turns;
mod crash;
mod cursor;
mod damage;
mod damage_random;
mod denied_access;
mod discover;
mod disk_full;
mod echo;
mod environment;
mod failed_calls;
mod failpoints;
mod fallback;
mod first_byte;
mod foreign_users;
mod free_checks;
mod gemini_cleanup;
mod gone;
mod hostile_agents;
mod hostile_clients;
mod hung_disk;
mod keys;
mod limits;
mod list;
mod list_whole;
mod live;
mod lost_at_start;
mod mid_answer;
mod new;
mod odd_disks;
mod odd_inputs;
mod one_transcript;
mod permissions_real;
mod power_loss;
mod private_files;
mod provider_traps;
mod read_only;
mod real_cli_works;
mod recording;
mod resume;
mod resume_real;
mod resume_refused;
mod scene;
mod secrecy;
mod soak;
mod steal;
mod systemd;
mod systemd_install;
mod systemd_restarts;
mod tidy;
mod titles;
mod tool_events;
mod tools;
mod tools_http;
mod torn_lines;
mod trash;
mod turn_checks;
mod turn_order;
mod turn_verbs;
mod turns;
mod upgrade;
mod verdicts;
mod versions;

use sessd_tests::real_cli::Cursor;
use sessd_tests::sandbox::Binaries;

/// The programs under test, built by the same `cargo test`.
pub(crate) const BINARIES: Binaries =
    Binaries { sessctl: env!("CARGO_BIN_EXE_e2e-sessctl"), sessd: env!("CARGO_BIN_EXE_e2e-sessd") };

/// Our stand-in for the Cursor CLI, built by the same `cargo test`.
pub(crate) const CURSOR: &Cursor = &Cursor { program: env!("CARGO_BIN_EXE_cursor-agent") };
