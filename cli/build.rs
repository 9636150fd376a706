//! Links `sessctl` without shared libraries.

mod link;

fn main() {
    link::statically("sessctl");
}
