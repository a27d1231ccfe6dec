//! Integration tests of the host.
