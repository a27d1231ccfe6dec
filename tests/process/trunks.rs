//! The way out: gateways found by name.

use super::dns;
use super::host::Host;
use super::ports::free_port;
use super::sipp::{Line, Script, all_succeed};

/// The trunk is a domain: DNS says where its gateway is, and on which port (RFC 3263).
#[test]
fn a_gateway_is_found_through_dns() {
    let gateway_port = free_port();
    let server = dns::serve(&[gateway_port]);
    let trunk = r#"
[[trunks]]
name = "pstn"
to = "sip:gw.test"
[[routes]]
match = "^9(\\d+)$"
trunk = "pstn"
number = "$1"
"#;
    let host = Host::start_configured(&format!("nameservers = [\"{server}\"]"), trunk);
    let alice = Line::register(&host, "alice");
    let gateway = Line::gateway(&host, gateway_port);
    let answered = gateway.run(Script::new("gateway").answer().hung_up());
    let caller = alice.run(Script::new("alice").call("95551234").pause(200).hang_up());
    all_succeed([caller, answered]);
    host.is_quiet();
}
