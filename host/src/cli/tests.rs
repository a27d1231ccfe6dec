use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::CommandFactory;
use expect_test::{Expect, expect};
use tokio::net::TcpListener;

use super::*;
use crate::admin::fake::{self, TOKEN};
use crate::admin::{self, Request};
use crate::pool::Ask;

/// What came of a command line.
#[derive(Debug)]
struct Said {
    status: u8,
    out: String,
    err: String,
}

fn say(arguments: &[&str], token: Option<&str>) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("switchyard").chain(arguments.iter().copied()).map(OsString::from);
    let status = run(arguments, token.map(str::to_owned), &mut out, &mut err);
    Said { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A host on a port of its own, with the fake engine behind the real interface.
struct Host {
    url: String,
    asked: Arc<Mutex<Vec<Request>>>,
    _runtime: tokio::runtime::Runtime,
}

fn host(token: Option<&str>) -> Host {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, asked) = runtime.block_on(async {
        let world = fake::world_of("127.0.0.1:0", token);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(admin::serve(listener, world.router, std::future::pending()));
        (url, world.asked)
    });
    Host { url, asked, _runtime: runtime }
}

impl Host {
    fn say(&self, line: &str) -> Said {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(["--admin", &self.url]);
        say(&arguments, None)
    }

    fn check(&self, line: &str, expected: Expect) {
        let said = self.say(line);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{line}");
        expected.assert_eq(&said.out);
    }

    fn last(&self) -> Option<Request> {
        self.asked.lock().unwrap().last().cloned()
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_of_this_version_is_there_and_no_other() {
    let mut verbs = Vec::new();
    for command in Cli::command().get_subcommands() {
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        verbs.push(format!("{}: {}", command.get_name(), names.join("|")).trim_end().to_owned() + "\n");
    }
    expect![[r#"
        run:
        check:
        orbit: list|add|set|remove|occupants|export
        user: list|show|add|remove|set|unset-pickup
        pool: list|show|failover|failback|drain|resume|reassign
        call: list|show|park|ringing|pickup|retrieve|hangup
        drill: park|pickup|failover
        policy: check|status
        plugin: list|reload|info
        cluster: certificates
        completions:
        manpage:
    "#]]
    .assert_eq(&verbs.concat());
}

#[test]
fn every_verb_says_what_it_does() {
    fn look(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(look);
    }
    look(&Cli::command());
}

#[test]
fn wrong_usage_is_status_2_and_help_is_status_0() {
    for line in [
        &["orbit", "lsit"][..],
        &["orbit", "set", "east"],
        &["user", "set", "alice"],
        &["user", "set", "alice", "--password", "s3cret"],
        &["call", "show", "x"],
        // Not offered where it would be ignored.
        &["run", "--json"],
        &["check", "--admin", "http://127.0.0.1:1"],
        &["--nonsense"],
        &[],
    ] {
        let said = say(line, None);
        assert_eq!(said.status, 2, "{line:?}");
        assert!(!said.err.is_empty() && said.out.is_empty());
    }
    assert!(say(&["orbit", "lsit"], None).err.contains("'list'"));
    let help = say(&["call", "park", "--help"], None);
    assert_eq!((help.status, help.err.as_str()), (0, ""));
    assert!(help.out.contains("switchyard call park 7 --parker bob --orbit 7001"));
    assert_eq!(say(&["--version"], None).out, format!("switchyard {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn lists_are_tables_for_people() {
    let host = host(None);
    host.check(
        "orbit list",
        expect![[r#"
        RANGE      FROM  TO    KIND       POOL  IN USE
        east-park  7000  7099  call-park  east  1 of 100
    "#]],
    );
    host.check(
        "orbit occupants",
        expect![[r#"
            ORBIT  STATE   CALLER  PARKED BY  FOR  NEXT STEP IN  RECALLS  TOKEN
            *101   parked  Zo�[1m  Bob        0s                 0        3f9a
        "#]],
    );
    host.check(
        "user list",
        expect![[r#"
        USER   EXTENSION  NAME  POOL  PICKUP GROUP  MAY PARK  PHONES
        alice  1001             east                yes       1
    "#]],
    );
    host.check(
        "plugin list",
        expect![[r#"
            PLUGIN     VERSION  STATE    KINDS      SERVICES      FLOWS
            call-park  0.1.0    running  call-park  park, unpark  2
            refused: notes.so is no plugin: it is not a shared library
        "#]],
    );
    host.check(
        "policy status",
        expect![[r#"
        revision  3
        hash      ab12
        pool      east: default.lua
        refused   default.lua:5: pickup_timout: unknown key, did you mean pickup_timeout?
    "#]],
    );
    host.check(
        "orbit export",
        expect![[r#"
        [[orbits]]
        name = "east-park"
        from = "7000"
        to = "7099"
        kind = "call-park"
        pool = "east"
    "#]],
    );
    host.check(
        "user show alice",
        expect![[r#"
        user          alice
        extension     1001
        name
        pool          east
        pickup group
        may park      yes
        may retrieve  yes
        phone         sip:alice@192.0.2.7 at udp:192.0.2.7:5060, for 0s
    "#]],
    );
    host.check(
        "plugin info call-park",
        expect![[r#"
            name      call-park
            version   0.1.0
            kinds     call-park
            services  park, unpark
            flows     2
            state     running
        "#]],
    );
    let calls = host.say("call list").out;
    assert!(calls.contains("alice (held), sip:0301234@example.test"), "{calls}");
    let call = host.say("call show 7").out;
    assert!(call.contains("CALL-ID") && call.contains("b2"), "{call}");
}

#[test]
fn lists_are_json_for_programs() {
    let host = host(None);
    for line in ["orbit list", "orbit occupants", "orbit export", "user list", "call list"] {
        let said = host.say(&format!("{line} --json"));
        let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert!(value.as_array().is_some_and(|list| list.len() == 1), "{line}: {}", said.out);
    }
    for line in ["user show alice", "call show 7", "policy status", "plugin info call-park", "call hangup 7"]
    {
        let said = host.say(&format!("{line} --json"));
        assert!(serde_json::from_str::<serde_json::Value>(&said.out).unwrap().is_object(), "{line}");
    }
}

#[test]
fn acts_say_what_was_done() {
    let host = host(None);
    host.check(
        "call park 7 --parker bob",
        expect![[r#"
        parked on 7042, token 3f9a
    "#]],
    );
    host.check(
        "call retrieve #7001 --user carol --token 3f9a",
        expect![[r#"
            carol has the call that waited in #7001
        "#]],
    );
    let retrieve = Request::Retrieve {
        number: "#7001".to_owned(),
        user: "carol".to_owned(),
        token: Some("3f9a".to_owned()),
    };
    assert_eq!(host.last(), Some(retrieve));
    host.check(
        "call ringing --group *101",
        expect![[r#"
            CALL  CALLER  RINGS AT  GROUPS  FOR
            9     Alice   Bob       *101    0s
        "#]],
    );
    assert_eq!(host.last(), Some(Request::Ringing { group: Some("*101".to_owned()) }));
    host.check(
        "call pickup 9 --user carol --group *101",
        expect![[r#"
            carol has call 9
        "#]],
    );
    let (user, group) = ("carol".to_owned(), Some("*101".to_owned()));
    assert_eq!(host.last(), Some(Request::Pickup { call: 9, user, group }));
    host.check(
        "call hangup 7",
        expect![[r#"
        call 7 is being ended
    "#]],
    );
    host.check(
        "orbit add reception 7200 7219",
        expect![[r#"
        RANGE      FROM  TO    KIND       POOL
        reception  7200  7219  call-park  east
    "#]],
    );
    host.check(
        "orbit set east-park --to 7049",
        expect![[r#"
        RANGE      FROM  TO    KIND       POOL
        east-park  7000  7049  call-park  east
    "#]],
    );
    host.check(
        "orbit set east-park --pool west",
        expect![[r#"
        RANGE      FROM  TO    KIND       POOL
        east-park  7000  7099  call-park  west
    "#]],
    );
    host.check(
        "orbit remove east-park --force",
        expect![[r#"
        range east-park removed
    "#]],
    );
    assert_eq!(host.last(), Some(Request::RemoveRange { name: "east-park".to_owned(), force: true }));
    host.check(
        "user set alice --may-park true --pickup-group *101",
        expect![[r#"
        user          alice
        extension
        name
        pool          east
        pickup group  *101
        may park      yes
        may retrieve  yes
    "#]],
    );
    host.check(
        "user set alice --rule also_ring=1003,dave --rule no_answer_after=15s --rule forward_busy=",
        expect![[r#"
        user          alice
        extension
        name
        pool          east
        pickup group
        may park      no
        may retrieve  yes
        rule          no_answer_after=15s
        rule          also_ring=1003, dave
    "#]],
    );
    let Some(Request::SetUser { change, .. }) = host.last() else { panic!("{:?}", host.last()) };
    assert_eq!(change.get("forward_busy"), Some(&serde_json::Value::Null));
    host.check(
        "user unset-pickup alice",
        expect![[r#"
        user          alice
        extension
        name
        pool          east
        pickup group
        may park      no
        may retrieve  yes
    "#]],
    );
    let Some(Request::SetUser { change, .. }) = host.last() else { panic!("{:?}", host.last()) };
    assert_eq!(change.get("pickup_group"), Some(&serde_json::Value::Null));
}

#[test]
fn pools_are_listed_shown_and_moved() {
    let host = host(None);
    host.check(
        "pool list",
        expect![[r#"
            POOL  PHASE        FOR  SERVED BY  BACKUP  HOSTS                             PARKED
            east  failed_over  0s   fw1        west    fe1 (drained), fe2 (unreachable)  0
            south was replaced by east; --all shows it
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool list --all",
        expect![[r#"
            POOL   PHASE             FOR  SERVED BY  BACKUP  HOSTS                             PARKED
            east   failed_over       0s   fw1        west    fe1 (drained), fe2 (unreachable)  0
            south  replaced by east       fw1                                                  0
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool show east",
        expect![[r#"
            pool                east
            fqdn                east.example.test
            backup              west
            phase               failed_over
            for                 0s
            next                goes home by its policy in 0s
            epoch               7
            served by           fw1
            parks in orbits of  west
            hosts alive         fe1 (drained), fe2 (unreachable)
            parked calls        0
            ranges moved        east-groups
            last procedure      failover, asked for by ana, over for 0s
              fence   done     users of east are in resiliency mode
              open    done
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool failover east --dry-run --by ana",
        expect![[r#"
        fence   users of east are in resiliency mode
        open    full service by west
    "#]],
    );
    let asked =
        Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: true };
    assert_eq!(host.last(), Some(asked));
    // It waits until the journal says that it is over.
    host.check(
        "pool failover east --by ana",
        expect![[r#"
        fence   done     users of east are in resiliency mode
        open    done
        east is failed_over, served by fw1
    "#]],
    );
    host.check(
        "pool failback east --disaster --no-wait --by ana",
        expect![[r#"
        fence   users of east are in resiliency mode
        open    full service by west
    "#]],
    );
    let ask = Ask::Failback { disaster: true };
    let asked = Request::MovePool { pool: "east".into(), ask, by: "ana".into(), dry_run: false };
    assert_eq!(host.last(), Some(asked));
    let said = host.say("pool failover west");
    let why =
        "refused: east is failed_over: fail east back first, only then can west fail over to it (35112)\n";
    assert_eq!((said.status, said.err.as_str()), (1, why));
}

#[test]
fn hosts_are_drained_and_pools_replaced() {
    let host = host(None);
    host.check(
        "pool drain fe1",
        expect![[r#"
        fe1 passes its users on and takes no others
    "#]],
    );
    host.check(
        "pool resume fe1",
        expect![[r#"
        fe1 serves again when it is its turn
    "#]],
    );
    let asked = |drained| Request::DrainHost { host: "fe1".into(), drained, by: "an administrator".into() };
    assert_eq!(host.last(), Some(asked(false)));
    host.check(
        "pool reassign east --to north --users --dry-run",
        expect![[r#"
        seat    fw1 passes the users of east to fn1, with their calls
        ranges  2 ranges go to north: east-park, east-groups
        left to do by you:
          settings and music: those of north count now
    "#]],
    );
    let wish = Request::ReassignPool {
        pool: "east".into(),
        to: "north".into(),
        users: true,
        by: "an administrator".into(),
        dry_run: true,
    };
    assert_eq!(host.last(), Some(wish));
    assert_eq!(host.say("pool reassign east").status, 2);
}

#[test]
fn a_refusal_is_status_1_with_its_code() {
    let host = host(None);
    let said = host.say("call park 7 --parker bob --orbit 7001");
    assert_eq!((said.status, said.err.as_str()), (1, "refused: orbit 7001 is occupied (35102)\n"));
    let said = host.say("user show nobody");
    assert_eq!((said.status, said.err.as_str()), (1, "refused: there is no user \"nobody\"\n"));
    assert_eq!(host.say("orbit add east-park 1 2").status, 1);
}

#[test]
fn the_token_comes_from_the_environment() {
    let host = host(Some(TOKEN));
    let with = |token| say(&["user", "list", "--admin", &host.url], token);
    assert_eq!(with(Some(TOKEN)).status, 0);
    let without = with(None);
    assert_eq!(without.status, 1);
    assert!(without.err.contains("SWITCHYARD_TOKEN"), "{}", without.err);
    assert!(with(Some("wrong")).err.contains("the token is wrong"));
}

#[test]
fn an_absent_host_is_explained() {
    // The port was free a moment ago, and nobody takes it without asking for it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = say(&["call", "list", "--admin", &format!("http://127.0.0.1:{port}")], None);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("is it running?") && said.err.contains("SWITCHYARD_ADMIN"), "{}", said.err);
    assert!(
        say(&["call", "list", "--admin", "127.0.0.1:8080"], None).err.contains("expected http://HOST:PORT")
    );
}

#[test]
fn completions_and_man_pages_cover_every_verb() {
    let said = say(&["completions", "bash"], None);
    assert_eq!(said.status, 0);
    assert!(said.out.contains("unset-pickup"));
    let folder = tempfile::tempdir().unwrap();
    let said = say(&["manpage", folder.path().to_str().unwrap()], None);
    assert_eq!(said.status, 0, "{}", said.err);
    let page = std::fs::read_to_string(folder.path().join("switchyard-orbit-occupants.1")).unwrap();
    assert!(page.contains("wait in orbits"));
}

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

/// The first call makes a CA, the next ones keep it; what is signed can be renewed, and keys are nobody else's to read.
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
