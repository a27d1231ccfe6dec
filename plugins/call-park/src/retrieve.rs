//! Taking a call out of its orbit: claim, join, free. Exactly one claimant wins; the others learn who.

use serde_json::json;
use switchyard_sdk::prelude::*;

/// Connects `leg` with the call that waits in the offered number, or with the one that waits longest in the pool.
pub(crate) async fn retrieve(cx: &Context, offer: &Offer, leg: LegId) -> Result<(), Refusal> {
    allowed(cx, offer)?;
    let claim = Claim {
        number: offer.number.clone(),
        pool: offer.pool.clone(),
        token: offer.token.clone(),
        claimant: offer.caller.clone(),
    };
    let claimed = match first((cx.calls().watch(leg), cx.orbits().claim(&claim))).await {
        OneOf::A(_) => return Err(Refusal::new(Code::LEG_GONE, "the retriever hung up")),
        OneOf::B(claimed) => claimed?,
    };
    // If this fails the flow ends, and with it the claim: the call is parked again with the time it had left.
    match cx.calls().join(claimed.leg, leg).await {
        Ok(()) => {
            cx.orbits().free(&claimed.number, Outcome::Retrieved);
            cx.calls().accept(&Accept::default());
            cx.metrics().count("retrievals", 1);
            Ok(())
        }
        Err(error) if error.code == Code::NOT_ACCEPTABLE => Err(Refusal::new(error.code, error.text)),
        Err(error) => {
            Err(Refusal::new(Code::RETRIEVE_FAILED, format!("could not be connected: {}", error.text)))
        }
    }
}

/// Who may retrieve (facts.md §6 no. 2): users of the deployment, by their right and the pool's policy.
fn allowed(cx: &Context, offer: &Offer) -> Result<(), Refusal> {
    let caller = &offer.caller;
    if caller.outside {
        return Err(Refusal::new(Code::OUTSIDE, "parked calls cannot be taken from outside"));
    }
    if !caller.may_retrieve {
        return Err(Refusal::new(Code::NOT_ALLOWED, format!("{} may not retrieve calls", caller.label())));
    }
    let question =
        json!({ "retriever": caller, "number": offer.number, "how": offer.how, "pool": offer.pool });
    let decision = cx.policy().decide(&offer.pool, "call_park.allow_retrieve", &question)?;
    decision.allowed_or(Code::NOT_ALLOWED, "not allowed by policy")?;
    Ok(())
}
