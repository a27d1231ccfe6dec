//! Two-phase park: reserve, play, commit, tell. Until the park is committed nothing is taken from the parker.

use serde_json::json;
use switchyard_sdk::prelude::*;

use crate::terms::Settings;
use crate::wait::Parked;

/// Parks the far end of the offered call. What is refused leaves everybody where they were: a leg that refuses the
/// music is as it was, a reservation that is not committed is gone with the flow, and a caller who hears music already
/// is joined with his parker again by the host.
pub(crate) async fn park(cx: &Context, offer: &Offer, far: FarLeg) -> Result<Parked, Refusal> {
    let settings = allowed(cx, offer, &far)?;
    let reserve = Reserve {
        pool: offer.pool.clone(),
        number: offer.number.clone(),
        choice: settings.orbit_choice,
        reuse_cooldown_ms: settings.reuse_cooldown,
        leg: Some(far.leg),
        parked: far.party.clone(),
        parker: offer.caller.clone(),
    };
    let reserved = cx.orbits().reserve(&reserve).await?;
    let music = settings.music_on_hold.clone();
    let play = Play { music: music.clone(), say_number: None };
    let dialled = offer.leg.filter(|_| offer.how == How::Dial);
    match first((cx.calls().watch(far.leg), ended(cx, dialled), cx.calls().play(far.leg, &play))).await {
        OneOf::A(_) => return Err(Refusal::new(Code::LEG_GONE, "the caller hung up")),
        OneOf::B(()) => return Err(Refusal::new(Code::WITHDRAWN, "the parker gave up")),
        OneOf::C(played) => {
            if !played?.audible && music != Music::Off {
                cx.log().warning(format_args!("{}: parked in silence", reserved.number));
            }
        }
    }
    // The ring-back timer starts when the park completes, not when it was asked (SIP-03).
    let now = cx.now();
    let parked = Parked {
        number: reserved.number,
        pool: offer.pool.clone(),
        leg: far.leg,
        parked: far.party,
        parker: offer.caller.clone(),
        terms: Terms {
            parked_at_ms: now.0,
            deadline_ms: now.0 + settings.pickup_timeout,
            on_timeout_uri: settings.on_timeout_uri,
            music,
        },
        attempts: 0,
    };
    cx.orbits().commit(&parked.record()).await?;
    cx.metrics().count("parks", 1);
    let text = format!("Parked on {}", parked.number);
    cx.calls().accept(&Accept {
        number: Some(parked.number.clone()),
        token: Some(reserved.token),
        text: Some(text.clone()),
    });
    if let (How::Dial, Some(leg)) = (offer.how, offer.leg) {
        // The parker dialled and listens: he hears the number.
        let say_number = settings.say_orbit.then(|| parked.number.clone());
        let said = cx.calls().play(leg, &Play { music: Music::Off, say_number }).await;
        if let Err(error) = said {
            cx.log().info(format_args!("{}: the number could not be spoken: {error}", parked.number));
            // His INVITE would stay without a final answer; these words are one he can read.
            let status = (error.sip_status != 0).then_some(error.sip_status).or(Some(488));
            cx.calls().release(leg, &Release { status, text: Some(text) });
        }
    }
    Ok(parked)
}

/// Waits for a leg to end; for ever if there is none.
async fn ended(cx: &Context, leg: Option<LegId>) {
    match leg {
        Some(leg) => drop(cx.calls().watch(leg).await),
        None => std::future::pending().await,
    }
}

/// Who may park, by the user's right and the pool's policy; and the settings that hold for this call.
fn allowed(cx: &Context, offer: &Offer, far: &FarLeg) -> Result<Settings, Refusal> {
    if offer.caller.outside || offer.caller.user.is_none() {
        return Err(Refusal::new(Code::OUTSIDE, "only users of this deployment can park"));
    }
    if !offer.caller.may_park {
        return Err(Refusal::new(Code::NOT_ALLOWED, format!("{} may not park calls", offer.caller.label())));
    }
    let question = json!({
        "parker": offer.caller,
        "parked": far.party,
        "number": offer.number,
        "how": offer.how,
        "pool": offer.pool,
    });
    let decision = cx.policy().decide(&offer.pool, "call_park.allow", &question)?;
    Ok(decision.allowed_or(Code::NOT_ALLOWED, "not allowed by policy")?.settings()?)
}
