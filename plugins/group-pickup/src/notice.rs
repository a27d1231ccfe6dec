//! Tells the members of a group that a call rings unanswered, if their pool's policy wants that.

use switchyard_sdk::prelude::*;

use crate::terms::Settings;

/// Waits until the call has rung long enough; if it still does, the members are told who calls whom, and what to dial.
pub(crate) async fn notice(cx: &Context, offer: &Offer) -> Result<(), CommandError> {
    let Some(call) = &offer.ringing else { return Ok(()) };
    let settings: Settings = cx.policy().settings(&offer.pool, "group_pickup")?;
    // What nobody may pick up is not announced.
    let Some(after) = settings.notify_after.filter(|_| settings.unpickable(call).is_none()) else {
        return Ok(());
    };
    let pause = Duration::from_millis(after);
    if let OneOf::A(_) = first((cx.ringing().over(call.leg), cx.timer().after(pause))).await {
        return Ok(());
    }
    let except: Vec<String> = [&call.caller.user, &call.callee.user].into_iter().flatten().cloned().collect();
    for group in settings.groups(&call.callee) {
        cx.metrics().count("notices", 1);
        cx.ringing().tell(&Tell {
            group: group.to_owned(),
            except: except.clone(),
            text: format!("{} calls {}: dial {group}", call.caller.label(), call.callee.label()),
            for_ms: settings.notify_for,
        });
    }
    Ok(())
}
