//! The budgets of the design, measured: `cargo bench -p sessd-tests`. Everything is printed as a
//! ratio to something measured in the same run; nothing is asserted. With `-- wire disk` only
//! these parts of `size wire store turns disk` run.
//!
//! `SESSD_BENCH_SESSIONS` (default 1,000,000) is the size of the largest store,
//! `SESSD_BENCH_FILES` (default 10,000) that of the home on disk.

#![allow(missing_docs, reason = "a program")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may fail and prints")]

mod disk;
mod peers;
mod store;
mod timing;
mod turns;
mod wire;

use std::path::PathBuf;

use sessd_tests::cache;
use sessd_tests::sandbox::Binaries;

pub(crate) const BINARIES: Binaries =
    Binaries { sessctl: env!("CARGO_BIN_EXE_e2e-sessctl"), sessd: env!("CARGO_BIN_EXE_e2e-sessd") };

fn main() {
    if let Some(socket) = wire::asked_to_echo() {
        return wire::echo(&socket);
    }
    println!("{}\n", machine());
    println!("| what | at | measured | budget |");
    println!("|---|---|---|---|");
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("size") {
        binary_size();
    }
    if wanted("wire") {
        wire::round_trip();
    }
    if wanted("store") {
        store::lists(number("SESSD_BENCH_SESSIONS", 1_000_000));
    }
    if wanted("turns") {
        turns::turns();
    }
    if wanted("disk") {
        disk::sweeps(number("SESSD_BENCH_FILES", 10_000));
    }
}

/// One line of the table.
pub(crate) fn row(what: &str, at: &str, measured: &str, budget: &str) {
    println!("| {what} | {at} | {measured} | {budget} |");
}

/// Returns the directory in which benchmarks keep what is slow to make.
pub(crate) fn kept() -> PathBuf {
    cache::directory("bench")
}

fn binary_size() {
    let bytes = std::fs::metadata(BINARIES.sessctl).unwrap().len();
    row("sessctl binary", "", &format!("{:.2} MB", bytes as f64 / 1e6), "≤ 2 MB");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("{cores} × {}, load {load} at the start", model.unwrap_or("unknown"))
}
