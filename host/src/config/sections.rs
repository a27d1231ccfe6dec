//! Each section of the file, read into its type. What one section says about another is checked in `check`.

mod cluster;
mod store;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::DeTable;

use super::check::{Draft, Mark, RangeMarks};
use super::read::{Report, Section};
use super::words::{self, Listen, Secret};
use super::*;

/// Reads the whole file. Where a value is missing or wrong an error was reported and a placeholder stands in,
/// so that the rest can be checked as well; such a draft never becomes a [`Config`].
pub(super) fn config(path: &Path, report: &Report<'_>, table: &Spanned<DeTable<'_>>) -> Draft {
    let mut root = Section::root(report, table);
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader = Reader { folder, draft: Draft::new(path) };

    let mut section = root.section("host");
    reader.draft.config.host = reader.host(&mut section);
    section.finish();
    let mut section = root.section("sip");
    reader.draft.config.sip = reader.sip(&mut section);
    section.finish();
    let mut section = root.section("plugins");
    let dir = reader.folder(&mut section, "dir", "plugins");
    let enabled = section.list("enabled", "a list of plugin names", words::name);
    for name in enabled.iter().flatten() {
        reader.draft.enabled.push(Mark::of(&section, "enabled", name));
    }
    reader.draft.config.plugins = Plugins { dir, enabled: enabled.map(inner) };
    section.finish();
    let mut section = root.section("policies");
    reader.draft.config.policies = Policies { dir: reader.folder(&mut section, "dir", "policies") };
    section.finish();
    let mut section = root.section("store");
    reader.draft.config.store = reader.store(&mut section);
    section.finish();
    let mut section = root.section("media");
    reader.draft.config.media = reader.media(&mut section);
    section.finish();
    let mut section = root.section("admin");
    reader.draft.config.admin = read_admin(&mut section);
    section.finish();
    if !reader.draft.config.store.kind.is_shared() {
        root.unexpected("cluster", "it belongs to store.kind = \"etcd\"; leave it out");
    } else {
        let present = root.has("cluster");
        // Asked for in any case, or nobody who misspells it is told its name.
        let mut section = root.section("cluster");
        if present {
            reader.draft.config.cluster = reader.cluster(&mut section);
        }
        section.finish();
    }

    for mut section in root.sections("pools") {
        reader.pool(&mut section);
        section.finish();
    }
    for mut section in root.sections("orbits") {
        reader.range(&mut section);
        section.finish();
    }
    for mut section in root.sections("users") {
        reader.user(&mut section);
        section.finish();
    }
    for mut section in root.sections("trunks") {
        reader.trunk(&mut section);
        section.finish();
    }
    for mut section in root.sections("routes") {
        reader.route(&mut section);
        section.finish();
    }
    root.finish();
    if reader.draft.config.pools.is_empty() {
        let name = reader.draft.config.host.pool.clone();
        reader.draft.config.pools.push(Pool { name, fqdn: None, contact_by_name: false, backup: None });
    }
    reader.draft
}

/// Any text but the empty one.
/// What a call may be forwarded to, in words.
const TARGET: &str = "an extension, a name, a number or a SIP URI";

fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("expected some text, found \"\"".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn secret(value: &str) -> Result<Secret, String> {
    text(value).map(Secret::new)
}

fn inner<T>(list: Vec<Spanned<T>>) -> Vec<T> {
    list.into_iter().map(Spanned::into_inner).collect()
}

fn value<T: Default>(value: Option<Spanned<T>>) -> T {
    value.map(Spanned::into_inner).unwrap_or_default()
}

/// A host that still waits after a day waits for a call nobody will end.
const DRAIN_LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads `[admin]` alone.
pub(super) fn admin(report: &Report<'_>, table: &Spanned<DeTable<'_>>) -> Admin {
    let mut section = Section::root(report, table).section("admin");
    let admin = read_admin(&mut section);
    section.finish();
    admin
}

struct Reader {
    /// The folder of the file, against which paths in it are resolved.
    folder: PathBuf,
    draft: Draft,
}

impl Reader {
    fn folder(&mut self, section: &mut Section<'_, '_>, key: &'static str, default: &str) -> PathBuf {
        let path = section.parsed(key, "a folder", text);
        if let Some(path) = &path {
            self.draft.paths.push(Mark::of(section, key, path));
        }
        self.folder.join(path.map_or_else(|| default.to_owned(), Spanned::into_inner))
    }

    /// A key that names a pool; without it the host's own.
    fn pool_of(&mut self, section: &mut Section<'_, '_>) -> String {
        match section.parsed("pool", "the name of a pool", words::name) {
            Some(pool) => {
                self.draft.pool_references.push(Mark::of(section, "pool", &pool));
                pool.into_inner()
            }
            None => self.draft.config.host.pool.clone(),
        }
    }

    fn host(&mut self, section: &mut Section<'_, '_>) -> Host {
        let name = section.parsed("name", "a name", words::cluster_name);
        self.draft.host_name = name.as_ref().map(|name| Mark::of(section, "name", name));
        let pool = section.parsed("pool", "the name of a pool", words::cluster_name);
        if let Some(pool) = &pool {
            self.draft.pool_references.push(Mark::of(section, "pool", pool));
        }
        Host {
            name: name.map_or_else(|| "host".to_owned(), Spanned::into_inner),
            pool: pool.map_or_else(|| "default".to_owned(), Spanned::into_inner),
            data_dir: self.folder(section, "data_dir", "var"),
            drain_max: section.duration("drain_max", Duration::ZERO..=DRAIN_LONGEST, Host::DRAIN_MAX),
        }
    }

    fn sip(&mut self, section: &mut Section<'_, '_>) -> Sip {
        let domain =
            section.required("domain", "the domain of your users, such as \"example.test\"", |domain| {
                // An address is a fine domain for a first try; IPv6 goes without brackets in the file.
                domain
                    .parse::<IpAddr>()
                    .map(|address| address.to_string())
                    .or_else(|_| words::host_name(domain))
            });
        let expected = "a list such as [\"udp:127.0.0.1:5060\", \"tcp:127.0.0.1:5060\"]";
        let listen = section.list("listen", expected, str::parse::<Listen>);
        match &listen {
            None => section.error(section.span.clone(), "listen", format!("missing, expected {expected}")),
            Some(list) => {
                let key = section.key("listen");
                self.draft.listen = list.iter().map(|item| (key.clone(), item.clone())).collect();
            }
        }
        let advertise = section.list("advertise", "text such as \"udp:203.0.113.5:5060\"", str::parse);
        let nameservers = section.list("nameservers", "a list such as [\"192.0.2.53\"]", words::name_server);
        let emergency = section.list("emergency", "a list of numbers such as [\"112\"]", words::number);
        let key = section.key("emergency");
        for number in emergency.iter().flatten() {
            self.draft.emergency.push(Mark {
                key: key.clone(),
                span: number.span(),
                text: number.get_ref().clone(),
            });
        }
        section.unavailable("tls", "listen on udp or tcp");
        let mut limits = section.section("limits");
        let sip = Sip {
            domain: value(domain),
            listen: inner(listen.unwrap_or_default()),
            advertise: inner(advertise.unwrap_or_default()),
            nameservers: inner(nameservers.unwrap_or_default()),
            emergency: inner(emergency.unwrap_or_default()),
            limits: read_limits(&mut limits),
        };
        limits.finish();
        sip
    }

    fn media(&mut self, section: &mut Section<'_, '_>) -> Media {
        let address = section.parsed("address", "an address such as \"127.0.0.1\"", |text| {
            let address: IpAddr = text
                .parse()
                .map_err(|_| format!("expected a numeric address such as \"127.0.0.1\", found {text:?}"))?;
            if address.is_unspecified() {
                return Err(format!("expected the address phones can send to, found {text:?}"));
            }
            Ok(address)
        });
        let ports = section.parsed("ports", "two ports such as \"20000-29999\"", words::ports);
        let music = self.folder(section, "music", "music");
        section.unavailable("relay", "media goes phone to phone; leave it out");
        let listened = self.draft.config.sip.listen.first().map(|listen| listen.address.ip());
        let address =
            address.map(Spanned::into_inner).or(listened.filter(|address| !address.is_unspecified()));
        if address.is_none() && listened.is_some() {
            section.error(
                section.span.clone(),
                "address",
                "missing, expected the address phones can send to, because sip.listen names none",
            );
        }
        Media {
            address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ports: ports.map_or(20_000..=29_999, Spanned::into_inner),
            music,
        }
    }

    fn pool(&mut self, section: &mut Section<'_, '_>) {
        let name = section.required("name", "a name", words::cluster_name);
        let fqdn = section.parsed("fqdn", "a host name such as \"east.example.test\"", words::host_name);
        let contact = section.word("contact", &[("address", false), ("fqdn", true)]);
        if contact == Some(true) && !section.has("fqdn") {
            section.error(section.span.clone(), "fqdn", "missing, expected beside contact = \"fqdn\"");
        }
        let backup = section.parsed("backup", "the name of another pool", words::name);
        if let Some(name) = &name {
            self.draft.pools.push(Mark::of(section, "name", name));
            if let Some(backup) = &backup {
                let mark = Mark::of(section, "backup", backup);
                self.draft.backups.push((name.get_ref().clone(), mark));
            }
        }
        self.draft.config.pools.push(Pool {
            name: value(name),
            fqdn: fqdn.map(Spanned::into_inner),
            contact_by_name: contact.unwrap_or_default(),
            backup: backup.map(Spanned::into_inner),
        });
    }

    fn range(&mut self, section: &mut Section<'_, '_>) {
        let name = section.required("name", "a name", words::name);
        // What makes a number or a pair of them right is the orbit service's to say.
        let from = section.required("from", "a number such as \"7000\"", text);
        let to = section.required("to", "a number such as \"7099\"", text);
        let kind = section.required("kind", "a kind such as \"call-park\"", words::name);
        let pool = self.pool_of(section);
        let spec = match (&name, &from, &to, &kind) {
            (Some(name), Some(from), Some(to), Some(kind)) => Some(RangeSpec {
                name: name.get_ref().clone(),
                from: from.get_ref().clone(),
                to: to.get_ref().clone(),
                kind: kind.get_ref().clone(),
                pool,
            }),
            _ => None,
        };
        if let (Some(spec), Some(name), Some(from), Some(to), Some(kind)) = (spec, &name, &from, &to, &kind) {
            self.draft.ranges.push(RangeMarks {
                name: Mark::of(section, "name", name),
                from: Mark::of(section, "from", from),
                to: Mark::of(section, "to", to),
                kind: Mark::of(section, "kind", kind),
                spec: spec.clone(),
            });
            self.draft.config.orbits.push(spec);
        }
    }

    fn user(&mut self, section: &mut Section<'_, '_>) {
        let name = section.required("name", "a name", words::name);
        let extension = section.parsed("extension", "a number such as \"1001\"", words::number);
        let display = section.parsed("display", "a name to show", text);
        let credential = credential(section);
        let pool = self.pool_of(section);
        let groups = section.list("pickup_group", "a number such as \"*101\", or a list", words::number);
        let rules = self.rules(section, name.as_ref().map(|name| name.get_ref().as_str()));
        let may_park = section.boolean("may_park", false);
        let may_retrieve = section.boolean("may_retrieve", true);
        if let Some(name) = &name {
            self.draft.users.push(Mark::of(section, "name", name));
            self.draft.reached_at.push((name.get_ref().clone(), Mark::of(section, "name", name)));
        }
        if let Some(extension) = &extension {
            self.draft.extensions.push(Mark::of(section, "extension", extension));
            let user = name.as_ref().map_or_else(String::new, |name| name.get_ref().clone());
            self.draft.reached_at.push((user, Mark::of(section, "extension", extension)));
        }
        for group in groups.iter().flatten() {
            self.draft.groups.push(Mark::of(section, "pickup_group", group));
        }
        let mut groups = inner(groups.unwrap_or_default()).into_iter();
        let pickup_group = groups.next();
        self.draft.config.users.push(User {
            name: value(name),
            extension: extension.map(Spanned::into_inner),
            display: display.map(Spanned::into_inner),
            credential,
            pool,
            pickup_group,
            further_pickup_groups: groups.collect(),
            rules,
            may_park,
            may_retrieve,
        });
    }

    fn rules(&mut self, section: &mut Section<'_, '_>, user: Option<&str>) -> CallRules {
        let place = self.draft.config.users.len();
        let marks = &mut self.draft.targets;
        let mut target = |section: &mut Section<'_, '_>, key| {
            let target = section.parsed(key, TARGET, words::target)?;
            marks.push((place, Mark::of(section, key, &target)));
            Some(target.into_inner())
        };
        let [forward_always, forward_busy, forward_no_answer, forward_unregistered] =
            ["forward_always", "forward_busy", "forward_no_answer", "forward_unregistered"]
                .map(|key| target(section, key));
        let list = |section: &mut Section<'_, '_>, key| {
            section.list(key, "a list of extensions, names or numbers", words::target).unwrap_or_default()
        };
        let [also_ring, team, delegates] = ["also_ring", "team", "delegates"].map(|key| {
            let targets = list(section, key);
            marks.extend(targets.iter().map(|target| (place, Mark::of(section, key, target))));
            inner(targets)
        });
        let after = section.has("no_answer_after").then(|| {
            section.duration("no_answer_after", NO_ANSWER_AFTER, *NO_ANSWER_AFTER.start()).as_millis() as u64
        });
        let private = section.parsed("private_number", "a number such as \"1091\"", words::number);
        if let Some(private) = &private {
            let mark = Mark::of(section, "private_number", private);
            self.draft.extensions.push(mark.clone());
            self.draft.reached_at.push((user.unwrap_or_default().to_owned(), mark));
        }
        CallRules {
            forward_always,
            forward_busy,
            forward_no_answer,
            forward_unregistered,
            no_answer_after_ms: after,
            also_ring,
            team,
            delegates,
            private_number: private.map(Spanned::into_inner),
            not_pickable_from: inner(list(section, "not_pickable_from")),
        }
    }

    fn trunk(&mut self, section: &mut Section<'_, '_>) {
        let name = section.required("name", "a name", words::name);
        let peers = section.list("peers", "a list of addresses such as [\"192.0.2.10\"]", str::parse);
        let to = section.parsed("to", "a SIP URI", words::sip_uri);
        let user = section.parsed("user", "the user name the gateway knows you by", text);
        let password = section.parsed("password", "the password for the gateway", secret);
        let forks = section.word("forks", &[("visible", Forks::Visible), ("hidden", Forks::Hidden)]);
        let caller = section.word("caller", &[("outside", Caller::Outside), ("inside", Caller::Inside)]);
        let redirection = section.word(
            "redirection",
            &[("history-info", Redirection::HistoryInfo), ("diversion", Redirection::Diversion)],
        );
        section.unavailable("register", "a trunk is known by its peers; it does not register");
        if let Some(name) = &name {
            self.draft.trunks.push(Mark::of(section, "name", name));
        }
        if !section.has("peers") && !section.has("to") {
            section.error(
                section.span.clone(),
                "to",
                "missing, expected where calls go, or peers they come from",
            );
        }
        for (one, other) in [("user", "password"), ("password", "user")] {
            if section.has(one) && !section.has(other) {
                section.error(section.span.clone(), other, format!("missing, expected beside {one}"));
            }
        }
        self.draft.config.trunks.push(Trunk {
            name: value(name),
            peers: inner(peers.unwrap_or_default()),
            to: to.map(Spanned::into_inner),
            user: user.map(Spanned::into_inner),
            password: password.map(Spanned::into_inner),
            forks: forks.unwrap_or_default(),
            caller: caller.unwrap_or_default(),
            redirection: redirection.unwrap_or_default(),
        });
    }

    fn route(&mut self, section: &mut Section<'_, '_>) {
        let pattern = section.required("match", "a regular expression such as \"^9(\\\\d+)$\"", |text| {
            regex::RegexBuilder::new(text)
                .size_limit(ROUTE_SIZE_MAX)
                .build()
                .map_err(|error| pattern_error(&error))
        });
        let trunk = section.required("trunk", "the name of a trunk", words::name);
        let number = section.parsed("number", "a number such as \"$1\"", text);
        if let Some(trunk) = &trunk {
            self.draft.trunk_references.push(Mark::of(section, "trunk", trunk));
        }
        if let (Some(pattern), Some(number)) = (&pattern, &number)
            && let Err(message) = groups_exist(pattern.get_ref(), number.get_ref())
        {
            section.error(number.span(), "number", message);
        }
        if let (Some(pattern), Some(trunk)) = (pattern, trunk) {
            let number = number.map_or_else(|| "$0".to_owned(), Spanned::into_inner);
            let pattern = pattern.into_inner();
            self.draft.config.routes.push(Route { pattern, trunk: trunk.into_inner(), number });
        }
    }
}

/// A compiled pattern may not take more memory than this; a dial plan's need a few kilobytes.
const ROUTE_SIZE_MAX: usize = 1 << 20;

/// The last line of the library's message is the reason; the lines before it draw the pattern.
fn pattern_error(error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    format!("expected a regular expression: {}", reason.strip_prefix("error: ").unwrap_or(reason))
}

/// A group the pattern lacks would silently become nothing, and `$1x` means a group called `1x`.
fn groups_exist(pattern: &regex::Regex, number: &str) -> Result<(), String> {
    let mut rest = number;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => {
                braced.split_once('}').map(|(name, _)| name).ok_or("expected a } after ${".to_owned())?
            }
            None => {
                let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                &rest[..rest.find(word).unwrap_or(rest.len())]
            }
        };
        let known = match name.parse::<usize>() {
            Ok(index) => index < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|known| known == name),
        };
        if !known {
            let count = pattern.captures_len() - 1;
            let hint = if name.starts_with(|c: char| c.is_ascii_digit()) && name.parse::<usize>().is_err() {
                let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
                format!("; write ${{{digits}}} if letters or digits follow")
            } else {
                String::new()
            };
            return Err(format!("${name} names no group of the pattern, which has {count}{hint}"));
        }
    }
    Ok(())
}

fn credential(section: &mut Section<'_, '_>) -> Credential {
    let password = section.parsed("password", "a password", secret);
    let mut ha1 = section.section("ha1");
    let hexadecimal = |digits: usize| {
        move |text: &str| {
            if text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                Ok(Secret::new(text.to_ascii_lowercase()))
            } else {
                Err(format!("expected {digits} hexadecimal digits"))
            }
        }
    };
    let md5 = ha1.parsed("md5", "32 hexadecimal digits", hexadecimal(32));
    let sha256 = ha1.parsed("sha256", "64 hexadecimal digits", hexadecimal(64));
    let given = ha1.is_present();
    if given && !ha1.has("md5") && !ha1.has("sha256") {
        ha1.error(ha1.span.clone(), "md5", "missing, expected md5 or sha256, or both");
    }
    ha1.finish();
    match (section.has("password"), section.has("ha1")) {
        (true, true) => {
            section.error(section.span.clone(), "ha1", "expected either password or ha1, found both")
        }
        (false, false) => section.error(
            section.span.clone(),
            "password",
            "missing, expected a password, or ha1 = { md5 = \"…\", sha256 = \"…\" }",
        ),
        _ => {}
    }
    match password {
        Some(password) => Credential::Password(password.into_inner()),
        None => {
            Credential::Ha1 { md5: md5.map(Spanned::into_inner), sha256: sha256.map(Spanned::into_inner) }
        }
    }
}

fn read_admin(section: &mut Section<'_, '_>) -> Admin {
    let listen = section.parsed("listen", "ADDRESS:PORT such as \"127.0.0.1:8080\"", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("expected ADDRESS:PORT such as \"127.0.0.1:8080\", found {text:?}"))
    });
    let token = section.parsed("token", "a token of at least 16 characters", |token| {
        if token.len() >= 16 && token.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Secret::new(token))
        } else {
            // Not shown: it would end up in logs and tickets.
            Err("expected at least 16 printable characters without spaces, such as `openssl rand -hex 16` makes"
                .to_owned())
        }
    });
    let hosts = section.list("hosts", "a list of host names", words::host_name);
    let address = listen.as_ref().map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), |l| *l.get_ref());
    // With an unreadable token the error is already reported.
    if !address.ip().is_loopback() && token.is_none() && !section.has("token") {
        let span = listen.as_ref().map_or(section.span.clone(), Spanned::span);
        section.error(
            span,
            "listen",
            format!("{address} is not a loopback address, so admin.token is required, such as `openssl rand -hex 16` makes"),
        );
    }
    Admin { listen: address, token: token.map(Spanned::into_inner), hosts: inner(hosts.unwrap_or_default()) }
}

fn read_limits(section: &mut Section<'_, '_>) -> Limits {
    let default = Limits::default();
    let second = Duration::from_secs(1);
    let day = 24 * 3600 * second;
    let limits = Limits {
        message_bytes: section.count(
            "message_bytes",
            4096..=crate::sip::MESSAGE_BYTES_MAX,
            default.message_bytes,
        ),
        connections: section.count("connections", 1..=1_000_000, default.connections),
        bindings_per_user: section.count("bindings_per_user", 1..=100, default.bindings_per_user),
        register_min: section.duration("register_min", second..=day, default.register_min),
        register_max: section.duration("register_max", second..=day, default.register_max),
        known_per_source: section.count("known_per_source", 1..=1_000_000, default.known_per_source),
        strangers_per_source: section.count(
            "strangers_per_source",
            1..=1_000_000,
            default.strangers_per_source,
        ),
        strangers: section.count("strangers", 1..=1_000_000, default.strangers),
        password_failures: section.count("password_failures", 1..=1000, default.password_failures),
    };
    if limits.register_min > limits.register_max {
        let [low, high] = [limits.register_min, limits.register_max].map(words::show_duration);
        let message = format!("expected no more than register_max, found {low} and {high}");
        section.error(section.span.clone(), "register_min", message);
    }
    limits
}
