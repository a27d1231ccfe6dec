//! Who is where: digest authentication, and the bindings of users to their phones.

pub mod digest;

pub use digest::{Algorithm, Login, answer_challenge};
