//! `switchyard.log/1`: the host's log.

use std::fmt::Display;

use crate::context::Context;
use crate::log_level;

/// The log, as a flow writes it: [`Context::log`](crate::Context::log). The host adds plugin, flow and call.
#[derive(Clone, Copy)]
pub struct Log<'a>(pub(crate) &'a Context);

impl Log<'_> {
    /// Something broke that somebody should look at.
    pub fn error(&self, text: impl Display) {
        self.0.write_log(log_level::ERROR, text);
    }

    /// Something is odd; the call goes on.
    pub fn warning(&self, text: impl Display) {
        self.0.write_log(log_level::WARNING, text);
    }

    /// Something happened.
    pub fn info(&self, text: impl Display) {
        self.0.write_log(log_level::INFO, text);
    }

    /// A detail.
    pub fn debug(&self, text: impl Display) {
        self.0.write_log(log_level::DEBUG, text);
    }
}
