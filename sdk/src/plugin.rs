//! What a plugin author implements.

use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;

use crate::Context;
use crate::ext::orbit::Resume;
use crate::types::Offer;

/// A feature. One value per engine, made with [`Default`], used on that engine's thread only.
///
/// Each offer and each parked call starts a flow: a future that gives commands to the host and awaits their
/// answers. Flows of a plugin share `self`; keep what they share in a `Cell` or `RefCell`, and never hold a
/// borrow across an `.await`. Write `offer` and `resume` as `async fn`.
///
/// A flow that panics or returns an error ends alone: what it held is released, the call goes on as it would
/// without the feature, and the log says why. Keep no statics: several engines, or several hosts of a simulated
/// deployment, may share the library.
pub trait Plugin: Default + 'static {
    /// `call-park`: lower-case letters, digits and hyphens.
    const NAME: &'static str;
    /// A semantic version; `env!("CARGO_PKG_VERSION")` is a good one.
    const VERSION: &'static str;
    /// The manifest as JSON ([`Manifest`](crate::manifest::Manifest)): which numbers and services the plugin
    /// handles, which extensions it uses, which settings it has. Often `include_str!("manifest.json")`.
    const MANIFEST: &'static str;
    /// How a flow fails; [`CommandError`](crate::CommandError) if it has nothing to add.
    type Error: Display + 'static;

    /// A call is offered. Ends with `accept` or `refuse`, or in an error; the host takes a flow that ends
    /// without either as a refusal.
    fn offer(
        self: Rc<Self>,
        cx: Context,
        offer: Offer,
    ) -> impl Future<Output = Result<(), Self::Error>> + 'static;

    /// A parked call is handed over, after a restart or by an older copy of this plugin. A plugin that parks
    /// calls must look after it until it is freed; the others need not write this.
    fn resume(
        self: Rc<Self>,
        cx: Context,
        resume: Resume,
    ) -> impl Future<Output = Result<(), Self::Error>> + 'static {
        async move {
            cx.log().warning(format_args!(
                "{} looks after no parked calls; {} is left",
                Self::NAME,
                resume.number
            ));
            Ok(())
        }
    }
}
