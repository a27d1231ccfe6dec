//! Pools, and the store and the links that their hosts share.

use super::*;

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
