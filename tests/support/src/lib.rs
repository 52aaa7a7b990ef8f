//! Starts what the tests run against.
