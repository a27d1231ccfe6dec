//! What the targets of users' rules are looked up in when they are set.

use serde_json::{Map, Value};

use super::Engine;
use crate::directory::target::{self, Plan, TargetError};
use crate::directory::{CallRules, User};
use crate::near::did_you_mean;
use crate::orbit::Range;
use crate::sip::Uri;

impl Engine {
    /// Refuses rules that send calls where none can ever get to. The answer is what to tell of those that send them to
    /// somebody who is not there yet: users come in any order.
    pub(super) fn check_targets(
        &self,
        user: &User,
        change: &Map<String, Value>,
    ) -> Result<Vec<String>, String> {
        let plan = Changed { engine: self, user };
        let mut warnings = Vec::new();
        for key in CallRules::TARGETS.into_iter().filter(|key| change.contains_key(*key)) {
            for target in user.rules.targets(key) {
                match target::check(target, &user.name, &plan) {
                    Ok(()) => {}
                    Err(error @ TargetError::Nobody { .. }) => warnings.push(format!("{key}: {error}")),
                    Err(error) => return Err(format!("{key}: {error}")),
                }
            }
        }
        Ok(warnings)
    }
}

/// All that the engine knows, with one user as it is about to be.
struct Changed<'a> {
    engine: &'a Engine,
    user: &'a User,
}

impl Plan for Changed<'_> {
    fn domain(&self) -> &str {
        &self.engine.config.sip.domain
    }

    fn is_ours(&self, uri: &Uri) -> bool {
        self.engine.core.is_ours(uri)
    }

    fn user(&self, dialled: &str) -> Option<&str> {
        let User { name, extension, rules, .. } = self.user;
        let numbers = extension.iter().chain(&rules.private_number);
        if name.eq_ignore_ascii_case(dialled) || numbers.into_iter().any(|number| number == dialled) {
            return Some(name);
        }
        // Its old extension reaches nobody any more.
        let other = self.engine.directory.resolve(dialled).filter(|other| other.name != *name);
        other.map(|other| other.name.as_str())
    }

    fn is_routed(&self, dialled: &str) -> bool {
        self.engine.config.route(dialled).is_some()
    }

    fn range(&self, dialled: &str) -> Option<&Range> {
        self.engine.orbits.ranges().find(dialled)
    }

    fn is_service(&self, dialled: &str) -> bool {
        let plugins = &self.engine.plugins;
        plugins.for_service(dialled).is_some() || plugins.for_prefix(dialled).is_some()
    }

    fn near(&self, dialled: &str) -> String {
        did_you_mean(dialled, self.engine.directory.iter().map(|user| user.name.as_str()))
    }
}
