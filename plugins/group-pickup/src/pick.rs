//! Which call, and whether this picker may have it; then one command takes it. Of several pickers one wins, and the others
//! learn who.

use serde_json::json;
use switchyard_sdk::prelude::*;

use crate::terms::Settings;

/// Takes the call that was asked for: the one named, or the one that has rung longest in the group or at the phone.
pub(crate) async fn pick(cx: &Context, offer: &Offer) -> Result<(), Refusal> {
    let picker = &offer.caller;
    if picker.outside || picker.user.is_none() {
        return Err(Refusal::new(Code::OUTSIDE, "only users of this deployment can pick up calls"));
    }
    if let Some(error) = &offer.number_error {
        return Err(Refusal::new(Code::NOTHING_RINGS, error.clone()));
    }
    if offer.how == How::Refer {
        return Err(Refusal::new(Code::NOT_ALLOWED, "a call is picked up by dialling, not by a transfer"));
    }
    // A prefix means one phone, a number without it a group.
    let group = offer.number.as_deref().filter(|_| offer.service.is_none());
    let waiting = match &offer.ringing {
        Some(call) => Waiting { calls: vec![call.clone()], last: None },
        None => cx.ringing().list(&query(offer, group)).await?,
    };
    let (mut refusal, mut own) = (None, false);
    for call in waiting.calls {
        // Who calls has phones of their own to hear it; joining two of them helps nobody.
        if call.caller.user == picker.user {
            own = true;
            continue;
        }
        match take(cx, offer, group, call).await {
            Ok(()) => return Ok(()),
            // Nothing to do with this call: the next one would fail the same way.
            Err(error) if error.code == Code::NOT_ACCEPTABLE => return Err(error),
            Err(error) => drop(refusal.get_or_insert(error)),
        }
    }
    let place = offer.number.as_deref().unwrap_or("that phone");
    let nothing = || match waiting.last {
        // What became of an earlier call says nothing about the one that rings.
        _ if own => Refusal::new(Code::NOTHING_RINGS, format!("only your own call rings at {place}")),
        Some(last) => Refusal::new(Code::LOST_CLAIM, last),
        None => Refusal::new(Code::NOTHING_RINGS, format!("nothing rings at {place}")),
    };
    Err(refusal.unwrap_or_else(nothing))
}

fn query(offer: &Offer, group: Option<&str>) -> Query {
    let callee = offer.number.clone().filter(|_| group.is_none());
    Query { number: group.map(str::to_owned), callee }
}

async fn take(cx: &Context, offer: &Offer, group: Option<&str>, call: WaitingCall) -> Result<(), Refusal> {
    let settings = allowed(cx, offer, group, &call)?;
    let picker = offer.caller.clone();
    let text = format!("{} took the call of {}", picker.label(), call.caller.label());
    let take = Take {
        leg: call.leg,
        state: call.state,
        by: offer.leg,
        picker,
        missed: settings.missed_calls,
        text: settings.tell_callee.then_some(text),
        group: group.map(str::to_owned),
    };
    match offer.leg {
        // Who gives up before the call is theirs leaves it ringing.
        Some(leg) => match first((cx.calls().watch(leg), cx.ringing().take(&take))).await {
            OneOf::A(_) => Err(Refusal::new(Code::WITHDRAWN, "the picker hung up")),
            OneOf::B(taken) => Ok(taken?),
        },
        None => Ok(cx.ringing().take(&take).await?),
    }
}

/// Whether this picker may have this call, by the terms of its callee's pool.
fn allowed(
    cx: &Context,
    offer: &Offer,
    group: Option<&str>,
    call: &WaitingCall,
) -> Result<Settings, Refusal> {
    let pool = call.callee.pool.as_deref().unwrap_or(&offer.pool);
    let question = json!({
        "picker": offer.caller,
        "callee": call.callee,
        "caller": call.caller,
        "number": group,
        "how": offer.how,
        "state": call.state,
        "pool": pool,
    });
    let decision = cx.policy().decide(pool, "group_pickup.allow", &question)?;
    let settings: Settings = decision.allowed_or(Code::NOT_ALLOWED, "not allowed by policy")?.settings()?;
    match settings.refuses(call, group, &offer.caller) {
        Some(refusal) => Err(refusal),
        None => Ok(settings),
    }
}
