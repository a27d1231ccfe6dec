//! How watchers are reached whose connection has gone, or who are heard from elsewhere.

use super::{LampId, Notifier};
use crate::engine::core::Core;
use crate::net::{Flow, Protocol};
use crate::store::Operation;

impl Notifier {
    /// Whom a subscription tells, where its last request came from, and its Contact.
    pub fn way_to(&self, id: LampId) -> Option<(&str, Flow, &str)> {
        let record = &self.subscriptions.get(&id)?.record;
        Some((&record.watcher, record.dialog.flow, &record.dialog.remote_target))
    }

    /// A NOTIFY could not be sent. A connection that is gone is no watcher that is gone: the one its phone is
    /// `registered` on is tried, then where its Contact says it listens, and then it is waited for.
    pub fn on_send_failure(&mut self, cx: &mut Core, id: LampId, registered: Option<Flow>) -> Vec<Operation> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Vec::new() };
        let flow = &mut subscription.record.dialog.flow;
        if flow.protocol == Protocol::Udp {
            return self.on_response(cx, id, None);
        }
        match registered.filter(|_| flow.connection.is_some()) {
            Some(other) if other != *flow && other.connection.is_some() => *flow = other,
            _ if flow.connection.take().is_some() => {}
            _ => {
                self.cut_off.insert(id);
            }
        }
        subscription.in_flight = false;
        subscription.acknowledged = false;
        subscription.full = true;
        subscription.not_before = cx.now.instant;
        if subscription.ending.is_some() {
            self.forget(cx, id);
        } else {
            self.remind(cx, id);
        }
        Vec::new()
    }

    /// A user's phones were heard elsewhere than before: from there on they are told there.
    pub fn follow(&mut self, watcher: &str, moved: &[(Flow, Flow)]) {
        if moved.is_empty() {
            return;
        }
        for subscription in self.subscriptions.values_mut().filter(|sub| sub.record.watcher == watcher) {
            let flow = &mut subscription.record.dialog.flow;
            if let Some((_, new)) = moved.iter().find(|(old, _)| old == flow) {
                *flow = *new;
            }
        }
    }

    /// A user's phone has registered on this connection: what it missed is told there.
    pub fn came_back(&mut self, cx: &mut Core, watcher: &str, flow: Flow) {
        for id in self.cut_off.clone() {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { continue };
            let record = &mut subscription.record;
            let known = record.dialog.flow;
            if record.watcher == watcher
                && flow.connection.is_some()
                && (known.protocol, known.remote.ip()) == (flow.protocol, flow.remote.ip())
            {
                record.dialog.flow = flow;
                self.cut_off.remove(&id);
                self.remind(cx, id);
            }
        }
    }
}
