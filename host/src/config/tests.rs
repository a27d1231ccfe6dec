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
fn phones_are_told_a_name_only_where_there_is_one() {
    let pool = |keys: &str| format!("{LEAST}[host]\npool = \"east\"\n[[pools]]\nname = \"east\"\n{keys}");
    let config = parse(Path::new("x"), &pool("fqdn = \"east.example.test\"\n")).unwrap();
    assert_eq!(config.contact_name("east"), None, "a name that leads nowhere would break calls");
    let named = pool("fqdn = \"east.example.test\"\ncontact = \"fqdn\"\n");
    let config = parse(Path::new("x"), &named).unwrap();
    assert_eq!((config.contact_name("east"), config.contact_name("west")), (Some("east.example.test"), None));
    check(
        &pool("contact = \"fqdn\"\n"),
        expect![[r#"
            etc/switchyard.toml:7:1: pools[0].fqdn: missing, expected beside contact = "fqdn"
        "#]],
    );
    check(
        &pool("contact = \"name\"\n"),
        expect![[r#"
            etc/switchyard.toml:9:11: pools[0].contact: expected "address" or "fqdn", found "name"
        "#]],
    );
}

#[test]
fn pairs_of_pools_are_mutual() {
    let pools = r#"
[host]
pool = "east"
[[pools]]
name = "east"
backup = "west"
[[pools]]
name = "west"
backup = "north"
[[pools]]
name = "south"
backup = "south"
"#;
    check(
        &format!("{LEAST}{pools}"),
        expect![[r#"
        etc/switchyard.toml:10:10: pools[0].backup: backups are mutual, expected backup = "east" in the pool "west"
        etc/switchyard.toml:13:10: pools[1].backup: there is no pool "north"
        etc/switchyard.toml:16:10: pools[2].backup: a pool cannot be its own backup
    "#]],
    );
}

#[test]
fn a_host_must_say_which_of_the_pools_it_is_in() {
    check(
        &format!("{LEAST}[[pools]]\nname = \"east\"\n"),
        expect![[r#"
        etc/switchyard.toml:1:1: host.pool: missing, expected the pool this host belongs to, such as "east"
    "#]],
    );
}

#[test]
fn names_and_extensions_are_dialled_alike_so_they_differ() {
    let users = r#"
[[users]]
name = "alice"
extension = "1001"
password = "a"
[[users]]
name = "1001"
password = "b"
ha1 = { md5 = "xyz" }
[[users]]
name = "carol"
ha1 = { }
"#;
    check(
        &format!("{LEAST}{users}"),
        expect![[r#"
            etc/switchyard.toml:10:1: users[1].ha1: expected either password or ha1, found both
            etc/switchyard.toml:11:8: users[1].name: "1001" is taken by users[0].extension in line 8
            etc/switchyard.toml:13:15: users[1].ha1.md5: expected 32 hexadecimal digits
            etc/switchyard.toml:16:1: users[2].ha1.md5: missing, expected md5 or sha256, or both
        "#]],
    );
}

#[test]
fn emergency_numbers_are_nobodys_extension_and_need_a_route() {
    let text = r#"
[sip]
domain = "example.test"
listen = ["udp:127.0.0.1:5060"]
emergency = ["112", "911"]
[[users]]
name = "alice"
extension = "112"
password = "a"
"#;
    check(
        text,
        expect![[r#"
        etc/switchyard.toml:8:13: users[0].extension: "112" is an emergency number (sip.emergency)
    "#]],
    );
    check(
        &text.replace("extension = \"112\"", ""),
        expect![[r#"
        warning: etc/switchyard.toml:5:14: sip.emergency: no route leads anywhere for "112": such calls will fail
        warning: etc/switchyard.toml:5:21: sip.emergency: no route leads anywhere for "911": such calls will fail
    "#]],
    );
}

#[test]
fn orbits_keep_to_their_rules() {
    let text = r##"
[sip]
domain = "example.test"
listen = ["udp:127.0.0.1:5060"]
emergency = ["7112"]
[[orbits]]
name = "a"
from = "7000"
to = "7099"
kind = "call-park"
[[orbits]]
name = "b"
from = "7050"
to = "7150"
kind = "call-park"
[[orbits]]
name = "c"
from = "7100"
to = "7199"
kind = "call-park"
[[orbits]]
name = "d"
from = "*99"
to = "*1999"
kind = "group-pickup"
[[orbits]]
name = "a"
from = "8000"
to = "8009"
kind = "call-park"
pool = "west"
[[orbits]]
name = "e"
from = 9000
to = "*9010"
[[users]]
name = "alice"
extension = "7001"
pickup_group = "7002"
password = "a"
[[users]]
name = "7003"
pickup_group = "*101"
password = "a"
"##;
    check(
        text,
        expect![[r#"
        etc/switchyard.toml:13:8: orbits[1].from: range `b`: 7050 belongs to range `a` (7000 to 7099) already (ORB-06)
        etc/switchyard.toml:18:8: orbits[2].from: range `c`: 7112 is an emergency number, and orbits are looked at before emergency calls (ORB-12)
        etc/switchyard.toml:23:8: orbits[3].from: range `d`: `from` = "*99" is too small: after * or # the digits are at least 100 (ORB-05)
        etc/switchyard.toml:27:8: orbits[4].name: "a" is taken by orbits[0].name in line 7
        etc/switchyard.toml:31:8: orbits[4].pool: there is no pool "west", the host is in "default" and the file has no [[pools]]
        etc/switchyard.toml:32:1: orbits[5].kind: missing, expected a kind such as "call-park"
        etc/switchyard.toml:34:8: orbits[5].from: expected a number such as "7000", found the number 9000
        etc/switchyard.toml:38:13: users[0].extension: range `a`: 7001 is the extension of user alice; orbits are numbers nobody is reached at (ORB-10)
        etc/switchyard.toml:39:16: users[0].pickup_group: "7002" lies in the range "a" of kind call-park, expected one of kind group-pickup (GCP-04)
        etc/switchyard.toml:42:8: users[1].name: range `a`: 7003 is the extension of user 7003; orbits are numbers nobody is reached at (ORB-10)
        etc/switchyard.toml:43:16: users[1].pickup_group: "*101" lies in no range, expected one of kind group-pickup (GCP-04)
    "#]],
    );
}

#[test]
fn a_group_followed_by_digits_is_explained() {
    let trunk = "[[trunks]]\nname = \"t\"\nto = \"sip:h\"\n";
    let route = |number: &str| {
        format!("{LEAST}{trunk}[[routes]]\nmatch = '^9(\\d+)$'\ntrunk = \"t\"\nnumber = \"{number}\"\n")
    };
    check(
        &route("$1x"),
        expect![[r#"
        etc/switchyard.toml:11:10: routes[0].number: $1x names no group of the pattern, which has 1; write ${1} if letters or digits follow
    "#]],
    );
    assert_eq!(read(&route("${1}0")).route("95").unwrap().1, "50");
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
fn plugins_judge_kinds_and_services() {
    let config = read(&format!(
        "{LEAST}[[orbits]]\nname = \"a\"\nfrom = \"7000\"\nto = \"7009\"\nkind = \"call-prak\"\n\
         [[users]]\nname = \"park\"\npassword = \"p\"\n"
    ));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let errors = config.against_plugins(&names(&["call-park", "group-pickup"]), &names(&["park", "unpark"]));
    let shown: Vec<String> = errors.iter().map(|error| format!("{error}\n")).collect();
    expect![[r#"
        etc/switchyard.toml:9:8: orbits[0].kind: no plugin handles ranges of kind "call-prak", did you mean call-park?
        etc/switchyard.toml:11:8: users[0].name: "park" is a service of a plugin, so nobody could be reached there
    "#]].assert_eq(&shown.concat());
    assert!(config.against_plugins(&names(&["call-prak"]), &[]).is_empty());
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

#[test]
fn users_have_rules_and_groups() {
    let users = r#"
[[orbits]]
name = "groups"
from = "*100"
to = "*199"
kind = "group-pickup"
[[users]]
name = "bob"
extension = "1002"
password = "b"
pickup_group = ["*101", "*102"]
forward_no_answer = "1004"
no_answer_after = "15s"
forward_busy = "sip:voicemail@example.test"
also_ring = ["1003", "95551234"]
delegates = "carol"
private_number = "1092"
not_pickable_from = ["+49301234"]
[[users]]
name = "carol"
password = "c"
pickup_group = "*101"
"#;
    let config = parse(Path::new("x.toml"), &format!("{LEAST}{users}")).unwrap();
    let [bob, carol] = config.users.as_slice() else { panic!() };
    assert_eq!(
        (bob.pickup_group.as_deref(), &*bob.further_pickup_groups),
        (Some("*101"), &["*102".to_owned()][..])
    );
    assert_eq!(bob.rules.forward_no_answer.as_deref(), Some("1004"));
    assert_eq!(bob.rules.no_answer_after(), Some(Duration::from_secs(15)));
    assert_eq!(bob.rules.companions().collect::<Vec<_>>(), ["1003", "95551234", "carol"]);
    assert_eq!(bob.rules.private_number.as_deref(), Some("1092"));
    assert_eq!(
        (carol.pickup_group.as_deref(), &carol.rules),
        (Some("*101"), &crate::directory::CallRules::default())
    );
}

#[test]
fn wrong_rules_of_users_are_named() {
    let users = r#"
[[users]]
name = "bob"
password = "b"
extension = "1002"
forward_bussy = "1004"
forward_no_answer = "no body"
no_answer_after = "1s"
also_ring = ["1003", 7]
pickup_group = ["*101"]
[[users]]
name = "carol"
password = "c"
private_number = "1002"
[[trunks]]
name = "pstn"
to = "sip:192.0.2.10"
redirection = "histroy-info"
"#;
    check(
        &format!("{LEAST}{users}"),
        expect![[r#"
        etc/switchyard.toml:10:1: users[0].forward_bussy: unknown key, did you mean forward_busy?
        etc/switchyard.toml:11:21: users[0].forward_no_answer: expected an extension, a name, a number or a SIP URI, found "no body"
        etc/switchyard.toml:12:19: users[0].no_answer_after: expected a time from 5s to 3m, found "1s"
        etc/switchyard.toml:13:22: users[0].also_ring: expected text, found the number 7
        etc/switchyard.toml:14:17: users[0].pickup_group: "*101" lies in no range, expected one of kind group-pickup (GCP-04)
        etc/switchyard.toml:18:18: users[1].private_number: "1002" is taken by users[0].extension in line 9
        etc/switchyard.toml:22:15: trunks[0].redirection: expected "history-info" or "diversion", found "histroy-info", did you mean history-info?
    "#]],
    );
}

#[cfg(not(feature = "etcd"))]
#[test]
fn a_store_this_program_was_built_without_is_refused_by_name() {
    check(
        &format!("{LEAST}[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n"),
        expect![[r#"
            etc/switchyard.toml:6:1: store.kind: not available in this version; this program was built without etcd; build it with --features etcd
        "#]],
    );
}

#[cfg(feature = "etcd")]
#[test]
fn a_shared_store_is_described_in_full() {
    let config = read(&format!(
        "{LEAST}[store]\nkind = \"etcd\"\nendpoints = [\"https://10.0.0.1:2379/\", \"https://[2001:db8::1]:2379\"]\nca = \"tls/ca.pem\"\n\
         cert = \"tls/fe1.pem\"\nkey = \"tls/fe1.key\"\nlease = \"5s\"\n"
    ));
    let path = |name: &str| PathBuf::from("etc/tls").join(name);
    let etcd = Etcd {
        endpoints: vec!["https://10.0.0.1:2379".into(), "https://[2001:db8::1]:2379".into()],
        ca: Some(path("ca.pem")),
        identity: Some((path("fe1.pem"), path("fe1.key"))),
        lease: Duration::from_secs(5),
    };
    assert_eq!(config.store, Store { kind: StoreKind::Etcd, protect: Protect::Calls, etcd });
    let wrong: Vec<String> = config.store_files().iter().map(ToString::to_string).collect();
    assert_eq!(wrong.len(), 3);
    assert!(wrong[0].contains("store.ca: etc/tls/ca.pem cannot be read"), "{wrong:?}");
}

#[cfg(feature = "etcd")]
#[test]
fn what_is_wrong_with_a_shared_store_is_said_where_it_stands() {
    check(
        &format!(
            "{LEAST}[store]\nkind = \"etcd\"\nendpoint = \"http://127.0.0.1:2379\"\nlease = \"1s\"\ncert = \"a.pem\"\n"
        ),
        expect![[r#"
            etc/switchyard.toml:5:2: store.endpoints: missing, expected a list of addresses such as "http://10.0.0.1:2379"
            etc/switchyard.toml:7:1: store.endpoint: unknown key, did you mean endpoints?
            etc/switchyard.toml:8:9: store.lease: expected a time from 2s to 1m, found "1s"
            etc/switchyard.toml:9:8: store.key: missing: cert and key go together
        "#]],
    );
    check(
        &format!(
            "{LEAST}[store]\nkind = \"etcd\"\nendpoints = [\"127.0.0.1:2379\", \"http://127.0.0.1\"]\nca = \"a.pem\"\n"
        ),
        expect![[r#"
            etc/switchyard.toml:7:14: store.endpoints: expected an address such as "http://10.0.0.1:2379", found "127.0.0.1:2379"
            etc/switchyard.toml:7:32: store.endpoints: expected an address such as "http://10.0.0.1:2379", found "http://127.0.0.1"
        "#]],
    );
    check(
        &format!("{LEAST}[store]\nkind = \"embeded\"\nlease = \"5s\"\n"),
        expect![[r#"
        etc/switchyard.toml:6:8: store.kind: expected "embedded" or "memory" or "etcd", found "embeded", did you mean embedded?
        etc/switchyard.toml:7:1: store.lease: it belongs to kind = "etcd"; leave it out
    "#]],
    );
    check(
        &format!("{LEAST}[store]\nprotect = \"call\"\n"),
        expect![[r#"
        etc/switchyard.toml:6:11: store.protect: expected "calls" or "parked", found "call", did you mean calls?
    "#]],
    );
    check(
        &format!("{LEAST}[store]\nkind = \"etdc\"\n"),
        expect![[r#"
        etc/switchyard.toml:6:8: store.kind: expected "embedded" or "memory" or "etcd", found "etdc", did you mean etcd?
    "#]],
    );
}

#[cfg(feature = "etcd")]
const SHARED: &str = "[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n";

#[cfg(feature = "etcd")]
#[test]
fn a_cluster_is_described_in_full_or_not_at_all() {
    let config = read(&format!("{LEAST}{SHARED}"));
    assert_eq!(config.cluster, None);
    let config = read(&format!(
        "{LEAST}{SHARED}[cluster]\nlisten = \"tls:0.0.0.0:5071\"\nadvertise = \"tls:[2001:db8::1]:5072\"\ncert = \"tls/fe1.pem\"\n\
         key = \"/etc/fe1.key\"\nca = \"tls/ca.pem\"\n[host]\nname = \"fe1.east\"\n"
    ));
    let cluster = Cluster {
        listen: "0.0.0.0:5071".parse().unwrap(),
        advertise: Some("[2001:db8::1]:5072".parse().unwrap()),
        cert: PathBuf::from("etc/tls/fe1.pem"),
        key: PathBuf::from("/etc/fe1.key"),
        ca: PathBuf::from("etc/tls/ca.pem"),
    };
    assert_eq!(config.cluster, Some(cluster));
    let placed = config.of_cluster("key", "does not fit".into()).to_string();
    assert!(placed.starts_with("etc/switchyard.toml:12:7: cluster.key: does not fit"), "{placed}");
}

#[cfg(feature = "etcd")]
#[test]
fn what_is_wrong_with_a_cluster_is_said_where_it_stands() {
    check(
        &format!(
            "{LEAST}{SHARED}[cluster]\nlisten = \"tls:0.0.0.0:5071\"\ncert = 7\nadvertize = \"tls:10.0.0.1:1\"\n"
        ),
        expect![[r#"
            etc/switchyard.toml:8:2: cluster.ca: missing, expected the PEM file with who signs the hosts' certificates
            etc/switchyard.toml:8:2: cluster.key: missing, expected the PEM file with its key
            etc/switchyard.toml:9:10: cluster.listen: 0.0.0.0 is every address of this machine, so the other hosts must be told which: expected cluster.advertise = "tls:ADDRESS:5071"
            etc/switchyard.toml:10:8: cluster.cert: expected the PEM file with this host's certificate, found the number 7
            etc/switchyard.toml:11:1: cluster.advertize: unknown key, did you mean advertise?
        "#]],
    );
    check(
        &format!(
            "{LEAST}{SHARED}[cluster]\nlisten = \"tls:127.0.0.1:8080\"\nadvertise = \"tls:0.0.0.0:5071\"\ncert = \"a\"\nkey = \"b\"\n\
             ca = \"c\"\n[host]\nname = \"fe_1\"\n"
        ),
        expect![[r#"
            etc/switchyard.toml:9:10: cluster.listen: 127.0.0.1:8080 is where admin.listen is
            etc/switchyard.toml:10:13: cluster.advertise: expected an address and port others can connect to, found "tls:0.0.0.0:5071"
            etc/switchyard.toml:15:8: host.name: with [cluster] a certificate names the host, so expected letters, digits, "-" and "." only, found "fe_1"
        "#]],
    );
    check(
        &format!("{LEAST}{}[clutser]\n", SHARED.replace("\"http://127.0.0.1:2379\"", "")),
        expect![[r#"
            etc/switchyard.toml:7:13: store.endpoints: expected a list of addresses such as "http://10.0.0.1:2379", found none
            etc/switchyard.toml:8:2: clutser: unknown key, did you mean cluster?
        "#]],
    );
    check(
        &format!("{LEAST}{SHARED}[cluster]\nlisten = \"127.0.0.1:5071\"\n"),
        expect![[r#"
        etc/switchyard.toml:8:2: cluster.ca: missing, expected the PEM file with who signs the hosts' certificates
        etc/switchyard.toml:8:2: cluster.cert: missing, expected the PEM file with this host's certificate
        etc/switchyard.toml:8:2: cluster.key: missing, expected the PEM file with its key
        etc/switchyard.toml:9:10: cluster.listen: expected tls:ADDRESS:PORT with a numeric address, such as "tls:10.0.0.1:5071" or "tls:[::1]:5071", found "127.0.0.1:5071"
    "#]],
    );
    check(
        &format!("{LEAST}[cluster]\nlisten = \"tls:127.0.0.1:5071\"\n"),
        expect![[r#"
        etc/switchyard.toml:5:2: cluster: it belongs to store.kind = "etcd"; leave it out
    "#]],
    );
}

/// They are part of every message between hosts.
#[test]
fn names_of_hosts_and_pools_are_short() {
    let long = "p".repeat(32);
    check(
        &format!(
            "{LEAST}[host]\nname = \"{long}\"\npool = \"{long}\"\n[[pools]]\nname = \"{long}\"\n[[pools]]\nname = \"{}\"\n",
            &long[1..]
        ),
        expect![[r#"
            etc/switchyard.toml:1:1: host.pool: missing, expected the pool this host belongs to, such as "ppppppppppppppppppppppppppppppp"
            etc/switchyard.toml:6:8: host.name: expected at most 31 characters, found 32 in "pppppppppppppppppppppppppppppppp"
            etc/switchyard.toml:7:8: host.pool: expected at most 31 characters, found 32 in "pppppppppppppppppppppppppppppppp"
            etc/switchyard.toml:9:8: pools[0].name: expected at most 31 characters, found 32 in "pppppppppppppppppppppppppppppppp"
        "#]],
    );
}
