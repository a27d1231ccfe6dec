//! What a Switchyard plugin needs: calls and orbits as `async` flows, and a fake host to test them with.
//!
//! # A plugin in thirty lines
//!
//! Whoever dials `porter` hears music until someone at the front desk answers, for a minute at most.
//!
//! ```
//! use switchyard_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Porter;
//!
//! impl Plugin for Porter {
//!     const NAME: &'static str = "porter";
//!     const VERSION: &'static str = "0.1.0";
//!     const MANIFEST: &'static str = r#"{ "description": "Music until the front desk answers",
//!         "services": ["porter"], "extensions": ["switchyard.call/1", "switchyard.log/1"] }"#;
//!     type Error = CommandError;
//!
//!     async fn offer(self: Rc<Self>, cx: Context, offer: Offer) -> Result<(), CommandError> {
//!         let Some(leg) = offer.leg else {
//!             cx.calls().refuse(&Refusal::new(Code::GENERAL, "dial porter"));
//!             return Ok(());
//!         };
//!         cx.calls().play(leg, &Play { music: Music::Default, ..Play::default() }).await?;
//!         let to = Target { user: Some("desk".into()), ..Target::default() };
//!         let display = Some(format!("Visitor {}", offer.caller.label()));
//!         let ring = Ring { leg, to, display, alert_info: None, timeout_ms: 60_000, claims: None, attempt: None };
//!         match first((cx.calls().watch(leg), cx.calls().ring(&ring))).await {
//!             OneOf::A(ended) => cx.log().info(format_args!("gave up: {}", ended?.reason)),
//!             OneOf::B(Ok(_)) => cx.calls().accept(&Accept::default()),
//!             OneOf::B(Err(nobody)) => {
//!                 cx.log().warning(&nobody);
//!                 cx.calls().release(leg, &Release { status: Some(480), text: Some(nobody.text) });
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//! declare_plugin!(Porter);
//!
//! // And its test, in the same file: the ladder, step by step.
//! use switchyard_sdk::testing::FakeHost;
//!
//! let mut host = FakeHost::new::<Porter>();
//! let visitor = LegId(7);
//! host.offer(Offer { leg: Some(visitor), ..Offer::dialled("porter") });
//!
//! let play = host.expect_play();
//! assert_eq!((play.leg, &play.play.music), (visitor, &Music::Default));
//! host.answer(&play, Played { audible: true });
//!
//! let ring = host.expect_ring();
//! host.hang_up(visitor); // nobody was quick enough …
//! assert!(host.is_withdrawn(&ring)); // … so the desk stops ringing,
//! host.expect_done(); // and that was all.
//! ```
//!
//! In `Cargo.toml` the library is `crate-type = ["cdylib", "rlib"]`: the host loads the first, tests use the
//! second. Put the built library into the host's plugin directory; `switchyard plugin list` shows it.
//!
//! # What to know
//!
//! - **A flow is a future.** Each offer, and each parked call that is handed over, starts one. Commands begin
//!   when they are given, not when they are awaited, and come to an end of their own: an [`Answer`] that is
//!   dropped only withdraws what merely waits or rings.
//! - **The host owns what a flow holds.** Reservations and claims are booked on the flow and released when it
//!   ends, however it ends. Clean up with words for people, not with state.
//! - **Alternatives are polled in written order** ([`first`]): hang-up, then claim, then timer.
//! - **Policy is asked anew at each stage**, so that an edit reaches calls that wait: [`Context::policy`].
//! - **What must outlive the process is a record** with absolute deadlines: [`Context::rest`] says that nothing
//!   else matters, and [`Plugin::resume`] goes on from it.
//! - **Time comes from [`Context::now`]**, and ordered maps from `std::collections::BTreeMap`: then a simulated
//!   deployment replays your plugin exactly.
//! - **Never block**, and start threads only to compute: wake a flow through its [`Waker`](std::task::Waker),
//!   the one thing that works from any thread.
//!
//! # What can break, and what then happens
//!
//! A panic stays inside: the flow ends, the host logs the message and counts it, the call goes on as it would
//! without the feature, other flows don't notice. Contained are panics in `offer` and `resume`, before and after
//! any await, and in a `Drop`. **Not** contained, for a plugin shares the host's process: `abort`, a panic while
//! panicking, a stack overflow, and a loop that never awaits. The host's watchdog names plugin, event and flow
//! of the latter, and parked calls are taken up again after a restart. A library built with `panic = "abort"` is
//! refused.
//!
//! Plugins in C include `switchyard.h`, which says the same as [`abi`].

pub mod abi;
mod answer;
mod context;
mod executor;
#[doc(hidden)]
pub mod export;
pub mod ext;
pub mod host;
pub mod manifest;
mod panic;
mod plugin;
mod raw;
mod select;
mod slab;
pub mod testing;
pub mod types;

pub use answer::{Answer, CommandError};
pub use context::{Context, Rest};
pub use export::entry;
pub use plugin::Plugin;
pub use select::{Alternatives, OneOf, first};

use abi::log_level;
use serde::Serialize;

/// What most plugins use.
pub mod prelude {
    pub use std::rc::Rc;
    pub use std::time::Duration;

    pub use crate::ext::call::{
        Accept, Answered, Attempt, Calls, Ended, Music, Play, Played, Release, Ring, Target,
    };
    pub use crate::ext::orbit::{
        Choice, Claim, Claimed, ClaimedBy, Commit, Orbits, Outcome, Reserve, Reserved, Resume, Settled, Terms,
    };
    pub use crate::ext::policy::Decision;
    pub use crate::ext::ringing::{
        Over, Query, Ringing, Routing, Take, Tell, WaitState, Waiting, WaitingCall,
    };
    pub use crate::types::{Code, FarLeg, FlowId, How, LegId, Offer, Party, Refusal, Utc};
    pub use crate::{Answer, CommandError, Context, OneOf, Plugin, Rest, declare_plugin, first};
}

/// A value as JSON, on its way to the host.
fn encode(value: &impl Serialize) -> String {
    // Only a map with keys that are no text, or a plugin's own `Serialize`, can fail; the host says INVALID.
    serde_json::to_string(value).unwrap_or_default()
}
