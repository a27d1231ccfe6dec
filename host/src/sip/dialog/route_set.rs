//! Request-URI and Route of a request in a dialog (RFC 3261 §12.2.1.1).

use crate::sip::header::{NameAddr, split_name_addr};
use crate::sip::uri::Uri;

/// The Request-URI and the Route values that take a request along `route_set` to `target`.
pub(super) fn address(route_set: &[String], target: &str) -> (String, Vec<String>) {
    match route_set.split_first() {
        Some((first, rest)) if is_strict(first) => {
            // A strict router wants itself in the Request-URI and the target at the end of Route.
            let uri = NameAddr::parse(first).map_or_else(|_| first.clone(), |hop| request_uri(hop.uri));
            let routes = rest.iter().cloned().chain([format!("<{target}>")]).collect();
            (uri, routes)
        }
        Some(_) | None => {
            let uri = Uri::parse(target).map_or_else(|_| target.to_owned(), request_uri);
            (uri, route_set.to_vec())
        }
    }
}

/// A router without `lr` knows only the routing of RFC 2543. What cannot be read is taken for loose: putting it into
/// the Request-URI would lose the target.
fn is_strict(route: &str) -> bool {
    split_name_addr(route).is_ok_and(|parts| Uri::parse(parts.uri).is_ok_and(|uri| !uri.params.has("lr")))
}

/// Takes away what may not stand in a Request-URI (§19.1.1, table 1).
fn request_uri(mut uri: Uri) -> String {
    uri.headers.clear();
    uri.params.remove("method");
    uri.to_string()
}
