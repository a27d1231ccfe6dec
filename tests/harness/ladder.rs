//! What went over the wire, one line a message, in the order of sending.

use switchyard_host::sip::{Message, Method, Name};
use switchyard_host::time::Instant;

/// One message as a line of a ladder.
pub fn line(start: Instant, at: Instant, from: &str, to: &str, message: &Message) -> String {
    let elapsed = at - start;
    let what = if message.is_request() {
        request(message)
    } else {
        let status = message.status().map_or(0, |status| status.0);
        let carries = if message.sdp().is_some() { " (sdp)" } else { "" };
        format!("{status} {}{carries}", message.reason())
    };
    let text = format!("+{:.3}  {from:<5} -> {to:<5}  {what}", elapsed.as_secs_f64());
    text.trim_end().to_owned()
}

fn request(message: &Message) -> String {
    let method = message.method();
    let mut what = method.as_str().to_owned();
    if message.to_tag().is_none() {
        what = format!("{what} {}", message.uri());
    }
    match method {
        Method::Refer => {
            if let Some(target) = message.get(Name::ReferTo) {
                what = format!(
                    "{what} to {}",
                    target.split('?').next().unwrap_or_default().trim_matches(['<', '>'])
                );
            }
        }
        Method::Notify => {
            if let Ok(body) = std::str::from_utf8(&message.body()) {
                what = format!("{what} {}", body.lines().next().unwrap_or_default());
            }
        }
        Method::Bye | Method::Cancel => {
            if let Some(reason) = message.get(Name::Reason) {
                what = format!("{what} ({reason})");
            }
        }
        _ => {}
    }
    if let Some(sdp) = message.sdp() {
        what.push_str(if direction(&sdp) == "sendrecv" { " (sdp)" } else { "" });
        if direction(&sdp) != "sendrecv" {
            what = format!("{what} (sdp {})", direction(&sdp));
        }
    }
    what
}

/// The direction of the first stream.
pub fn direction(sdp: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(sdp);
    ["sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|direction| text.lines().any(|line| line == format!("a={direction}")))
        .unwrap_or("sendrecv")
}
