//! Group Call Pickup: for now it only declares itself, so that ranges of its kind can be set up, and says that
//! it cannot serve them yet.

use switchyard_sdk::prelude::*;

/// The plugin.
#[derive(Default)]
pub struct GroupPickup;

impl Plugin for GroupPickup {
    const NAME: &'static str = "group-pickup";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const MANIFEST: &'static str = include_str!("../manifest.json");
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, _offer: Offer) -> Result<(), CommandError> {
        cx.calls().refuse(&Refusal::new(Code::GENERAL, "group pickup is not available yet"));
        Ok(())
    }
}

switchyard_sdk::declare_plugin!(GroupPickup);

#[cfg(test)]
mod tests {
    use switchyard_sdk::testing::FakeHost;

    use super::*;

    #[test]
    fn whoever_dials_a_group_is_told_that_it_is_not_available_yet() {
        let mut host = FakeHost::new::<GroupPickup>();
        assert_eq!(host.manifest().kinds, ["group-pickup"]);
        let number = Some("*101".to_owned());
        host.offer(Offer { service: None, number, leg: Some(LegId(1)), ..Offer::dialled("") });
        assert_eq!(host.expect_refuse().text, "group pickup is not available yet");
        host.expect_done();
    }
}
