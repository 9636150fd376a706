//! The sealed world of the end-to-end tests: a model server, the real provider CLIs and
//! terminals, all inside one throw-away directory. Must not know the registry's insides.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a broken assumption must end the test at once, and loudly"
)]

pub mod cache;
pub mod daemon;
pub mod facts;
pub mod hung_disk;
pub mod large_home;
pub mod model_server;
pub mod npm;
pub mod other_user;
pub mod real_cli;
pub mod report;
pub mod sandbox;
pub mod shifted_clock;
pub mod small_disk;
mod stopwatch;
pub mod systemd;
pub mod terminal;
pub mod tools;
pub mod tree;
pub mod wait;
mod watch;

/// True in the long suite, which `SESSD_TEST_LONG=1` selects: every row of the real CLIs, and
/// many rounds of what depends on chance.
pub fn is_long() -> bool {
    std::env::var_os("SESSD_TEST_LONG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns how often a test that depends on chance repeats itself: `few` times by default,
/// `many` times in the long suite.
pub fn rounds(few: u64, many: u64) -> u64 {
    if is_long() { many } else { few }
}
