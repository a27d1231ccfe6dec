//! Who is where: digest authentication, and the bindings of users to their phones.

mod authenticator;
mod binding;
mod bindings;
mod contacts;
pub mod digest;
#[cfg(test)]
mod tests;

pub use authenticator::{Authenticator, NONCE_LIFE, Verdict};
pub use binding::Binding;
pub use bindings::{Registrar, RegistrarConfig};
pub use contacts::CONTACTS_MAX;
pub use digest::{Algorithm, Login, answer_challenge};
