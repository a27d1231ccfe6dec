//! Call Park through the real plugin library.
