//! Call Park: a call waits in an orbit until somebody takes it (facts.md §1.1; design.md §7).
//!
//! One decision tells parking from retrieving: what the orbit holds and how we were reached. A REFER always parks; an
//! INVITE takes the call that waits in the number it dials, and parks the call its phone holds if none does.
//!
//! - [`park`]: reserve, play, commit, tell — in this order, so that any failure leaves parker and caller together;
//! - [`wait`]: hang-up, claim, or the deadline and what it brings (CP-07);
//! - [`retrieve`]: claim, join, free.

mod park;
mod retrieve;
mod terms;
mod wait;

use switchyard_sdk::prelude::*;

/// The plugin. All state is in flows and records.
#[derive(Default)]
pub struct CallPark;

/// What an offer asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wish {
    /// Put this call into an orbit.
    Park(FarLeg),
    /// Take a call out of one.
    Retrieve(LegId),
    /// Neither can be done.
    Refuse(Refusal),
}

impl Plugin for CallPark {
    const NAME: &'static str = "call-park";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const MANIFEST: &'static str = include_str!("manifest.json");
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, offer: Offer) -> Result<(), CommandError> {
        match wish(&offer) {
            Wish::Park(far) => match park::park(&cx, &offer, far).await {
                Ok(parked) => wait::wait(&cx, parked).await,
                Err(refusal) => {
                    cx.metrics().count("parks_refused", 1);
                    cx.calls().refuse(&refusal);
                    Ok(())
                }
            },
            Wish::Retrieve(leg) => {
                if let Err(refusal) = retrieve::retrieve(&cx, &offer, leg).await {
                    cx.metrics().count("retrievals_refused", 1);
                    cx.calls().refuse(&refusal);
                }
                Ok(())
            }
            Wish::Refuse(refusal) => {
                cx.calls().refuse(&refusal);
                Ok(())
            }
        }
    }

    async fn resume(self: Rc<Self>, cx: Context, resume: Resume) -> Result<(), CommandError> {
        wait::wait(&cx, wait::Parked::resumed(resume)?).await
    }
}

switchyard_sdk::declare_plugin!(CallPark);

/// Park, retrieve or neither: from what the orbit holds and how we were reached.
fn wish(offer: &Offer) -> Wish {
    let refuse = |code, text: String| Wish::Refuse(Refusal::new(code, text));
    if let Some(error) = &offer.number_error {
        return refuse(Code::VACANT, error.clone());
    }
    let unpark = offer.service.as_deref() == Some("unpark");
    // `park;orbit=7001` says what is wanted; a bare number means whatever its state allows.
    let park_only = offer.service.as_deref() == Some("park");
    match offer.how {
        How::Replaces => match offer.leg {
            Some(leg) => Wish::Retrieve(leg),
            None => refuse(Code::VACANT, "nothing to take".to_owned()),
        },
        How::Dial => match (offer.leg, &offer.far) {
            (Some(leg), _) if unpark => Wish::Retrieve(leg),
            (Some(leg), _) if !park_only && (offer.occupied || offer.token.is_some()) => Wish::Retrieve(leg),
            (Some(_), Some(far)) => Wish::Park(far.clone()),
            // Nobody waits there; claiming it says who was faster, if somebody was. And who dials `park;orbit=7001`
            // with nothing to park while somebody waits there has pressed the key to fetch him.
            (Some(leg), None) if offer.number.is_some() && (!park_only || offer.occupied) => {
                Wish::Retrieve(leg)
            }
            _ => refuse(Code::NOTHING_TO_PARK, "no held call to park".to_owned()),
        },
        How::Refer | How::Admin if unpark => {
            refuse(Code::NOTHING_TO_PARK, "dial unpark to take a call".to_owned())
        }
        // Not offered to a plugin that does not declare it knows ringing calls.
        How::Ringing => refuse(Code::NOTHING_TO_PARK, "a ringing call cannot be parked".to_owned()),
        How::Refer | How::Admin => match &offer.far {
            Some(far) => Wish::Park(far.clone()),
            None => refuse(Code::NOTHING_TO_PARK, "there is nobody to park".to_owned()),
        },
        _ => refuse(Code::NOTHING_TO_PARK, "this version parks no calls that come like this".to_owned()),
    }
}

#[cfg(test)]
mod tests;
