//! Links the client of the tests and benchmarks as its package links it.

#[path = "../cli/link.rs"]
mod link;

fn main() {
    link::statically("e2e-sessctl");
}
