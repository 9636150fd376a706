//! The sealed environment of the end-to-end tests.
