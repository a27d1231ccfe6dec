//! Who is where: digest authentication, and the bindings of users to their phones.

mod authenticator;
pub mod digest;

pub use authenticator::{Authenticator, NONCE_LIFE, Verdict};
pub use digest::{Algorithm, Login, answer_challenge};
