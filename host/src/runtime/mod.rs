//! The only clock, tasks, file watching and signals: turns the engine's outputs into I/O and the world into inputs.

mod clock;

pub use clock::Clock;
