//! A plugin for the tests: it panics wherever one can. The offered service says where.

use switchyard_sdk::prelude::*;

/// The plugin.
#[derive(Default)]
pub struct Unruly;

impl Plugin for Unruly {
    const NAME: &'static str = "unruly";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const MANIFEST: &'static str = r#"{
        "description": "Panics wherever one can",
        "kinds": ["unruly"],
        "extensions": ["switchyard.call/1", "switchyard.orbit/1", "switchyard.log/1", "switchyard.video/7"]
    }"#;
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, offer: Offer) -> Result<(), CommandError> {
        let leg = LegId(1);
        match offer.service.as_deref().unwrap_or_default() {
            "panic at once" => panic!("at once"),
            "panic after an await" => {
                cx.calls().watch(leg).await?;
                panic!("after an await");
            }
            "panic in drop" => {
                let _bomb = Bomb;
                cx.calls().watch(leg).await?;
            }
            "panic with a payload that panics" => std::panic::panic_any(Bomb),
            "rest" => {
                let _rest = cx.rest(&Commit { number: "7001".into(), ..Commit::default() });
                cx.calls().watch(leg).await?;
            }
            "ask from another thread" => {
                // A panic on a thread of the plugin's own ends that thread.
                let joined = std::thread::spawn(|| panic!("on a thread")).join();
                cx.log().info(format_args!("joined: {}", joined.is_err()));
            }
            _ => {
                cx.calls().watch(leg).await?;
            }
        }
        Ok(())
    }

    async fn resume(self: Rc<Self>, cx: Context, resume: Resume) -> Result<(), CommandError> {
        let _rest = cx.rest(&Commit { number: resume.number, terms: resume.terms, state: resume.state });
        cx.calls().watch(resume.leg).await.map(drop)
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

switchyard_sdk::declare_plugin!(Unruly);
