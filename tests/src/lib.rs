//! The sealed world of the end-to-end tests: a model server, the real provider CLIs and
//! terminals, all inside one throw-away directory. Knows nothing of the registry's insides.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a broken assumption must end the test at once, and loudly"
)]

pub mod daemon;
pub mod large_home;
pub mod model_server;
pub mod npm;
pub mod real_cli;
pub mod sandbox;
pub mod systemd;
pub mod terminal;
pub mod tree;
pub mod wait;
