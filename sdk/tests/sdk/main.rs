//! Integration tests of the SDK.

mod flows;
mod header;
mod layout;
