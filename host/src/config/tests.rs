mod cluster;
mod users;

use expect_test::{Expect, expect};

use super::*;

const LEAST: &str = r#"
[sip]
domain = "example.test"
listen = ["udp:127.0.0.1:5060"]
"#;

fn check(text: &str, expected: Expect) {
    let shown: Vec<String> = match parse(Path::new("etc/switchyard.toml"), text) {
        Ok(config) => config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    };
    expected.assert_eq(&shown.concat());
}

fn read(text: &str) -> Config {
    match parse(Path::new("etc/switchyard.toml"), text) {
        Ok(config) => config,
        Err(errors) => panic!("{errors:#?}"),
    }
}

#[test]
fn three_lines_are_a_configuration() {
    let config = read(LEAST);
    assert_eq!(config.sip.domain, "example.test");
    assert_eq!(config.host.pool, "default");
    assert_eq!(config.pool_names(), ["default"]);
    assert_eq!(config.host.data_dir, Path::new("etc/var"));
    assert_eq!(config.policies.dir, Path::new("etc/policies"));
    assert_eq!(config.media.address, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(config.admin.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.store.kind, StoreKind::Embedded);
    assert_eq!(config.sip.limits, Limits::default());
    assert!(config.warnings.is_empty());
}

#[test]
fn every_key_is_read() {
    let config = read(
        r#"
        [host]
        name = "fe1"
        pool = "east"
        data_dir = "/var/lib/switchyard"
        [sip]
        domain = "Example.Test"
        listen = ["udp:0.0.0.0:5060", "tcp:[::1]:5060"]
        advertise = "udp:203.0.113.5:5060"
        nameservers = ["192.0.2.53", "[2001:db8::53]:5353"]
        emergency = ["112"]
        [sip.limits]
        message_bytes = 20000
        connections = 10
        bindings_per_user = 2
        register_min = "30s"
        register_max = "10m"
        known_per_source = 300
        strangers_per_source = 20
        strangers = 400
        password_failures = 3
        [plugins]
        dir = "lib"
        enabled = ["call-park"]
        [policies]
        dir = "lua"
        [store]
        kind = "memory"
        [media]
        address = "192.0.2.1"
        ports = "30000-30999"
        music = "tunes"
        [admin]
        listen = "192.0.2.1:8080"
        token = "0123456789abcdef"
        hosts = ["pbx.example.test"]
        [[pools]]
        name = "east"
        fqdn = "east.example.test"
        [[orbits]]
        name = "east-park"
        from = "7000"
        to = "7099"
        kind = "call-park"
        [[users]]
        name = "alice"
        extension = "1001"
        display = "Alice A."
        password = "wonderland"
        may_park = true
        may_retrieve = false
        [[users]]
        name = "bob"
        ha1 = { md5 = "0123456789ABCDEF0123456789abcdef" }
        pool = "east"
        [[trunks]]
        name = "pstn"
        peers = ["192.0.2.10", "198.51.100.0/24"]
        to = "sip:gateway.example.test"
        user = "u"
        password = "p"
        forks = "hidden"
        caller = "inside"
        [[routes]]
        match = '^9(\d+)$'
        trunk = "pstn"
        number = "$1"
        [[routes]]
        match = '^112$'
        trunk = "pstn"
        "#,
    );
    assert_eq!(config.host.data_dir, Path::new("/var/lib/switchyard"));
    assert_eq!(config.sip.domain, "example.test");
    let [udp, tcp] = config.sip.listen.as_slice() else { panic!("{:?}", config.sip.listen) };
    assert_eq!(config.sip.advertised(udp.protocol, udp.address), "203.0.113.5:5060");
    assert_eq!(config.sip.advertised(tcp.protocol, tcp.address), "[::1]:5060");
    assert_eq!(config.sip.nameservers.len(), 2);
    assert_eq!(config.sip.nameservers[0].to_string(), "192.0.2.53:53");
    assert_eq!(config.sip.nameservers[1].to_string(), "[2001:db8::53]:5353");
    assert_eq!(config.sip.limits.message_bytes, 20_000);
    assert_eq!(config.sip.limits.register_max, Duration::from_secs(600));
    let limits = &config.sip.limits;
    assert_eq!((limits.known_per_source, limits.strangers_per_source), (300, 20));
    assert_eq!((limits.strangers, limits.password_failures), (400, 3));
    assert_eq!(config.plugins.enabled.as_deref(), Some(&["call-park".to_owned()][..]));
    assert_eq!(config.store.kind, StoreKind::Memory);
    assert_eq!(config.media.ports, 30_000..=30_999);
    assert_eq!(config.media.music, Path::new("etc/tunes"));
    assert_eq!(config.admin.token.as_ref().map(Secret::reveal), Some("0123456789abcdef"));
    assert_eq!(config.admin.hosts, ["pbx.example.test"]);
    assert_eq!(config.orbits[0].pool, "east");
    let [alice, bob] = config.users.as_slice() else { panic!("{:?}", config.users) };
    assert!(alice.may_park && !alice.may_retrieve && !bob.may_park && bob.may_retrieve);
    assert_eq!(alice.credential, Credential::Password(Secret::new("wonderland")));
    let md5 = Some(Secret::new("0123456789abcdef0123456789abcdef"));
    assert_eq!(bob.credential, Credential::Ha1 { md5, sha256: None });
    let pstn = config.trunk_of([198, 51, 100, 7].into()).unwrap();
    assert_eq!((pstn.name.as_str(), pstn.forks, pstn.caller), ("pstn", Forks::Hidden, Caller::Inside));
    let (_, number) = config.route("95551234").unwrap();
    assert_eq!(number, "5551234");
    assert_eq!(config.route("112").map(|(_, number)| number).as_deref(), Some("112"));
    assert!(config.route("1001").is_none());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    check(
        r#"
[host]
nmae = "fe1"
pool = "esat"

[sip]
domain = "exa mple"
listen = ["udp:localhost:5060", "tls:127.0.0.1:5061", 5060]

[media]
adress = "127.0.0.1"
ports = "29999-20000"

[[pools]]
name = "east"

[[users]]
name = "alice"
extension = 1001
password = "x"
may_park = "yes"

[[users]]
name = "alice"
extension = "1002"

[[routes]]
match = "^9(\\d+$"
trunk = "psnt"
[[routes]]
match = "^8(\\d+)$"
trunk = "pstn"
number = "$2"
[[trunks]]
name = "pstn"
to = "gateway"
forks = "hiden"
"#,
        expect![[r#"
            etc/switchyard.toml:3:1: host.nmae: unknown key, did you mean name?
            etc/switchyard.toml:4:8: host.pool: there is no pool "esat", did you mean east?
            etc/switchyard.toml:7:10: sip.domain: expected a host name such as "example.test", found "exa mple"
            etc/switchyard.toml:8:11: sip.listen: expected udp:ADDRESS:PORT with a numeric address, such as "udp:127.0.0.1:5060" or "udp:[::1]:5060", found "udp:localhost:5060"
            etc/switchyard.toml:8:33: sip.listen: tls is not available in this version; use udp or tcp
            etc/switchyard.toml:8:55: sip.listen: expected text, found the number 5060
            etc/switchyard.toml:11:1: media.adress: unknown key, did you mean address?
            etc/switchyard.toml:12:9: media.ports: expected the first port above 1023 and room for a pair (an even port and the next), found "29999-20000"
            etc/switchyard.toml:19:13: users[0].extension: expected a number such as "1001", found the number 1001
            etc/switchyard.toml:21:12: users[0].may_park: expected true or false, found "yes"
            etc/switchyard.toml:23:1: users[1].password: missing, expected a password, or ha1 = { md5 = "…", sha256 = "…" }
            etc/switchyard.toml:24:8: users[1].name: "alice" is taken by users[0].name in line 18
            etc/switchyard.toml:28:9: routes[0].match: expected a regular expression: unclosed group
            etc/switchyard.toml:29:9: routes[0].trunk: there is no trunk "psnt", did you mean pstn?
            etc/switchyard.toml:33:10: routes[1].number: $2 names no group of the pattern, which has 1
            etc/switchyard.toml:36:6: trunks[0].to: expected a SIP URI such as "sip:gateway.example.test" or "sip:192.0.2.10:5060", found "gateway"
            etc/switchyard.toml:37:9: trunks[0].forks: expected "visible" or "hidden", found "hiden", did you mean hidden?
        "#]],
    );
}

#[test]
fn a_broken_file_is_answered_with_the_place() {
    check(
        "[sip\ndomain = \"example.test\"\n[host]\nname = \n",
        expect![[r#"
        etc/switchyard.toml:1:5: unclosed table, expected `]`
        etc/switchyard.toml:4:8: string values must be quoted, expected literal string
    "#]],
    );
}

#[test]
fn an_empty_file_says_what_is_needed() {
    check(
        "",
        expect![[r#"
        etc/switchyard.toml:1:1: sip.domain: missing, expected the domain of your users, such as "example.test"
        etc/switchyard.toml:1:1: sip.listen: missing, expected a list such as ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
    "#]],
    );
}

#[test]
fn what_this_version_lacks_is_refused_by_name() {
    check(
        r#"
[sip]
domain = "example.test"
listen = ["ws:127.0.0.1:8081"]
tls = { cert = "a", key = "b" }
[cluster]
listen = "tls:127.0.0.1:5071"
[media]
relay = "rtpengine"
[[trunks]]
name = "t"
to = "sips:gateway.example.test"
register = true
"#,
        expect![[r#"
            etc/switchyard.toml:4:11: sip.listen: ws is not available in this version; use udp or tcp
            etc/switchyard.toml:5:1: sip.tls: not available in this version; listen on udp or tcp
            etc/switchyard.toml:6:2: cluster: it belongs to store.kind = "etcd"; leave it out
            etc/switchyard.toml:9:1: media.relay: not available in this version; media goes phone to phone; leave it out
            etc/switchyard.toml:12:6: trunks[0].to: sips: is not available in this version; use sip:
            etc/switchyard.toml:13:1: trunks[0].register: not available in this version; a trunk is known by its peers; it does not register
        "#]],
    );
}

#[test]
fn an_admin_address_others_can_reach_needs_a_token() {
    let admin = "[admin]\nlisten = \"0.0.0.0:8080\"\n";
    check(
        &format!("{LEAST}{admin}"),
        expect![[r#"
        etc/switchyard.toml:6:10: admin.listen: 0.0.0.0:8080 is not a loopback address, so admin.token is required, such as `openssl rand -hex 16` makes
    "#]],
    );
    check(
        &format!("{LEAST}{admin}token = \"short\"\n"),
        expect![[r#"
        etc/switchyard.toml:7:9: admin.token: expected at least 16 printable characters without spaces, such as `openssl rand -hex 16` makes
    "#]],
    );
    check(&format!("{LEAST}{admin}token = \"0123456789abcdef\"\n"), expect![[""]]);
}

#[test]
fn listening_everywhere_needs_an_address_to_tell() {
    check(
        "[sip]\ndomain = \"example.test\"\nlisten = [\"udp:0.0.0.0:5060\", \"udp:0.0.0.0:5060\"]\n",
        expect![[r#"
            etc/switchyard.toml:1:1: media.address: missing, expected the address phones can send to, because sip.listen names none
            etc/switchyard.toml:3:11: sip.listen: 0.0.0.0 is every address of this machine, so phones must be told which: expected sip.advertise = ["udp:ADDRESS:5060"]
            etc/switchyard.toml:3:31: sip.listen: 0.0.0.0 is every address of this machine, so phones must be told which: expected sip.advertise = ["udp:ADDRESS:5060"]
            etc/switchyard.toml:3:31: sip.listen: udp:0.0.0.0:5060 stands here twice
        "#]],
    );
}

#[test]
fn limits_are_within_bounds_and_the_least_is_below_the_most() {
    let limits = "[sip.limits]\nmessage_bytes = 10\nconnections = -1\nregister_min = \"5m\"\nregister_max = \"1m\"\nbindings = 3\nstranger = 0\nstrangers_per_source = 0\n";
    check(
        &format!("{LEAST}{limits}"),
        expect![[r#"
            etc/switchyard.toml:5:6: sip.limits.register_min: expected no more than register_max, found 5m and 1m
            etc/switchyard.toml:6:17: sip.limits.message_bytes: expected a whole number from 4096 to 65535, found the number 10
            etc/switchyard.toml:7:15: sip.limits.connections: expected a whole number from 1 to 1000000, found the number -1
            etc/switchyard.toml:10:1: sip.limits.bindings: unknown key, did you mean bindings_per_user?
            etc/switchyard.toml:11:1: sip.limits.stranger: unknown key, did you mean strangers?
            etc/switchyard.toml:12:24: sip.limits.strangers_per_source: expected a whole number from 1 to 1000000, found the number 0
        "#]],
    );
}

#[test]
fn each_port_has_one_use() {
    check(
        "[sip]\ndomain = \"example.test\"\nlisten = [\"udp:127.0.0.1:20000\", \"tcp:127.0.0.1:8080\", \"udp:127.0.0.2:20000\"]\n",
        expect![[r#"
            etc/switchyard.toml:3:11: sip.listen: port 20000 lies in media.ports, 20000-29999
            etc/switchyard.toml:3:34: sip.listen: 127.0.0.1:8080 is where admin.listen is
        "#]],
    );
}

#[test]
fn a_file_that_is_not_there_says_how_to_name_another() {
    let errors = load(Path::new("/nonexistent/switchyard.toml")).unwrap_err();
    expect!["/nonexistent/switchyard.toml: there is no such file; name another with --config FILE or SWITCHYARD_CONFIG"].assert_eq(&errors[0].to_string());
}

#[test]
fn columns_count_characters() {
    check(
        "[host]\nname = \"fe1\" # ü\n\"ü\" = 1 # é\n[sip]\ndomain=\"d\"\nlisten=\"udp:127.0.0.1:5060\"\n[[pools]]\nname = 'ü '",
        expect![[r#"
            etc/switchyard.toml:3:1: host.ü: unknown key, expected one of data_dir, drain_max, name, pool
            etc/switchyard.toml:8:8: pools[0].name: expected a name of letters, digits, "-", "_", "." or "+", at most 64, found "ü "
        "#]],
    );
}

#[test]
fn the_sample_office_is_right() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../switchyard.toml"));
    let config = load(file).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let people: Vec<(&str, Option<&str>)> =
        config.users.iter().map(|user| (user.name.as_str(), user.extension.as_deref())).collect();
    assert_eq!(
        people,
        [("alice", Some("1001")), ("bob", Some("1002")), ("carol", Some("1003")), ("dave", Some("1004"))]
    );
    assert!(config.users.iter().all(|user| user.may_park));
    assert!(config.admin.listen.ip().is_loopback());
}

#[cfg(feature = "etcd")]
const SHARED: &str = "[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n";
