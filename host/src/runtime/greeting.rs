//! What a person at the terminal reads when the host is up: where it listens, and what to dial next.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::admin::RangeSpec;
use crate::config::{Config, KIND_CALL_PARK, StoreKind};
use crate::directory::User;
use crate::net::Listener;
use crate::store::Snapshot;
use crate::store::keys::Key;

/// More users than this are counted, not listed.
const USERS_LISTED: usize = 8;

/// The text, several lines.
pub fn greeting(
    config: &Config,
    listeners: &[Listener],
    link: Option<SocketAddr>,
    plugins: &[String],
    snapshot: &Snapshot,
) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "  {label:<10}{value}");
    };
    let listening: Vec<String> = listeners.iter().map(listening).collect();
    line("SIP", listening.join("  "));
    if let Some(link) = link {
        line("cluster", format!("tls:{link}  (for the other hosts)"));
    }
    let token =
        if config.admin.token.is_some() { "with the token of [admin]" } else { "from this machine only" };
    line("admin", format!("http://{}/  ({token})", config.admin.listen));
    let plugins = if plugins.is_empty() { "none: calls only".to_owned() } else { plugins.join(", ") };
    line("plugins", plugins);
    line("policies", format!("{}  (edit them while it runs)", config.policies.dir.display()));
    let store = match config.store.kind {
        StoreKind::Embedded => config.host.data_dir.display().to_string(),
        StoreKind::Memory => "in memory: nothing outlives the process".to_owned(),
        StoreKind::Etcd => format!("etcd at {}", config.store.etcd.endpoints.join(", ")),
    };
    line("store", store);

    let users = users(snapshot);
    let domain = &config.sip.domain;
    let mut out = format!(
        "switchyard {} is up: host {}, pool {}, domain {domain}\n{text}",
        env!("CARGO_PKG_VERSION"),
        config.host.name,
        config.host.pool
    );
    let _ = writeln!(out, "\nRegister phones as {}", listed(&users, domain));
    let mut dial = |what: &str, how: String| {
        let _ = writeln!(out, "  {what:<10}{how}");
    };
    if let Some(user) = users.iter().find(|user| user.extension.is_some()) {
        let extension = user.extension.as_deref().unwrap_or_default();
        dial("call", format!("{extension} for {}", user.display.as_ref().unwrap_or(&user.name)));
    }
    let mut ranges = ranges(snapshot);
    ranges.retain(|range| range.kind == KIND_CALL_PARK);
    // Users of this host's pool park in that pool's ranges.
    ranges.sort_by_key(|range| range.pool != config.host.pool);
    if let Some(range) = ranges.into_iter().next() {
        let RangeSpec { from, to, .. } = range;
        dial("park", format!("transfer a call to park, or to a free number from {from} to {to}"));
        dial("retrieve", "dial the number you are told".to_owned());
    }
    let member = users.iter().find_map(|user| Some((user.pickup_groups().next()?, user)));
    if let Some((group, user)) = member {
        let one = user.extension.as_ref().map(|extension| format!(", or **{extension} for one phone"));
        dial("pick up", format!("{group} takes what rings in that group{}", one.unwrap_or_default()));
    }
    let _ = writeln!(out, "\nCtrl-C lets calls end first; twice stops at once.");
    out
}

fn listening(listener: &Listener) -> String {
    let local = listener.local.to_string();
    let told = if listener.advertised == local {
        String::new()
    } else {
        format!(" (told others: {})", listener.advertised)
    };
    format!("{}:{local}{told}", listener.protocol)
}

fn listed(users: &[User], domain: &str) -> String {
    let name = |user: &User| match &user.extension {
        Some(extension) => format!("{} ({extension})", user.name),
        None => user.name.clone(),
    };
    match users {
        [] => "nobody: the store has no users".to_owned(),
        users if users.len() <= USERS_LISTED => {
            format!("{} at {domain}", users.iter().map(name).collect::<Vec<_>>().join(", "))
        }
        [first, ..] => format!(
            "{} at {domain}, or as one of {} others (`switchyard user list`)",
            name(first),
            users.len() - 1
        ),
    }
}

fn users(snapshot: &Snapshot) -> Vec<User> {
    let users = snapshot.records.iter().filter(|(key, _)| matches!(Key::parse(key), Some(Key::User(_))));
    users.filter_map(|(_, record)| serde_json::from_slice(&record.value).ok()).collect()
}

fn ranges(snapshot: &Snapshot) -> Vec<RangeSpec> {
    let ranges = snapshot.records.iter().filter(|(key, _)| matches!(Key::parse(key), Some(Key::Range(_))));
    ranges.filter_map(|(_, record)| serde_json::from_slice(&record.value).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::expect;

    use super::*;
    use crate::net::Protocol;
    use crate::runtime::seed::seed;
    use crate::store::{MemoryStore, ROOT};

    const OFFICE: &str = r#"
        [host]
        name = "office"
        pool = "east"
        data_dir = "/var/lib/switchyard"
        [sip]
        domain = "example.test"
        listen = ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
        [policies]
        dir = "/etc/switchyard/policies"
        [[orbits]]
        name = "east-park"
        from = "7000"
        to = "7099"
        kind = "call-park"
        pool = "east"
        [[users]]
        name = "alice"
        extension = "1001"
        display = "Alice"
        password = "a"
        [[users]]
        name = "bob"
        password = "b"
    "#;

    #[tokio::test]
    async fn it_says_where_the_host_listens_and_what_to_dial() {
        let config = crate::config::parse(Path::new("switchyard.toml"), OFFICE).unwrap();
        let store = MemoryStore::new();
        seed(&store, &config).await.unwrap();
        let local = "127.0.0.1:5060".parse().unwrap();
        let listener =
            |protocol, advertised: &str| Listener { protocol, local, advertised: advertised.to_owned() };
        let listeners =
            [listener(Protocol::Udp, "203.0.113.5:5060"), listener(Protocol::Tcp, "127.0.0.1:5060")];
        let text =
            greeting(&config, &listeners, None, &["call-park 0.1.0".to_owned()], &store.snapshot(ROOT));
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        expect![[r#"
            switchyard VERSION is up: host office, pool east, domain example.test
              SIP       udp:127.0.0.1:5060 (told others: 203.0.113.5:5060)  tcp:127.0.0.1:5060
              admin     http://127.0.0.1:8080/  (from this machine only)
              plugins   call-park VERSION
              policies  /etc/switchyard/policies  (edit them while it runs)
              store     /var/lib/switchyard

            Register phones as alice (1001), bob at example.test
              call      1001 for Alice
              park      transfer a call to park, or to a free number from 7000 to 7099
              retrieve  dial the number you are told

            Ctrl-C lets calls end first; twice stops at once.
        "#]]
        .assert_eq(&text);
    }
}
