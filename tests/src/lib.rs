//! The sealed world of the end-to-end tests: a model server, the real provider CLIs and
//! terminals, all inside one throw-away directory. Knows nothing of the registry's insides.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a broken assumption must end the test at once, and loudly"
)]

pub mod daemon;
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
pub mod systemd;
pub mod terminal;
pub mod tree;
pub mod wait;
mod watch;

/// How often a test that depends on chance repeats itself: `SESSD_TEST_ROUNDS`, else a few times.
pub fn rounds(few: u64) -> u64 {
    let asked = std::env::var("SESSD_TEST_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(few)
}
