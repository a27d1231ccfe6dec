//! Where the rules of `[[users]]` send calls: what can never work is a mistake, what nobody has yet a warning, for users may
//! be added later.

use std::collections::BTreeMap;

use super::Config;
use super::check::{Draft, Mark};
use super::read::Report;
use crate::directory::target::{self, Plan, TargetError};
use crate::near::did_you_mean;
use crate::orbit::{Range, Ranges};
use crate::sip::Uri;

/// The file as a target sees it.
struct Office<'a> {
    config: &'a Config,
    ranges: &'a Ranges,
    /// Users by name, extension and private number.
    users: BTreeMap<&'a str, &'a str>,
    /// By name in lower case.
    folded: BTreeMap<String, &'a str>,
}

impl<'a> Office<'a> {
    fn new(config: &'a Config, ranges: &'a Ranges) -> Self {
        let mut office = Self { config, ranges, users: BTreeMap::new(), folded: BTreeMap::new() };
        for user in &config.users {
            for number in user.extension.iter().chain(&user.rules.private_number).chain([&user.name]) {
                office.users.insert(number, &user.name);
            }
            office.folded.insert(user.name.to_ascii_lowercase(), &user.name);
        }
        office
    }
}

impl Plan for Office<'_> {
    fn domain(&self) -> &str {
        &self.config.sip.domain
    }

    fn is_ours(&self, uri: &Uri) -> bool {
        let host = uri.host.trim_matches(['[', ']']);
        let sip = &self.config.sip;
        let names = self.config.pools.iter().filter_map(|pool| pool.fqdn.as_deref());
        let advertised = sip.advertise.iter().map(|advertise| advertise.host.as_str());
        std::iter::once(self.domain())
            .chain(names)
            .chain(advertised)
            .any(|name| name.eq_ignore_ascii_case(host))
            || host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| sip.listen.iter().any(|listen| listen.address.ip() == ip))
    }

    fn user(&self, dialled: &str) -> Option<&str> {
        self.users.get(dialled).or_else(|| self.folded.get(&dialled.to_ascii_lowercase())).copied()
    }

    fn is_routed(&self, dialled: &str) -> bool {
        self.config.route(dialled).is_some()
    }

    fn range(&self, dialled: &str) -> Option<&Range> {
        self.ranges.find(dialled)
    }

    /// The plugins are asked later, about what is not anything else ([`Config::against_plugins`]).
    fn is_service(&self, _: &str) -> bool {
        false
    }

    fn near(&self, dialled: &str) -> String {
        // `alice2` is more likely somebody to come than `alice` misspelt.
        let letters = |name: &str| name.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let names = self.config.users.iter().map(|user| user.name.as_str());
        did_you_mean(dialled, names.filter(|name| letters(name) != letters(dialled)))
    }
}

/// Looks every target up. The answer is those that nobody has.
pub(super) fn check(report: &Report<'_>, draft: &Draft, ranges: &Ranges) -> Vec<Mark> {
    let office = Office::new(&draft.config, ranges);
    let mut unknown = Vec::new();
    for (user, mark) in &draft.targets {
        let Some(user) = draft.config.users.get(*user) else { continue };
        let Err(error) = target::check(&mark.text, &user.name, &office) else { continue };
        match &error {
            TargetError::Nobody { near, .. } if near.is_empty() => {
                report.warning(mark.span.clone(), &mark.key, error.to_string());
                unknown.push(mark.clone());
            }
            // Other hosts of the cluster may have that name or address.
            TargetError::Abroad { .. } if draft.config.cluster.is_some() => {
                report.warning(mark.span.clone(), &mark.key, error.to_string());
            }
            _ => report.error(mark.span.clone(), &mark.key, error.to_string()),
        }
    }
    unknown
}
