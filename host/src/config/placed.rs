//! What only the plugins, or the disk, can judge: found later, told at its place in the file.

use std::path::Path;

use switchyard_sdk::manifest::Manifest;

use super::{Config, ConfigError};
use crate::directory::target::{self, TargetError};
use crate::near::did_you_mean;

/// Where values stand that only the plugins, or the disk, can judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The kinds of `[[orbits]]`.
    pub kinds: Vec<Place>,
    /// The names and extensions of `[[users]]`.
    pub reached_at: Vec<Place>,
    /// Folders and files.
    pub paths: Vec<Place>,
    /// The names under `plugins.enabled`.
    pub enabled: Vec<Place>,
    /// The targets of rules that nobody has.
    pub targets: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub text: String,
    /// A [`ConfigError`] that lacks its message.
    pub error: ConfigError,
}

impl Config {
    /// What is wrong with the file in view of the plugins: ranges of a kind that none handles, users who are reached under
    /// the name of a service, and calls that are to be forwarded to one.
    pub fn against_plugins(&self, plugins: &[Manifest]) -> Vec<ConfigError> {
        let wrong = |place: &Place, message| ConfigError { message, ..place.error.clone() };
        let kinds: Vec<&String> = plugins.iter().flat_map(|plugin| &plugin.kinds).collect();
        let known = || kinds.iter().map(|kind| kind.as_str());
        let is_service =
            |name: &str| plugins.iter().any(|plugin| plugin.services.iter().any(|service| service == name));
        let is_served = |place: &&Place| {
            let uri = target::uri(&place.text, &self.sip.domain);
            uri.and_then(|uri| target::dialled(&uri)).is_some_and(|dialled| {
                let mut prefixes = plugins.iter().flat_map(|plugin| &plugin.prefixes);
                is_service(&dialled) || prefixes.any(|prefix| dialled.starts_with(prefix))
            })
        };
        let orphans = self.places.kinds.iter().filter(|place| !kinds.contains(&&place.text)).map(|place| {
            let mut near = did_you_mean(&place.text, known());
            if near.is_empty() && !kinds.is_empty() {
                near = format!("; there are {}", known().collect::<Vec<_>>().join(", "));
            }
            wrong(place, format!("no plugin handles ranges of kind {:?}{near}", place.text))
        });
        let hidden = self.places.reached_at.iter().filter(|place| is_service(&place.text)).map(|place| {
            wrong(
                place,
                format!("{:?} is a service of a plugin, so nobody could be reached there", place.text),
            )
        });
        let served = self
            .places
            .targets
            .iter()
            .filter(is_served)
            .map(|place| wrong(place, TargetError::Service(place.text.clone()).to_string()));
        let mut errors: Vec<ConfigError> = orphans.chain(hidden).chain(served).collect();
        errors.sort();
        errors
    }

    /// What is wrong with an enabled plugin, at the place where the file names it.
    pub fn of_plugin(&self, name: &str, message: String) -> ConfigError {
        let place = self.places.enabled.iter().find(|place| place.text == name);
        self.placed(place, "plugins.enabled", message)
    }

    /// What is wrong with a file of `[cluster]`, at the place where it is named.
    pub fn of_cluster(&self, key: &str, message: String) -> ConfigError {
        self.of_file(format!("cluster.{key}"), message)
    }

    /// The same of a file of `[store]`.
    pub fn of_store(&self, key: &str, message: String) -> ConfigError {
        self.of_file(format!("store.{key}"), message)
    }

    fn of_file(&self, key: String, message: String) -> ConfigError {
        let place = self.places.paths.iter().find(|place| place.error.key == key);
        self.placed(place, &key, message)
    }

    /// What is wrong if there is no folder for the plugins.
    pub fn plugins_folder(&self) -> Option<ConfigError> {
        self.folder("plugins.dir", &self.plugins.dir)
    }

    /// What is wrong if there is no folder for the policies.
    pub fn policies_folder(&self) -> Option<ConfigError> {
        self.folder("policies.dir", &self.policies.dir)
    }

    /// What is wrong with the certificates for the store.
    pub fn store_files(&self) -> Vec<ConfigError> {
        let etcd = &self.store.etcd;
        let identity =
            etcd.identity.iter().flat_map(|(cert, key)| [("store.cert", cert), ("store.key", key)]);
        let files = etcd.ca.iter().map(|ca| ("store.ca", ca)).chain(identity);
        files
            .filter_map(|(key, file)| {
                let error = std::fs::read(file).err()?;
                let place = self.places.paths.iter().find(|place| place.error.key == key);
                Some(self.placed(place, key, format!("{} cannot be read: {error}", file.display())))
            })
            .collect()
    }

    fn folder(&self, key: &str, dir: &Path) -> Option<ConfigError> {
        if dir.is_dir() {
            return None;
        }
        let beside = dir.parent().into_iter().flat_map(std::fs::read_dir).flatten().flatten();
        let folders = beside.filter(|entry| entry.path().is_dir());
        let names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let near = did_you_mean(name, names.iter().map(String::as_str));
        let message = format!("there is no folder {}{near}", dir.display());
        let place = self.places.paths.iter().find(|place| place.error.key == key);
        Some(self.placed(place, key, message))
    }

    /// What is left to its default has no place in the file.
    fn placed(&self, place: Option<&Place>, key: &str, message: String) -> ConfigError {
        match place {
            Some(place) => ConfigError { message, ..place.error.clone() },
            None => ConfigError { file: self.file.clone(), position: None, key: key.to_owned(), message },
        }
    }
}
