//! Group Call Pickup: whoever notices a ringing phone dials its group's number and has the call (facts.md §1.4).
//!
//! Membership protects the callee, not the picker: only calls to members of a group can be picked up through its
//! number, and the terms are those of the callee's pool. Who may pick up is a policy.
//!
//! - [`pick`]: which call, and whether this picker may have it; then one command takes it;
//! - [`notice`]: tells the members that a call rings unanswered, if the policy wants that;
//! - [`terms`]: the policy's settings, and what they say about a call and its picker.

mod notice;
mod pick;
mod terms;

use switchyard_sdk::prelude::*;

/// The plugin. All state is in flows; what rings is the host's to know.
#[derive(Default)]
pub struct GroupPickup;

impl Plugin for GroupPickup {
    const NAME: &'static str = "group-pickup";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const MANIFEST: &'static str = include_str!("manifest.json");
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, offer: Offer) -> Result<(), CommandError> {
        if offer.how == How::Ringing {
            return notice::notice(&cx, &offer).await;
        }
        match pick::pick(&cx, &offer).await {
            Ok(()) => {
                cx.metrics().count("pickups", 1);
                cx.calls().accept(&Accept::default());
            }
            Err(refusal) => {
                cx.metrics().count("pickups_refused", 1);
                cx.calls().refuse(&refusal);
            }
        }
        Ok(())
    }
}

switchyard_sdk::declare_plugin!(GroupPickup);

#[cfg(test)]
mod tests;
