//! What one part of the file says about another: names that must be unique, references that must lead somewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_spanned::Spanned;

use super::placed::{Place, Places};
use super::read::{Report, Section, Span};
use super::{targets, words, *};
use crate::near::did_you_mean;
use crate::orbit::{RangeFault, Ranges};

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Mark {
    pub key: String,
    pub span: Span,
    pub text: String,
}

impl Mark {
    pub fn of(section: &Section<'_, '_>, key: &str, value: &Spanned<String>) -> Self {
        Self { key: section.key(key), span: value.span(), text: value.get_ref().clone() }
    }
}

/// A range, and where its parts stand.
pub(super) struct RangeMarks {
    pub name: Mark,
    pub from: Mark,
    pub to: Mark,
    pub kind: Mark,
    pub spec: RangeSpec,
}

/// A configuration that may still be wrong, and the places its parts came from.
pub(super) struct Draft {
    pub config: Config,
    pub listen: Vec<(String, Spanned<Listen>)>,
    /// Where `host.name` stands, if it does.
    pub host_name: Option<Mark>,
    /// Where `cluster.listen` stands.
    pub link: Option<Mark>,
    pub emergency: Vec<Mark>,
    pub pools: Vec<Mark>,
    pub backups: Vec<(String, Mark)>,
    pub pool_references: Vec<Mark>,
    pub ranges: Vec<RangeMarks>,
    pub users: Vec<Mark>,
    pub extensions: Vec<Mark>,
    /// Users and the numbers they are reached at: extensions, and names that are dialled alike.
    pub reached_at: Vec<(String, Mark)>,
    pub groups: Vec<Mark>,
    /// Targets of rules, each with the place of its user in the file.
    pub targets: Vec<(usize, Mark)>,
    pub paths: Vec<Mark>,
    pub enabled: Vec<Mark>,
    pub trunks: Vec<Mark>,
    pub trunk_references: Vec<Mark>,
}

impl Draft {
    pub fn new(file: &Path) -> Self {
        let config = Config {
            file: file.to_owned(),
            host: Host {
                name: String::new(),
                pool: String::new(),
                data_dir: PathBuf::new(),
                drain_max: Host::DRAIN_MAX,
            },
            sip: Sip {
                domain: String::new(),
                listen: Vec::new(),
                advertise: Vec::new(),
                nameservers: Vec::new(),
                emergency: Vec::new(),
                limits: Limits::default(),
            },
            plugins: Plugins { dir: PathBuf::new(), enabled: None },
            policies: Policies { dir: PathBuf::new() },
            store: Store { kind: StoreKind::Embedded, protect: Protect::default(), etcd: Etcd::default() },
            cluster: None,
            media: Media {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                ports: 20_000..=29_999,
                music: PathBuf::new(),
            },
            admin: Admin {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                token: None,
                hosts: Vec::new(),
            },
            pools: Vec::new(),
            orbits: Vec::new(),
            users: Vec::new(),
            trunks: Vec::new(),
            routes: Vec::new(),
            warnings: Vec::new(),
            places: Places::default(),
        };
        Self {
            config,
            listen: Vec::new(),
            host_name: None,
            link: None,
            emergency: Vec::new(),
            pools: Vec::new(),
            backups: Vec::new(),
            pool_references: Vec::new(),
            ranges: Vec::new(),
            users: Vec::new(),
            extensions: Vec::new(),
            reached_at: Vec::new(),
            groups: Vec::new(),
            targets: Vec::new(),
            paths: Vec::new(),
            enabled: Vec::new(),
            trunks: Vec::new(),
            trunk_references: Vec::new(),
        }
    }

    /// `unknown`: the targets that nobody has.
    pub fn places(&self, report: &Report<'_>, unknown: &[Mark]) -> Places {
        let place = |mark: &Mark| Place {
            text: mark.text.clone(),
            error: report.place(mark.span.clone(), &mark.key, String::new()),
        };
        Places {
            kinds: self.ranges.iter().map(|range| place(&range.kind)).collect(),
            reached_at: self.reached_at.iter().map(|(_, mark)| place(mark)).collect(),
            paths: self.paths.iter().map(place).collect(),
            enabled: self.enabled.iter().map(place).collect(),
            targets: unknown.iter().map(place).collect(),
        }
    }

    pub fn into_config(self) -> Config {
        self.config
    }
}

/// The answer is the targets of rules that nobody has.
pub(super) fn config(report: &Report<'_>, draft: &Draft) -> Vec<Mark> {
    for marks in [&draft.pools, &draft.trunks] {
        unique(report, marks.iter());
    }
    // Both are what people dial, so a name and an extension may not meet either.
    unique(report, draft.users.iter().chain(&draft.extensions));
    pools(report, draft);
    references(report, &draft.trunk_references, &draft.trunks, "trunk");
    listeners(report, draft);
    link(report, draft);
    let ranges = ranges(report, draft);
    emergency(report, draft);
    targets::check(report, draft, &ranges)
}

fn unique<'a>(report: &Report<'_>, marks: impl Iterator<Item = &'a Mark>) {
    let mut first: BTreeMap<&str, &Mark> = BTreeMap::new();
    let mut marks: Vec<&Mark> = marks.collect();
    marks.sort_by_key(|mark| mark.span.start);
    for mark in marks {
        match first.get(mark.text.as_str()) {
            Some(taken) => report.error(
                mark.span.clone(),
                &mark.key,
                format!("{:?} is taken by {} in line {}", mark.text, taken.key, report.line(&taken.span)),
            ),
            None => {
                first.insert(&mark.text, mark);
            }
        }
    }
}

/// Each of `references` must be the text of one of `targets`.
fn references(report: &Report<'_>, references: &[Mark], targets: &[Mark], what: &str) {
    for reference in references {
        if !targets.iter().any(|target| target.text == reference.text) {
            let near = did_you_mean(&reference.text, targets.iter().map(|target| target.text.as_str()));
            let known = match (near.as_str(), targets) {
                ("", []) => format!(", and the file has no [[{what}s]]"),
                ("", _) => {
                    let names: Vec<&str> = targets.iter().map(|target| target.text.as_str()).collect();
                    format!(", expected one of {}", names.join(", "))
                }
                _ => near,
            };
            report.error(
                reference.span.clone(),
                &reference.key,
                format!("there is no {what} {:?}{known}", reference.text),
            );
        }
    }
}

fn pools(report: &Report<'_>, draft: &Draft) {
    if draft.pools.is_empty() {
        // The host's own pool is then the only one.
        let own = &draft.config.host.pool;
        for mark in draft.pool_references.iter().filter(|mark| mark.text != *own) {
            let near = did_you_mean(&mark.text, [own.as_str()]);
            report.error(
                mark.span.clone(),
                &mark.key,
                format!(
                    "there is no pool {:?}, the host is in {own:?} and the file has no [[pools]]{near}",
                    mark.text
                ),
            );
        }
    } else {
        references(report, &draft.pool_references, &draft.pools, "pool");
        let backups: Vec<&Mark> = draft.backups.iter().map(|(_, backup)| backup).collect();
        for (pool, backup) in &draft.backups {
            let Some(_) = draft.pools.iter().find(|other| other.text == backup.text) else {
                let near = did_you_mean(&backup.text, draft.pools.iter().map(|pool| pool.text.as_str()));
                report.error(
                    backup.span.clone(),
                    &backup.key,
                    format!("there is no pool {:?}{near}", backup.text),
                );
                continue;
            };
            // Pairs are mutual and one to one (RES-02).
            let back = draft.backups.iter().find(|(other, _)| *other == backup.text);
            if backup.text == *pool {
                report.error(backup.span.clone(), &backup.key, "a pool cannot be its own backup");
            } else if back.is_none_or(|(_, back)| back.text != *pool) {
                report.error(
                    backup.span.clone(),
                    &backup.key,
                    format!("backups are mutual, expected backup = {pool:?} in the pool {:?}", backup.text),
                );
            }
        }
        if let Some(first) = backups.first().filter(|_| draft.config.cluster.is_none()) {
            report.warning(
                first.span.clone(),
                &first.key,
                "noted, but a host without [cluster] works alone: it serves the users of all pools and fails over to nobody",
            );
        }
        let own = &draft.config.host.pool;
        if !draft.pools.iter().any(|pool| pool.text == *own)
            && !draft.pool_references.iter().any(|mark| mark.key == "host.pool")
        {
            let first = &draft.pools[0];
            report.error(
                0..0,
                "host.pool",
                format!("missing, expected the pool this host belongs to, such as {:?}", first.text),
            );
        }
    }
}

fn listeners(report: &Report<'_>, draft: &Draft) {
    let mut seen: Vec<Listen> = Vec::new();
    for (key, listen) in &draft.listen {
        let Listen { protocol, address } = *listen.get_ref();
        if address.port() != 0 && seen.contains(listen.get_ref()) {
            report.error(listen.span(), key, format!("{} stands here twice", listen.get_ref()));
        }
        seen.push(*listen.get_ref());
        let Config { admin, media, .. } = &draft.config;
        if protocol == Protocol::Tcp && address == admin.listen && address.port() != 0 {
            report.error(listen.span(), key, format!("{address} is where admin.listen is"));
        }
        let shares = address.ip() == media.address || address.ip().is_unspecified();
        if protocol == Protocol::Udp && shares && media.ports.contains(&address.port()) {
            let [first, last] = [media.ports.start(), media.ports.end()];
            report.error(
                listen.span(),
                key,
                format!("port {} lies in media.ports, {first}-{last}", address.port()),
            );
        }
        let advertised = draft.config.sip.advertise.iter().any(|advertise| advertise.protocol == protocol);
        if address.ip().is_unspecified() && !advertised {
            report.error(
                listen.span(),
                key,
                format!(
                    "{} is every address of this machine, so phones must be told which: expected sip.advertise = \
                     [\"{protocol}:ADDRESS:{}\"]",
                    address.ip(),
                    address.port()
                ),
            );
        }
    }
}

/// No other listener may have the address of `cluster.listen`, and a certificate must be able to name the host.
fn link(report: &Report<'_>, draft: &Draft) {
    let (Some(mark), Some(cluster)) = (&draft.link, &draft.config.cluster) else { return };
    let tcp = draft.config.sip.listen.iter().filter(|listen| listen.protocol == Protocol::Tcp);
    let others = tcp.map(|listen| ("sip.listen", listen.address));
    for (key, taken) in others.chain([("admin.listen", draft.config.admin.listen)]) {
        if taken == cluster.listen && taken.port() != 0 {
            report.error(mark.span.clone(), &mark.key, format!("{taken} is where {key} is"));
        }
    }
    if let Some(name) = &draft.host_name
        && !words::is_certified(&name.text)
    {
        report.error(
            name.span.clone(),
            &name.key,
            format!(
                "with [cluster] a certificate names the host, so expected letters, digits, \"-\" and \".\" only, found {:?}",
                name.text
            ),
        );
    }
}

/// The orbit service says what makes a range, and what else may not be a number of one.
fn ranges(report: &Report<'_>, draft: &Draft) -> Ranges {
    unique(report, draft.ranges.iter().map(|range| &range.name));
    let mut known = Ranges::default();
    known.set_emergency(draft.emergency.iter().map(|number| number.text.as_str()));
    for RangeMarks { name, from, to, spec, .. } in &draft.ranges {
        if known.get(&spec.name).is_some() {
            continue; // reported above; put again it would replace the first
        }
        // Pools are checked with all references, kinds against the plugins when these are loaded.
        let (pools, kinds) = ([spec.pool.clone()], [spec.kind.clone()]);
        if let Err(error) = known.check(spec, &pools, &kinds).and_then(|()| known.put(spec)) {
            let mark = match &error.fault {
                RangeFault::Name => name,
                RangeFault::Number { field: "to", .. } | RangeFault::RangeSize { .. } => to,
                _ => from,
            };
            report.error(mark.span.clone(), &mark.key, error.to_string());
        }
    }
    for (user, number) in &draft.reached_at {
        if let Err(error) = known.check_extension(user, &number.text) {
            report.error(number.span.clone(), &number.key, error.to_string());
        }
    }
    for group in &draft.groups {
        match known.find(&group.text) {
            Some(range) if range.kind() == KIND_GROUP_PICKUP => {}
            // A group's number must be one (GCP-04).
            Some(range) => report.error(
                group.span.clone(),
                &group.key,
                format!(
                    "{:?} lies in the range {:?} of kind {}, expected one of kind {KIND_GROUP_PICKUP} (GCP-04)",
                    group.text,
                    range.name(),
                    range.kind()
                ),
            ),
            None => report.error(
                group.span.clone(),
                &group.key,
                format!("{:?} lies in no range, expected one of kind {KIND_GROUP_PICKUP} (GCP-04)", group.text),
            ),
        }
    }
    known
}

fn emergency(report: &Report<'_>, draft: &Draft) {
    for number in &draft.emergency {
        if let Some(extension) = draft.extensions.iter().find(|extension| extension.text == number.text) {
            report.error(
                extension.span.clone(),
                &extension.key,
                format!("{:?} is an emergency number (sip.emergency)", number.text),
            );
        }
        if draft.config.route(&number.text).is_none() {
            report.warning(
                number.span.clone(),
                &number.key,
                format!("no route leads anywhere for {:?}: such calls will fail", number.text),
            );
        }
    }
}
