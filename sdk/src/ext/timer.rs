//! `switchyard.timer/1`: waiting for a time.

use std::time::Duration;

use crate::answer::Answer;
use crate::context::Context;
use crate::types::Utc;

/// Timers, as a flow sets them: [`Context::timer`](crate::Context::timer).
#[derive(Clone, Copy)]
pub struct Timer<'a>(pub(crate) &'a Context);

impl Timer<'_> {
    /// Waits until the wall clock shows `deadline`; at once if it has passed.
    pub fn at(&self, deadline: Utc) -> Answer<()> {
        let flow = self.0.flow_number();
        self.0.core().ask("timer", |host, token| host.at(flow, token, deadline.0))
    }

    /// Waits for `delay` from now. What must survive a restart is a deadline in a record: use
    /// [`Timer::at`] for that.
    pub fn after(&self, delay: Duration) -> Answer<()> {
        self.at(self.0.now() + delay)
    }
}
