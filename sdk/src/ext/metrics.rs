//! `switchyard.metrics/1`: counters.

use crate::context::Context;

/// Counters, as a flow raises them: [`Context::metrics`](crate::Context::metrics).
#[derive(Clone, Copy)]
pub struct Metrics<'a>(pub(crate) &'a Context);

impl Metrics<'_> {
    /// Adds to the counter `switchyard_plugin_NAME_total{plugin="…"}`. Names are lower-case words joined by `_`.
    pub fn count(&self, name: &str, by: u64) {
        self.0.core().host.count(name, by);
    }
}
