use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchyard_host::plugin::FlowEnd;

use super::*;

/// Counts panics that reach the host's own hook from the plugin's source file.
fn host_hook() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|location| location.file().contains("unruly")) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        previous(info);
    }));
    count
}

#[test]
fn a_panic_in_a_library_ends_its_flow_and_says_where() {
    let heard_by_host = host_hook();
    let site = Site::new();
    site.install("libunruly.so");
    let mut plugins = site.start();
    let neighbour = offer(&mut plugins, "unruly", "");
    let neighbour_wait = watching(&mut plugins);

    let flow = offer(&mut plugins, "unruly", "panic at once");
    let ended = ends(&mut plugins);
    assert_eq!((ended.len(), ended[0].0, ended[0].1), (1, flow, FlowEnd::Panicked));
    let message = &ended[0].2;
    assert!(message.contains("unruly/src/lib.rs:") && message.ends_with("at once"), "{message}");

    let flow = offer(&mut plugins, "unruly", "panic after an await");
    let wait = watching(&mut plugins);
    plugins.answer(now(), wait, Ok(&serde_json::json!({})));
    let ended = ends(&mut plugins);
    assert_eq!((ended.len(), ended[0].0, ended[0].1), (1, flow, FlowEnd::Panicked));
    assert!(ended[0].2.ends_with("after an await"), "{ended:?}");

    let flow = offer(&mut plugins, "unruly", "panic in drop");
    watching(&mut plugins);
    plugins.cancel_flow(now(), flow);
    let ended = ends(&mut plugins);
    assert_eq!((ended.len(), ended[0].0, ended[0].1), (1, flow, FlowEnd::Panicked));
    assert!(ended[0].2.ends_with("in drop"), "{ended:?}");

    let flow = offer(&mut plugins, "unruly", "panic with a payload that panics");
    let ended = ends(&mut plugins);
    assert_eq!((ended.len(), ended[0].0, ended[0].1), (1, flow, FlowEnd::Panicked));

    let flow = offer(&mut plugins, "unruly", "ask from another thread");
    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Done, String::new())]);

    plugins.answer(now(), neighbour_wait, Ok(&serde_json::json!({})));
    assert_eq!(ends(&mut plugins), [(neighbour, FlowEnd::Done, String::new())]);
    assert_eq!(heard_by_host.load(Ordering::SeqCst), 0, "the library has a hook of its own");
    assert_eq!(plugins.list()[0]["unknown_extensions"], serde_json::json!(["switchyard.video/7"]));
}

#[test]
fn a_library_is_ended_while_a_bomb_is_in_it() {
    let site = Site::new();
    site.install("libunruly.so");
    let mut plugins = site.start();
    offer(&mut plugins, "unruly", "panic in drop");
    drop(plugins);
}
