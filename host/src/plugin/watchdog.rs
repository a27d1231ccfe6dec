//! Names a plugin that does not come back: an endless loop cannot be stopped, but it need not be a riddle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::command::InstanceId;

/// How long a plugin function may run before its name is in the log. They take microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the engine's thread is in, readable by another thread.
#[derive(Default)]
pub(super) struct Watch {
    /// Odd while a plugin function runs; each has numbers of its own.
    turn: AtomicU64,
    instance: AtomicU32,
    event: AtomicU32,
    flow: AtomicU64,
    /// Every copy there ever was: a reload makes another.
    names: Mutex<BTreeMap<InstanceId, String>>,
}

impl Watch {
    pub(super) fn name(&self, instance: InstanceId, title: String) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(instance, title);
    }

    fn name_of(&self, instance: InstanceId) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&instance).cloned().unwrap_or_else(|| format!("instance {}", instance.0))
    }

    pub(super) fn enter(&self, instance: InstanceId, event: u32, flow: u64) {
        self.instance.store(instance.0, Ordering::Relaxed);
        self.event.store(event, Ordering::Relaxed);
        self.flow.store(flow, Ordering::Relaxed);
        // One writer only, so load and store do; `Release` shows the fields with the turn.
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// A plugin function that has been running for too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Which instance.
    pub instance: InstanceId,
    /// `call-park 0.1.0`.
    pub plugin: String,
    /// What it was told: `OFFER`.
    pub event: &'static str,
    /// The flow it is about; 0 where the event has none.
    pub flow: u64,
}

/// Looks at the plugins of one engine from another thread.
pub struct Watchdog {
    watch: Weak<Watch>,
    seen: u64,
    told: u64,
}

impl Watchdog {
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        Self { watch: Arc::downgrade(watch), seen: 0, told: 0 }
    }

    /// To be called once a second: a plugin function that ran at the last look and still does. Each is told
    /// once. None when the plugins are gone: then look no more.
    pub fn look(&mut self) -> Option<Option<Stuck>> {
        let watch = self.watch.upgrade()?;
        let turn = watch.turn.load(Ordering::Acquire);
        let is_stuck = turn % 2 == 1 && turn == self.seen && turn != self.told;
        self.seen = turn;
        if !is_stuck {
            return Some(None);
        }
        self.told = turn;
        let instance = InstanceId(watch.instance.load(Ordering::Relaxed));
        Some(Some(Stuck {
            instance,
            plugin: watch.name_of(instance),
            event: event_name(watch.event.load(Ordering::Relaxed)),
            flow: watch.flow.load(Ordering::Relaxed),
        }))
    }

    /// Looks from a thread of its own until the plugins are gone, and writes what it finds to the log.
    pub fn spawn(mut self) -> std::io::Result<()> {
        let watch = move || {
            while let Some(found) = self.look() {
                if let Some(stuck) = found {
                    tracing::error!(
                        plugin = stuck.plugin,
                        event = stuck.event,
                        flow = stuck.flow,
                        "a plugin function has not returned for a second: the engine stands still"
                    );
                }
                std::thread::sleep(PATIENCE);
            }
        };
        std::thread::Builder::new().name("plugin-watchdog".into()).spawn(watch).map(drop)
    }
}

/// The name of an event's kind, as `switchyard.h` has it.
pub(super) fn event_name(kind: u32) -> &'static str {
    use switchyard_sdk::abi::event;
    match kind {
        event::OFFER => "OFFER",
        event::ANSWER => "ANSWER",
        event::RESUME => "RESUME",
        event::DRAIN => "DRAIN",
        event::WAKE => "WAKE",
        event::CANCEL_FLOW => "CANCEL_FLOW",
        _ => "an unknown event",
    }
}

#[cfg(test)]
mod tests {
    use switchyard_sdk::abi::event;

    use super::*;

    #[test]
    fn what_runs_at_two_looks_is_told_once() {
        let watch = Arc::new(Watch::default());
        let mut dog = Watchdog::new(&watch);
        assert_eq!(dog.look(), Some(None));
        // As a reload does it: the dog looks on already.
        watch.name(InstanceId(3), "call-park 0.1.0".into());
        watch.enter(InstanceId(3), event::OFFER, 17);
        assert_eq!(dog.look(), Some(None), "it may have begun just now");
        let stuck = dog.look().unwrap().unwrap();
        assert_eq!((stuck.plugin.as_str(), stuck.event, stuck.flow), ("call-park 0.1.0", "OFFER", 17));
        assert_eq!(dog.look(), Some(None), "told once");
        watch.leave();
        assert_eq!(dog.look(), Some(None));
        drop(watch);
        assert_eq!(dog.look(), None, "the plugins are gone");
    }

    #[test]
    fn another_function_at_each_look_is_no_loop() {
        let watch = Arc::new(Watch::default());
        let mut dog = Watchdog::new(&watch);
        for _ in 0..5 {
            watch.enter(InstanceId(1), event::ANSWER, 1);
            assert_eq!(dog.look(), Some(None));
            watch.leave();
        }
    }
}
