//! Verbs that look at files and need no running host.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use serde_json::{Value, json};
use switchyard_sdk::manifest::{Manifest, Section};

use super::arguments::{Check, Cli, PolicyCheck};
use super::{Failure, names, table};
use crate::config::{self, Config, ConfigError};
use crate::near::did_you_mean;
use crate::plugin::{LoadError, Plugins};
use crate::policy::{self, Diagnostic};
use crate::runtime::Clock;
use crate::transport::link::{self, Credentials};

/// One thing that is wrong, wherever it was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Finding {
    file: PathBuf,
    line: Option<usize>,
    column: Option<usize>,
    key: Option<String>,
    message: String,
    /// As it is shown to people.
    #[serde(skip)]
    shown: String,
}

impl Finding {
    fn of_file(file: &Path, message: String) -> Self {
        let shown = format!("{}: {message}", file.display());
        Self { file: file.to_owned(), line: None, column: None, key: None, message, shown }
    }

    fn is_at(&self, error: &ConfigError) -> bool {
        self.file == error.file && self.line.zip(self.column) == error.position
    }

    fn of_policy(dir: &Path, diagnostic: &Diagnostic) -> Self {
        // About the folder itself it names that, and nothing inside.
        let inside = !diagnostic.file.starts_with(&*dir.to_string_lossy());
        let file = if inside { dir.join(&diagnostic.file) } else { PathBuf::from(&diagnostic.file) };
        let placed = Diagnostic { file: file.display().to_string(), ..diagnostic.clone() };
        Self {
            file: PathBuf::from(&placed.file),
            line: (placed.line > 0).then_some(placed.line as usize),
            column: placed.column.map(|column| column as usize),
            key: None,
            message: placed.message.clone(),
            shown: placed.to_string(),
        }
    }
}

impl From<&ConfigError> for Finding {
    fn from(error: &ConfigError) -> Self {
        Self {
            file: error.file.clone(),
            line: error.position.map(|(line, _)| line),
            column: error.position.map(|(_, column)| column),
            key: (!error.key.is_empty()).then(|| error.key.clone()),
            message: error.message.clone(),
            shown: error.to_string(),
        }
    }
}

/// What was found, and what there is.
#[derive(Default)]
struct Report {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    summary: Vec<(&'static str, String)>,
}

impl Report {
    fn print(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        if json {
            let ok = self.errors.is_empty();
            let answer = json!({ "ok": ok, "errors": self.errors, "warnings": self.warnings });
            writeln!(out, "{answer:#}")?;
            return if ok { Ok(()) } else { Err(Failure(counted(self.errors.len(), "mistake"))) };
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {}", table::printable(&warning.shown))?;
        }
        if self.errors.is_empty() {
            return Ok(table::print_pairs(out, &self.summary)?);
        }
        let lines: Vec<&str> = self.errors.iter().map(|error| error.shown.as_str()).collect();
        Err(Failure(lines.join("\n")))
    }
}

/// `switchyard check`: the configuration, then what it points to.
pub(super) fn whole(cli: &Cli, check: &Check, out: &mut dyn Write) -> Result<(), Failure> {
    let mut report = Report::default();
    match config::load(&cli.global.config) {
        Ok(config) => look_at(&config, check.plugins.as_deref(), &mut report),
        Err(errors) => report.errors.extend(errors.iter().map(Finding::from)),
    }
    report.print(check.output.json, out)
}

fn look_at(config: &Config, plugins_dir: Option<&Path>, report: &mut Report) {
    report.warnings.extend(config.warnings.iter().map(Finding::from));
    report.summary.push((
        "configuration",
        format!(
            "{}: {}, {}, {}, {}",
            config.file.display(),
            counted(config.users.len(), "user"),
            counted(config.orbits.len(), "range"),
            counted(config.trunks.len(), "trunk"),
            counted(config.routes.len(), "route")
        ),
    ));
    let dir = plugins_dir.unwrap_or(&config.plugins.dir);
    match config.plugins_folder().filter(|_| plugins_dir.is_none()) {
        // Without plugins half of what the ranges and policies say would seem to be wrong as well.
        Some(missing) => {
            report.errors.push(Finding::from(&missing));
            report.errors.extend(config.policies_folder().as_ref().map(Finding::from));
        }
        None => {
            let found = plugins(dir, config.plugins.enabled.as_deref(), Some(config), report);
            let wrong = config.against_plugins(&found.manifests);
            // What was only doubtful before.
            let is_wrong = |doubt: &Finding| wrong.iter().any(|error| doubt.is_at(error));
            report.warnings.retain(|doubt| !is_wrong(doubt));
            report.errors.extend(wrong.iter().map(Finding::from));
            match config.policies_folder() {
                Some(missing) => report.errors.push(Finding::from(&missing)),
                None => policies_in(&config.policies.dir, &found.sections, &config.pool_names(), report),
            }
        }
    }
    let store_files = config.store_files();
    report.errors.extend(store_files.iter().map(Finding::from));
    if let Some((cert, key)) = config.store.etcd.identity.as_ref().filter(|_| store_files.is_empty()) {
        let unfit = link::matching(cert, key).err();
        report.errors.extend(unfit.map(|unfit| Finding::from(&config.of_store(unfit.key, unfit.message))));
    }
    if let Some(cluster) = &config.cluster {
        match Credentials::read(cluster, &config.host.name, Clock::start().now().utc) {
            Ok(credentials) => report.warnings.extend(
                credentials.warning().map(|warning| Finding::from(&config.of_cluster("cert", warning))),
            ),
            Err(unfit) => report.errors.extend(
                unfit.into_iter().map(|unfit| Finding::from(&config.of_cluster(unfit.key, unfit.message))),
            ),
        }
    }
    match names::look_up(config) {
        Ok(names) => {
            for led in names {
                let to = if led.to.is_empty() { "nowhere".to_owned() } else { led.to.join(", ") };
                report.summary.push(("contacts", format!("{} leads to {to}", led.name)));
                let warning = led.wrong.map(|wrong| format!("{wrong} (pools.contact)"));
                report.warnings.extend(warning.map(|warning| Finding::of_file(&config.file, warning)));
            }
        }
        Err(why) => {
            let why = format!("the names in pools.fqdn cannot be looked up: {why}");
            report.warnings.push(Finding::of_file(&config.file, why));
        }
    }
    let data_dir = &config.host.data_dir;
    if data_dir.exists() && !data_dir.is_dir() {
        let not_a_folder = "this is not a folder (host.data_dir): nothing could be stored".to_owned();
        report.errors.push(Finding::of_file(data_dir, not_a_folder));
    }
    if !config.media.music.is_dir() {
        let silence = "there is no such folder (media.music): only the built-in music can be played";
        report.warnings.push(Finding::of_file(&config.media.music, silence.to_owned()));
    }
}

/// `1 user`, `2 users`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What the plugins declare.
struct Found {
    sections: Vec<Section>,
    manifests: Vec<Manifest>,
}

/// Loads the plugins as a host would. `config`, if there is one, knows where the enabled ones are named.
fn plugins(dir: &Path, enabled: Option<&[String]>, config: Option<&Config>, report: &mut Report) -> Found {
    let scratch = scratch();
    let plugins = Plugins::load(dir, enabled, &scratch);
    // The copies stay mapped without their names. A folder that cannot be removed harms nobody.
    let _ = std::fs::remove_dir_all(&scratch);
    report.errors.extend(plugins.refused().iter().map(|error| match (error, config) {
        (LoadError::Missing { name, .. }, Some(config)) => {
            Finding::from(&config.of_plugin(name, error.to_string()))
        }
        _ => Finding::of_file(dir, error.to_string()),
    }));
    let list = plugins.list();
    let names: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|plugin| Some(format!("{} {}", plugin["name"].as_str()?, plugin["version"].as_str()?)))
        .collect();
    if names.is_empty() && report.errors.is_empty() {
        report
            .warnings
            .push(Finding::of_file(dir, "there is no plugin here: nothing can be parked".to_owned()));
    }
    report.summary.push(("plugins", format!("{}: {}", dir.display(), names.join(", "))));
    Found { sections: plugins.sections(), manifests: plugins.manifests().cloned().collect() }
}

/// A folder nobody else uses: a running host has its own copies in its data folder.
fn scratch() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("switchyard-check-{}-{number}", std::process::id()))
}

fn policies_in(dir: &Path, sections: &[Section], pools: &[String], report: &mut Report) {
    let diagnostics = policy::check(dir, sections, pools);
    report.errors.extend(diagnostics.iter().map(|diagnostic| Finding::of_policy(dir, diagnostic)));
    // With one pool alone a further file is one kept for later.
    for name in pools_of(dir).iter().filter(|name| pools.len() > 1 && !pools.contains(name)) {
        let near = did_you_mean(name, pools.iter().map(String::as_str));
        let idle = format!("there is no pool {name:?}{near}: nothing goes by this file");
        report.warnings.push(Finding::of_file(&dir.join("pools").join(format!("{name}.lua")), idle));
    }
    report.summary.push(("policies", format!("{}: for {}", dir.display(), pools.join(", "))));
}

/// `switchyard policy check`. Without a configuration both folders must be named.
pub(super) fn policies(cli: &Cli, check: &PolicyCheck, out: &mut dyn Write) -> Result<(), Failure> {
    let mut report = Report::default();
    match (config::load(&cli.global.config), &check.dir, &check.plugins) {
        (Ok(config), _, None) if config.plugins_folder().is_some() => {
            report.errors.extend(config.plugins_folder().as_ref().map(Finding::from));
        }
        (Ok(config), dir, plugins_dir) => {
            let plugins_dir = plugins_dir.as_ref().unwrap_or(&config.plugins.dir);
            let enabled = config.plugins.enabled.as_deref();
            let found = plugins(plugins_dir, enabled, Some(&config), &mut report);
            match config.policies_folder().filter(|_| dir.is_none()) {
                Some(missing) => report.errors.push(Finding::from(&missing)),
                None => {
                    let dir = dir.as_ref().unwrap_or(&config.policies.dir);
                    policies_in(dir, &found.sections, &config.pool_names(), &mut report);
                }
            }
        }
        (Err(_), Some(dir), Some(plugins_dir)) => {
            let found = plugins(plugins_dir, None, None, &mut report);
            policies_in(dir, &found.sections, &pools_of(dir), &mut report);
        }
        (Err(errors), ..) => report.errors.extend(errors.iter().map(Finding::from)),
    }
    report.print(check.output.json, out)
}

/// The pools that have a file of their own.
fn pools_of(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("pools")).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let path = file.path();
        let name = path.file_stem()?.to_str()?.to_owned();
        (path.extension()? == "lua").then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// `switchyard plugin info FILE`.
pub(super) fn plugin_file(file: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let description = Plugins::inspect(file).map_err(|error| Failure(error.to_string()))?;
    if json {
        let value = serde_json::to_value(&description).unwrap_or(Value::Null);
        return Ok(writeln!(out, "{value:#}")?);
    }
    let manifest = &description.manifest;
    let pairs = [
        ("name", description.name.clone()),
        ("version", description.version.clone()),
        ("description", manifest.description.clone()),
        ("kinds", manifest.kinds.join(", ")),
        ("services", manifest.services.join(", ")),
        ("extensions", manifest.extensions.join(", ")),
        ("plugin ABI", description.abi_version.to_string()),
    ];
    table::print_pairs(out, &pairs)?;
    let mut rows = Vec::new();
    for section in &manifest.sections {
        for setting in &section.settings {
            let name = format!("{}.{}", section.name, setting.name);
            rows.push(vec![name, setting.default.to_string(), setting.doc.clone()]);
        }
        for hook in &section.hooks {
            rows.push(vec![
                format!("{}.{}", section.name, hook.name),
                "(a function)".to_owned(),
                hook.doc.clone(),
            ]);
        }
    }
    if !rows.is_empty() {
        writeln!(out)?;
        table::print(out, &["IN A POLICY", "DEFAULT", "WHAT IT DOES"], &rows)?;
    }
    Ok(())
}
