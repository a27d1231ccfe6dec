//! Several hosts: who lives, who serves which pool, and what they say to each other.
//!
//! *A pool's users are served by one host at a time: the one that holds the pool's seat.* Every other host is an edge: it
//! takes phones' messages at its own sockets and hands them, as they are, to the host that serves them, and sends what
//! that one wants sent. So there is one owner of each call, registration, lamp and queue, as on a host alone; and a host
//! that dies, is drained, or whose pool fails over is one thing: the seat moves, and whoever takes it takes up what is in
//! the store.

mod frame;
mod mark;
mod seats;

pub use frame::{FRAME_MAX, Frame, FrameError, Places};
pub use mark::{Code, Mark};
pub use seats::{HostRecord, LASTING, Met, Seat, Seats, Trouble};
