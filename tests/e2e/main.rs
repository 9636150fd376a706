//! End-to-end tests: modules.
