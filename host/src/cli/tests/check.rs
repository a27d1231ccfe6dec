//! What can be said of files before a host runs with them.

use super::*;

/// A folder with a right configuration, an empty policy and one of the project's plugins.
struct Office {
    folder: tempfile::TempDir,
}

const CONFIG: &str = "[sip]\ndomain = \"example.test\"\nlisten = \"udp:127.0.0.1:5060\"\n";

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let office = Self { folder };
        office.write("switchyard.toml", CONFIG);
        office.write("policies/default.lua", "return {}\n");
        office.write("music/README", "");
        office.write("plugins/README", "");
        std::fs::copy(library(), office.folder.path().join("plugins/libgroup_pickup.so")).unwrap();
        office
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_dir_all(self.folder.path().join(name)).unwrap();
    }

    /// Says it with `--config`; the folder's own name is shown as OFFICE.
    fn say(&self, line: &str) -> Said {
        let config = self.folder.path().join("switchyard.toml");
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(["--config", config.to_str().unwrap()]);
        let said = say(&arguments, None);
        let own = |text: &str| text.replace(self.folder.path().to_str().unwrap(), "OFFICE");
        Said { out: own(&said.out), err: own(&said.err), ..said }
    }
}

/// Cargo leaves the libraries beside the test executable.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libgroup_pickup.so")
}

/// The first call makes a CA, the next ones keep it; what is signed can be renewed, and keys are nobody else's to read.

#[test]
fn check_tells_every_mistake_of_the_configuration() {
    let office = Office::new();
    office.write("switchyard.toml", "[sip]\ndomian = \"example.test\"\nlisten = \"udp:127.0.0.1:5060\"\n");
    let said = office.say("check");
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    expect![[r#"
        OFFICE/switchyard.toml:1:2: sip.domain: missing, expected the domain of your users, such as "example.test"
        OFFICE/switchyard.toml:2:1: sip.domian: unknown key, did you mean domain?
    "#]].assert_eq(&said.err);

    let said = office.say("check --json");
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, &answer["ok"], &answer["errors"][1]["line"]), (1, &false.into(), &2.into()));
}

#[test]
fn check_goes_on_to_plugins_and_policies() {
    let office = Office::new();
    let said = office.say("check");
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
    expect![[r#"
        configuration  OFFICE/switchyard.toml: 0 users, 0 ranges, 0 trunks, 0 routes
        plugins        OFFICE/plugins: group-pickup 0.1.0
        policies       OFFICE/policies: for default
    "#]]
    .assert_eq(&said.out);

    let orbits = "[[orbits]]\nname = \"a\"\nfrom = \"*100\"\nto = \"*109\"\nkind = \"group-pikcup\"\n";
    office.write("switchyard.toml", &format!("{CONFIG}{orbits}"));
    office.write("policies/default.lua", "return {\n  call_park = {\n");
    let said = office.say("check");
    assert_eq!(said.status, 1);
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        lines[0],
        "OFFICE/switchyard.toml:8:8: orbits[0].kind: no plugin handles ranges of kind \"group-pikcup\", \
         did you mean group-pickup?"
    );
    assert!(lines[1].starts_with("OFFICE/policies/default.lua:"), "{}", said.err);

    office.remove("music");
    office.write("var", "");
    office.write("switchyard.toml", &format!("{CONFIG}[plugins]\nenabled = [\"group-pikcup\"]\n"));
    office.write("policies/default.lua", "return {}\n");
    let said = office.say("check");
    assert!(
        said.err.contains(
            "OFFICE/switchyard.toml:5:12: plugins.enabled: no library in OFFICE/plugins is the plugin group-pikcup, \
             did you mean group-pickup?"
        ),
        "{}",
        said.err
    );
    assert!(said.err.contains("OFFICE/var: this is not a folder"), "{}", said.err);
    assert!(said.out.contains("warning: OFFICE/music: there is no such folder"), "{}", said.out);
}

#[test]
fn check_looks_up_the_names_that_phones_are_told() {
    let office = Office::new();
    let pool = |name: &str| {
        format!(
            "{CONFIG}nameservers = \"127.0.0.1:9\"\n[host]\npool = \"east\"\n\
             [[pools]]\nname = \"east\"\nfqdn = \"{name}\"\ncontact = \"fqdn\"\n"
        )
    };
    // Known to /etc/hosts.
    office.write("switchyard.toml", &pool("localhost"));
    let said = office.say("check");
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("localhost (udp) leads to 127.0.0.1:5060"), "{}", said.out);
    assert!(!said.out.contains("warning"), "{}", said.out);
    office.write("switchyard.toml", &pool("localhost").replace("127.0.0.1:5060", "127.0.0.2:5060"));
    let said = office.say("check");
    assert!(
        said.out.contains("localhost does not lead to this host over udp (127.0.0.2:5060)"),
        "{}",
        said.out
    );
    office.write("switchyard.toml", &pool("east.invalid"));
    let said = office.say("check");
    assert!(said.out.contains("east.invalid leads nowhere over udp"), "{}", said.out);
    assert_eq!(said.status, 0, "a warning: DNS may come later");
}

#[test]
fn check_names_the_place_of_a_folder_that_is_not_there_and_what_it_may_be_called() {
    let office = Office::new();
    for folder in ["plugins", "policies"] {
        office.write("switchyard.toml", &format!("{CONFIG}[{folder}]\ndir = \"x{folder}\"\n"));
        for verb in ["check", "policy check"] {
            let said = office.say(verb);
            let expected = format!(
                "OFFICE/switchyard.toml:5:7: {folder}.dir: there is no folder OFFICE/x{folder}, did you mean {folder}?\n"
            );
            assert_eq!((said.status, said.err), (1, expected), "{verb}");
        }
    }
}

#[test]
fn check_leaves_no_copies_of_plugins_behind() {
    let office = Office::new();
    assert_eq!(office.say("check").status, 0);
    let prefix = format!("switchyard-check-{}-", std::process::id());
    let own = |file: &std::fs::DirEntry| file.file_name().to_string_lossy().starts_with(&prefix);
    // Other tests of this process may be at it: theirs go away as well.
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        !std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().any(|file| own(&file))
    });
    assert!(gone);
    assert!(!office.folder.path().join("var").exists());
}

#[test]
fn policy_check_looks_at_any_folder() {
    let office = Office::new();
    assert_eq!(office.say("policy check").status, 0);
    office.write("other/default.lua", "return { resilincy = {} }\n");
    let other = office.folder.path().join("other");
    let said = office.say(&format!("policy check {}", other.display()));
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(said.err.starts_with("OFFICE/other/default.lua:1"), "{}", said.err);
    assert!(said.err.contains("did you mean resiliency?"), "{}", said.err);

    // Without a configuration both folders must be named.
    std::fs::remove_file(office.folder.path().join("switchyard.toml")).unwrap();
    assert!(office.say("policy check").err.contains("there is no such file"));
    let plugins = office.folder.path().join("plugins");
    let line = format!("policy check {} --plugins {}", other.display(), plugins.display());
    assert!(office.say(&line).err.starts_with("OFFICE/other"));
}

#[test]
fn plugin_info_reads_a_library() {
    let said = say(&["plugin", "info", library().to_str().unwrap()], None);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.starts_with("name         group-pickup\n"), "{}", said.out);
    let said = say(&["plugin", "info", library().to_str().unwrap(), "--json"], None);
    let description: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(description["manifest"]["kinds"][0], "group-pickup");
    let said = say(&["plugin", "info", "./nothing.so"], None);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("nothing.so"), "{}", said.err);
}

#[cfg(feature = "etcd")]
#[test]
fn check_reads_the_certificates_of_a_cluster() {
    let office = Office::new();
    let folder = office.folder.path().display().to_string();
    assert_eq!(office.say(&format!("cluster certificates {folder}/tls fe1")).status, 0);
    let config = format!(
        "{CONFIG}[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n[cluster]\nlisten = \"tls:127.0.0.1:5071\"\n\
         cert = \"tls/fe1.pem\"\nkey = \"tls/fe1.key\"\nca = \"tls/ca.pem\"\n[host]\n"
    );
    office.write("switchyard.toml", &format!("{config}name = \"fe1\"\n"));
    let said = office.say("check");
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
    office.write("switchyard.toml", &format!("{config}name = \"fe2\"\n"));
    office.write("tls/fe1.key", "");
    expect![[r#"
        OFFICE/switchyard.toml:10:7: cluster.key: OFFICE/tls/fe1.key holds no private key in PEM
    "#]]
    .assert_eq(&office.say("check").err);
    office.say(&format!("cluster certificates {folder}/tls fe1"));
    expect![[r#"
        OFFICE/switchyard.toml:9:8: cluster.cert: OFFICE/tls/fe1.pem is that of the host "fe1", not of "fe2"
    "#]]
    .assert_eq(&office.say("check").err);
}

#[test]
fn certificates_are_made_and_renewed() {
    use std::os::unix::fs::PermissionsExt;

    let office = Office::new();
    let path = |name: &str| office.folder.path().join("tls").join(name);
    let make = |what: &str| office.say(&format!("cluster certificates {} {what}", path("").display()));
    let said = make("fe1 fe2 --etcd 127.0.0.1");
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    expect![[r#"
        ca: a new CA, in OFFICE/tls/
        fe1: copy ca.pem, fe1.pem and fe1.key to the host, and name them under [cluster]
        fe2: copy ca.pem, fe2.pem and fe2.key to the host, and name them under [cluster]
        etcd-127.0.0.1: for the member's --cert-file and --key-file, with ca.pem for --trusted-ca-file and --client-cert-auth
        Keep OFFICE/tls/ca.key to yourself: whoever has it can be any host.
    "#]].assert_eq(&said.out);
    for (name, mode) in
        [("ca.key", 0o600), ("fe1.key", 0o600), ("etcd-127.0.0.1.key", 0o600), ("fe2.pem", 0o644)]
    {
        assert_eq!(std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let before = ["ca.pem", "ca.key", "fe2.pem", "fe1.pem"].map(read);
    assert!(make("fe1 fe3").out.starts_with("fe1: "), "no new CA");
    let after = ["ca.pem", "ca.key", "fe2.pem", "fe1.pem"].map(read);
    assert_eq!(before[..3], after[..3]);
    assert_ne!(before[3], after[3], "renewed");

    for odd in ["fe_1", "ca", "../fe1", "fe1.", "a23456789-123456789-123456789-12"] {
        let said = make(odd);
        assert!(said.status == 1 && said.err.contains("cannot be the name of a host"), "{said:?}");
    }
    assert_eq!(office.say("cluster certificates tls").status, 2);
    std::fs::remove_file(path("ca.key")).unwrap();
    let said = make("fe1");
    assert!(said.status == 1 && said.err.contains("has ca.pem but not ca.key"), "{said:?}");
    std::fs::write(path("ca.key"), read("fe1.key")).unwrap();
    let said = make("fe1");
    assert!(said.status == 1 && said.err.contains("OFFICE/tls/ca.pem: this CA was not made by"), "{said:?}");
}
