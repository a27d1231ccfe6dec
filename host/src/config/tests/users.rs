//! Users, what they dial, and orbits.

use switchyard_sdk::manifest::Manifest;

use super::*;

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
fn plugins_judge_kinds_and_services() {
    let config = read(&format!(
        "{LEAST}[[orbits]]\nname = \"a\"\nfrom = \"7000\"\nto = \"7009\"\nkind = \"call-prak\"\n\
         [[users]]\nname = \"park\"\npassword = \"p\"\n"
    ));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let plugin = |kinds: &[&str], services: &[&str], prefixes: &[&str]| Manifest {
        kinds: names(kinds),
        services: names(services),
        prefixes: names(prefixes),
        ..Manifest::default()
    };
    let plugins = [plugin(&["call-park"], &["park", "unpark"], &[]), plugin(&["group-pickup"], &[], &["**"])];
    let errors = config.against_plugins(&plugins);
    let shown: Vec<String> = errors.iter().map(|error| format!("{error}\n")).collect();
    expect![[r#"
        etc/switchyard.toml:9:8: orbits[0].kind: no plugin handles ranges of kind "call-prak", did you mean call-park?
        etc/switchyard.toml:11:8: users[0].name: "park" is a service of a plugin, so nobody could be reached there
    "#]].assert_eq(&shown.concat());
    assert!(config.against_plugins(&[plugin(&["call-prak"], &[], &[])]).is_empty());

    // What nobody has may be a plugin's, and then never anybody's.
    let config = read(&format!(
        "{LEAST}[[users]]\nname = \"bob\"\npassword = \"b\"\nforward_busy = \"sip:park@example.test\"\n\
         also_ring = [\"**1003\", \"1003\"]\n"
    ));
    let shown: Vec<String> =
        config.against_plugins(&plugins).iter().map(|error| format!("{error}\n")).collect();
    expect![[r#"
        etc/switchyard.toml:8:16: users[0].forward_busy: "sip:park@example.test" is a service of a plugin, expected a user, or a number that a route takes to a trunk
        etc/switchyard.toml:9:14: users[0].also_ring: "**1003" is a service of a plugin, expected a user, or a number that a route takes to a trunk
    "#]].assert_eq(&shown.concat());
}

/// What no call can ever get to is a mistake; whom nobody knows yet may be added later.
#[test]
fn targets_of_rules_lead_somewhere() {
    let office = r##"
[[pools]]
name = "east"
fqdn = "east.example.test"
[host]
pool = "east"
[[orbits]]
name = "park"
from = "7000"
to = "7099"
kind = "call-park"
[[trunks]]
name = "pstn"
to = "sip:192.0.2.10"
[[routes]]
match = '^(\+\d+|9\d+|\*31)$'
trunk = "pstn"
[[users]]
name = "bob"
password = "b"
extension = "1002"
private_number = "1092"
RULES
[[users]]
name = "carol"
password = "c"
extension = "1003"
"##;
    let with = |rules: &str| format!("{LEAST}{}", office.replace("RULES", rules));
    check(
        &with(
            r##"
forward_always = "7001"
forward_busy = "crol"
forward_no_answer = "sip:carol@elsewhere.test"
forward_unregistered = "Bob"
also_ring = ["1092", "carol", "sip:7099@example.test", "tel:+49(30)12a"]
team = ["sip:example.test"]
"##,
        ),
        expect![[r#"
            etc/switchyard.toml:28:18: users[0].forward_always: "7001" lies in the range "park" of kind call-park, expected a user, or a number that a route takes to a trunk
            etc/switchyard.toml:29:16: users[0].forward_busy: nobody is reached at "crol", and no route knows it, did you mean carol?
            etc/switchyard.toml:30:21: users[0].forward_no_answer: "sip:carol@elsewhere.test" is at another domain, expected example.test, or a number that a route takes to a trunk
            etc/switchyard.toml:31:24: users[0].forward_unregistered: "Bob" is bob, whose rule this is; expected another user, or a number that a route takes to a trunk
            etc/switchyard.toml:32:14: users[0].also_ring: "1092" is bob, whose rule this is; expected another user, or a number that a route takes to a trunk
            etc/switchyard.toml:32:31: users[0].also_ring: "sip:7099@example.test" lies in the range "park" of kind call-park, expected a user, or a number that a route takes to a trunk
            etc/switchyard.toml:32:56: users[0].also_ring: expected a tel URI such as "tel:+49-30-1234", found "tel:+49(30)12a"
            etc/switchyard.toml:33:9: users[0].team: "sip:example.test" names nobody, expected sip:USER@example.test
        "#]],
    );
    check(
        &with(
            r##"
forward_always = "*31"
forward_busy = "Carol"
forward_no_answer = "tel:+49-30-1234"
forward_unregistered = "sip:1003@east.example.test"
also_ring = ["sip:+4930@127.0.0.1", "94711", "1004", "carol2", "#99"]
"##,
        ),
        expect![[r##"
            warning: etc/switchyard.toml:32:46: users[0].also_ring: nobody is reached at "1004", and no route knows it
            warning: etc/switchyard.toml:32:54: users[0].also_ring: nobody is reached at "carol2", and no route knows it
            warning: etc/switchyard.toml:32:64: users[0].also_ring: nobody is reached at "#99", and no route knows it
        "##]],
    );
}

/// Other hosts of a cluster may have the name of what this file takes for another domain.
#[test]
fn a_cluster_may_have_further_names() {
    let config = "[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n[cluster]\nlisten = \"tls:127.0.0.1:5071\"\n\
                  cert = \"a\"\nkey = \"a\"\nca = \"a\"\n[[users]]\nname = \"bob\"\npassword = \"b\"\n\
                  forward_busy = \"sip:1003@fw1.example.test\"\n";
    check(
        &format!("{LEAST}{config}"),
        expect![[r#"
        warning: etc/switchyard.toml:16:16: users[0].forward_busy: "sip:1003@fw1.example.test" is at another domain, expected example.test, or a number that a route takes to a trunk
    "#]],
    );
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
