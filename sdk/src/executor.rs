//! Runs an instance's flows: small futures on the engine's thread, woken by the host's answers.
//!
//! No thread-locals and no statics: many instances of one library live on one thread when a deployment is
//! simulated. Flows and awaited answers sit in slabs; a key of an earlier occupant finds nothing, so a late
//! answer or a late wake-up is harmless.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll, Wake, Waker};

use crate::abi::{flow_end, status};
use crate::answer::{Answer, CommandError, Wait};
use crate::context::Context;
use crate::log_level;
use crate::panic::{Note, message_of};
use crate::raw::{Host, WakeHost};
use crate::slab::Slab;
use crate::types::Code;

/// A flow as the executor keeps it.
type Work = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What all flows of an instance share.
pub(crate) struct Core {
    pub(crate) host: Host,
    /// Where the library's panic hook leaves what it saw; none when linked statically.
    note: Option<Arc<Note>>,
    elapsed_ns: Cell<u64>,
    utc_ms: Cell<u64>,
    waits: RefCell<Slab<Wait>>,
    flows: RefCell<Slab<Flow>>,
    /// The host's name of each flow to its key.
    keys: RefCell<BTreeMap<u64, u64>>,
    ready: Arc<Ready>,
    draining: Cell<bool>,
}

struct Flow {
    id: u64,
    /// None while it is being polled.
    work: Option<Work>,
    task: Arc<FlowTask>,
    /// How many rest guards are alive.
    rests: u32,
    /// The record as it was last stored, to store it again only when it changed.
    stored: Option<Box<str>>,
}

impl Core {
    pub(crate) fn new(host: Host, note: Option<Arc<Note>>) -> Rc<Self> {
        let ready = Arc::new(Ready { queue: Mutex::default(), host: host.waker() });
        Rc::new(Self {
            host,
            note,
            elapsed_ns: Cell::new(0),
            utc_ms: Cell::new(0),
            waits: RefCell::new(Slab::new()),
            flows: RefCell::new(Slab::new()),
            keys: RefCell::default(),
            ready,
            draining: Cell::new(false),
        })
    }

    pub(crate) fn set_now(&self, elapsed_ns: u64, utc_ms: u64) {
        self.elapsed_ns.set(elapsed_ns);
        self.utc_ms.set(utc_ms);
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns.get()
    }

    pub(crate) fn utc_ms(&self) -> u64 {
        self.utc_ms.get()
    }

    /// From here to the end of [`Core::run`] a wake-up needs no help of the host.
    pub(crate) fn enter(&self) {
        self.ready.lock().running = true;
    }

    /// Runs whatever can go on.
    pub(crate) fn run(self: &Rc<Self>) {
        loop {
            let key = {
                let mut ready = self.ready.lock();
                let Some(key) = ready.keys.pop_front() else {
                    ready.running = false;
                    return;
                };
                key
            };
            self.poll_flow(key);
        }
    }

    /// Starts flow `id`; `make` runs behind the panic barrier too.
    pub(crate) fn start<F, E>(self: &Rc<Self>, id: u64, make: impl FnOnce(Context) -> F)
    where
        F: Future<Output = Result<(), E>> + 'static,
        E: std::fmt::Display,
    {
        let key = self.flows.borrow_mut().insert_with(|key| Flow {
            id,
            work: None,
            task: Arc::new(FlowTask { key, queued: AtomicBool::new(true), ready: Arc::clone(&self.ready) }),
            rests: 0,
            stored: None,
        });
        self.keys.borrow_mut().insert(id, key);
        let context = Context::new(Rc::clone(self), id, key);
        match catch_unwind(AssertUnwindSafe(|| make(context))) {
            Ok(future) => {
                let work: Work = Box::pin(async move { future.await.map_err(|error| error.to_string()) });
                if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
                    flow.work = Some(work);
                }
                self.ready.lock().keys.push_back(key);
            }
            Err(payload) => self.finish(key, None, flow_end::PANICKED, &self.panic_text(payload)),
        }
    }

    /// Ends flow `id` now, if it is alive.
    pub(crate) fn cancel(&self, id: u64) {
        let key = self.keys.borrow().get(&id).copied();
        if let Some(key) = key {
            let work = self.take_work(key);
            self.finish(key, work, flow_end::CANCELLED, "");
        }
    }

    /// Ends every flow that rests, now or as soon as it does.
    pub(crate) fn drain(self: &Rc<Self>) {
        // First let go on what can: a flow that was just answered does not rest any more.
        self.run();
        // Ending one flow may wake another.
        self.enter();
        self.draining.set(true);
        let keys = self.flows.borrow().keys();
        for key in keys {
            let rests = self.flows.borrow_mut().get_mut(key).is_some_and(|flow| flow.rests > 0);
            if rests {
                let work = self.take_work(key);
                self.finish(key, work, flow_end::RESTED, "");
            }
        }
    }

    /// Ends everything; nothing of this instance calls the host afterwards.
    pub(crate) fn close(&self) {
        let keys = self.flows.borrow().keys();
        for key in keys {
            let work = self.take_work(key);
            self.finish(key, work, flow_end::CANCELLED, "the plugin ends");
        }
        let mut ready = self.ready.lock();
        ready.closed = true;
        ready.keys.clear();
    }

    fn take_work(&self, key: u64) -> Option<Work> {
        self.flows.borrow_mut().get_mut(key)?.work.take()
    }

    fn poll_flow(&self, key: u64) {
        // The future leaves its place while it runs: it may give commands, which look at the slab.
        let (mut work, task) = {
            let mut flows = self.flows.borrow_mut();
            let Some(flow) = flows.get_mut(key) else { return };
            let Some(work) = flow.work.take() else { return };
            (work, Arc::clone(&flow.task))
        };
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(task);
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Task::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                let mut flows = self.flows.borrow_mut();
                let Some(flow) = flows.get_mut(key) else { return };
                if self.draining.get() && flow.rests > 0 {
                    drop(flows);
                    self.finish(key, Some(work), flow_end::RESTED, "");
                } else {
                    flow.work = Some(work);
                }
            }
            Ok(Poll::Ready(Ok(()))) => self.finish(key, Some(work), flow_end::DONE, ""),
            Ok(Poll::Ready(Err(error))) => self.finish(key, Some(work), flow_end::FAILED, &error),
            Err(payload) => {
                let text = self.panic_text(payload);
                self.finish(key, Some(work), flow_end::PANICKED, &text);
            }
        }
    }

    /// Drops what is left of a flow, behind the barrier, and tells the host once how it ended.
    fn finish(&self, key: u64, work: Option<Work>, how: u32, message: &str) {
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(work)));
        let Some(flow) = self.flows.borrow_mut().remove(key) else { return };
        self.keys.borrow_mut().remove(&flow.id);
        match dropped {
            Ok(()) => self.host.flow_end(flow.id, how, message),
            Err(payload) => {
                let text = self.panic_text(payload);
                self.host.flow_end(flow.id, flow_end::PANICKED, &text);
            }
        }
    }

    /// What a panic said: with its place if the library's hook saw it.
    pub(crate) fn panic_text(&self, payload: Box<dyn std::any::Any + Send>) -> String {
        let text = message_of(payload);
        self.note.as_ref().and_then(|note| note.take()).unwrap_or(text)
    }

    /// Gives a command that is answered.
    pub(crate) fn ask<T>(self: &Rc<Self>, what: &str, send: impl FnOnce(&Host, u64) -> i32) -> Answer<T> {
        let token = self.waits.borrow_mut().insert_with(|_| Wait::Pending(None));
        match send(&self.host, token) {
            status::TAKEN => Answer::waiting(Rc::clone(self), token),
            refused => {
                self.waits.borrow_mut().remove(token);
                Answer::declined(Rc::clone(self), CommandError::of_status(refused, what))
            }
        }
    }

    /// Gives a command that is not answered; that the host cannot take it is a mistake worth a line in the log.
    pub(crate) fn tell(&self, flow: u64, what: &str, status: i32) {
        if status != status::TAKEN {
            self.host.log(flow, log_level::WARNING, &CommandError::of_status(status, what).text);
        }
    }

    /// The host answers `token`. An answer nobody waits for is ignored.
    pub(crate) fn answer(&self, token: u64, result: Result<&str, CommandError>) {
        let waker = {
            let mut waits = self.waits.borrow_mut();
            let Some(wait) = waits.get_mut(token) else { return };
            match std::mem::replace(wait, Wait::Ready(result.map(Box::from))) {
                Wait::Pending(waker) => waker,
                Wait::Ready(_) => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll_wait(&self, token: u64, waker: &Waker) -> Poll<Result<Box<str>, CommandError>> {
        let mut waits = self.waits.borrow_mut();
        match waits.get_mut(token) {
            Some(Wait::Pending(current)) => {
                match current {
                    Some(current) if current.will_wake(waker) => {}
                    _ => *current = Some(waker.clone()),
                }
                return Poll::Pending;
            }
            Some(Wait::Ready(_)) => {}
            None => return Poll::Ready(Err(CommandError::new(Code::GENERAL, "this answer was lost"))),
        }
        match waits.remove(token) {
            Some(Wait::Ready(result)) => Poll::Ready(result),
            _ => Poll::Pending,
        }
    }

    /// Nobody waits for `token` any more.
    pub(crate) fn withdraw(&self, token: u64) {
        let wait = self.waits.borrow_mut().remove(token);
        if matches!(wait, Some(Wait::Pending(_))) {
            self.host.withdraw(token);
        }
    }

    /// Remembers the record as it was stored; false if it was stored like this before.
    pub(crate) fn remember_stored(&self, key: u64, record: &str) -> bool {
        let mut flows = self.flows.borrow_mut();
        let Some(flow) = flows.get_mut(key) else { return true };
        if flow.stored.as_deref() == Some(record) {
            return false;
        }
        flow.stored = Some(record.into());
        true
    }

    pub(crate) fn rest(&self, key: u64) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            flow.rests += 1;
        }
    }

    pub(crate) fn rise(&self, key: u64) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            flow.rests = flow.rests.saturating_sub(1);
        }
    }
}

/// Flows that can go on. The only part other threads touch.
struct Ready {
    queue: Mutex<Queue>,
    host: WakeHost,
}

#[derive(Default)]
struct Queue {
    keys: VecDeque<u64>,
    /// True while the engine's thread is inside: it will look at `keys` once more before it leaves.
    running: bool,
    /// The host is gone.
    closed: bool,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FlowTask {
    key: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for FlowTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut ready = self.ready.lock();
        if ready.closed {
            return;
        }
        ready.keys.push_back(self.key);
        if !ready.running {
            // Under the lock, so that `close` cannot let the host go meanwhile.
            self.ready.host.wake();
        }
    }
}
