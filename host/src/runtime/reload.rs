//! What a SIGHUP can do with the configuration file, and what it must leave to a restart.

use std::path::Path;

use crate::config::{self, Config};

/// What stands differently in the file now, in words for the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// Takes effect at the next start.
    pub at_next_start: Vec<&'static str>,
    /// Has no effect at all: it only fills an empty store.
    pub only_seeds: Vec<&'static str>,
}

/// Reads the file again and logs what of it waits for a restart. Nothing is changed: what can change live are the
/// policies and the store's own users, ranges and pools.
pub fn report(running: &Config, file: &Path) {
    match config::load(file) {
        Err(errors) => {
            for error in errors {
                tracing::error!("{error}");
            }
            tracing::error!("the host goes on with what it has; it would not start with this file");
        }
        Ok(now) => {
            let Differences { at_next_start, only_seeds } = differences(running, &now);
            if !at_next_start.is_empty() {
                let sections = at_next_start.join(", ");
                tracing::warn!("changed in the file, but takes a restart: {sections}");
            }
            if !only_seeds.is_empty() {
                let sections = only_seeds.join(", ");
                tracing::warn!(
                    "changed in the file, but only fills an empty store: {sections}; use `switchyard user` and \
                     `switchyard orbit`"
                );
            }
            if at_next_start.is_empty() && only_seeds.is_empty() {
                tracing::info!("the configuration is unchanged");
            }
        }
    }
}

/// Compares section by section.
pub fn differences(running: &Config, now: &Config) -> Differences {
    let routes = |config: &Config| -> Vec<(String, String, String)> {
        let route = |r: &config::Route| (r.pattern.as_str().to_owned(), r.trunk.clone(), r.number.clone());
        config.routes.iter().map(route).collect()
    };
    let sections = [
        ("[host]", running.host != now.host),
        ("[sip]", running.sip != now.sip),
        ("[plugins]", running.plugins != now.plugins),
        ("[policies]", running.policies != now.policies),
        ("[store]", running.store != now.store),
        ("[cluster]", running.cluster != now.cluster),
        ("[media]", running.media != now.media),
        ("[admin]", running.admin != now.admin),
        ("[[trunks]]", running.trunks != now.trunks),
        ("[[routes]]", routes(running) != routes(now)),
    ];
    let seeds = [
        ("[[pools]]", running.pools != now.pools),
        ("[[orbits]]", running.orbits != now.orbits),
        ("[[users]]", running.users != now.users),
    ];
    let names = |changes: &[(&'static str, bool)]| {
        changes.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
    };
    Differences { at_next_start: names(&sections), only_seeds: names(&seeds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(port: u16, password: &str, route: &str) -> Config {
        let text = format!(
            r#"
            [host]
            name = "fe1"
            pool = "east"
            [sip]
            domain = "example.test"
            listen = ["udp:127.0.0.1:{port}"]
            [[users]]
            name = "alice"
            password = {password:?}
            [[trunks]]
            name = "pstn"
            to = "sip:gateway.example.test"
            [[routes]]
            match = {route:?}
            trunk = "pstn"
            number = "$0"
            "#
        );
        config::parse(Path::new("switchyard.toml"), &text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    #[test]
    fn each_changed_section_is_named_by_when_it_takes_effect() {
        let running = config(5060, "a", "^9");
        assert_eq!(differences(&running, &running.clone()), Differences::default());
        let now = config(5070, "b", "^8");
        let expected =
            Differences { at_next_start: vec!["[sip]", "[[routes]]"], only_seeds: vec!["[[users]]"] };
        assert_eq!(differences(&running, &now), expected);
    }
}
