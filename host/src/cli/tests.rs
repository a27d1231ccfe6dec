mod check;
mod pools;

use std::path::PathBuf;

use std::sync::{Arc, Mutex};

use clap::CommandFactory;

use expect_test::{Expect, expect};

use serde_json::json;

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
        &["user", "set", "alice", "--rule", "forward_bussy=1004"],
        &["user", "set", "alice", "--rule", "forward_busy"],
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
    let said = |rule| say(&["user", "set", "alice", "--rule", rule], None).err;
    let misspelt = said("forward_bussy=1004");
    assert!(misspelt.contains("--rule") && misspelt.contains("did you mean forward_busy?"), "{misspelt}");
    assert!(said("forward_busy").contains("forward_busy= to take it away"), "{}", said("forward_busy"));
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
        "user set alice --pickup-group= --display=",
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
    assert_eq!(json!(change), json!({ "pickup_group": null, "display": null }));
    let said = host.say("user set alice --rule forward_busy=1005");
    assert_eq!(
        (said.status, said.err.as_str()),
        (0, "warning: forward_busy: nobody is reached at \"1005\"\n")
    );
    assert!(!said.out.contains("warning"), "{}", said.out);
    host.check(
        "plugin reload call-park",
        expect![[r#"
            call-park 0.2.0 runs, generation 1
        "#]],
    );
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
fn whoever_waits_for_a_phone_is_told_that_it_rings() {
    let host = host(None);
    for (line, done) in [
        ("call retrieve 7001 --user dozy", "dozy has the call that waited in 7001\n"),
        ("call pickup 9 --user dozy", "dozy has call 9\n"),
    ] {
        let said = host.say(line);
        assert_eq!((said.status, &*said.out, &*said.err), (0, done, "ringing dozy …\n"));
    }
    assert_eq!(host.say("call retrieve 7001 --user carol").err, "", "she answers at once");
    assert_eq!(host.say("call pickup 9 --user dozy --json").err, "");
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

/// A configuration that is of use for nothing but finding the host.
fn listening(address: &str, token: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let token = if token.is_empty() { String::new() } else { format!("token = \"{token}\"\n") };
    write!(file, "[nonsense]\n[admin]\nlisten = \"{address}\"\n{token}").unwrap();
    file
}

#[test]
fn the_host_of_a_configuration_is_asked_with_its_token() {
    let host = host(Some(TOKEN));
    let port = host.url.rsplit_once(':').unwrap().1;
    let file = listening(&format!("0.0.0.0:{port}"), TOKEN);
    let name = file.path().to_str().unwrap();
    for line in [["--config", name, "user", "list"], ["user", "list", "--config", name]] {
        let said = say(&line, None);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{line:?}");
    }
    // What was typed goes before what was found, and the token of a file is for the host of that file.
    let wrong = say(&["user", "list", "--config", name], Some("wrong"));
    assert!(wrong.err.contains("the token is wrong"), "{}", wrong.err);
    let other = say(&["user", "list", "--config", name, "--admin", &host.url], None);
    assert!(other.err.contains("SWITCHYARD_TOKEN"), "{}", other.err);

    for (address, words) in
        [("127.0.0.1:0", "leaves the port to chance"), ("here", "admin.listen: expected ADDRESS:PORT")]
    {
        let file = listening(address, TOKEN);
        let said = say(&["user", "list", "--config", file.path().to_str().unwrap()], None);
        assert_eq!(said.status, 1);
        assert!(said.err.contains(words) && said.err.contains("--admin URL"), "{}", said.err);
    }
    let said = say(&["user", "list", "--config", "/nonexistent/switchyard.toml"], None);
    assert!(said.err.contains("there is no such file"), "{}", said.err);
}

#[test]
fn an_absent_host_is_explained() {
    // The port was free a moment ago, and nobody takes it without asking for it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = say(&["call", "list", "--admin", &format!("http://127.0.0.1:{port}")], None);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("is it running?") && said.err.contains("SWITCHYARD_ADMIN"), "{}", said.err);
    assert!(said.err.contains(&format!("http://127.0.0.1:{port}, as --admin says")), "{}", said.err);
    let file = listening(&format!("127.0.0.1:{port}"), "");
    let name = file.path().to_str().unwrap();
    let said = say(&["call", "list", "--config", name], None);
    assert!(said.err.contains(&format!(":{port}, the admin.listen of {name}")), "{}", said.err);
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
