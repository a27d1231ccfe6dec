//! The only mlua: settings and decisions, one revision at a time.

/// All policy files of a directory, read once into memory.
#[derive(Debug)]
pub struct Bundle;
