//! Runs a command again and again and prints how long each run took, in nanoseconds, one a line.
//! Arguments: how often, the program, its arguments.
//!
//! Benchmarks start whole processes through this program. It is small and changes neither
//! directory nor environment, so that the standard library uses `posix_spawn`, as `hyperfine -N`
//! does. Started by a fork of the large benchmark, every program looks slow, and the shortest one
//! that the others are compared with looks slowest.

#![expect(clippy::expect_used, reason = "support of benchmarks: what is wrong must end it")]
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [count, program, arguments @ ..] = &arguments[..] else { panic!("count and program") };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for _ in 0..count.parse().expect("a number") {
        let started = Instant::now();
        let status = command.status().expect("a program that can be started");
        let time = started.elapsed();
        assert!(status.success(), "{command:?}: {status}");
        println!("{}", time.as_nanos());
    }
}
