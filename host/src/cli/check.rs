//! Verbs that look at files and need no running host.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::arguments::{Check, Cli, PolicyCheck};
use super::{Failure, read_config};
use crate::config::{self, Config, ConfigError};

/// `switchyard check`.
pub(super) fn whole(
    cli: &Cli,
    check: &Check,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let _ = (&check.plugins, err);
    let read = config::load(&cli.global.config);
    if cli.global.json {
        let empty = Vec::new();
        let (errors, warnings) = match &read {
            Ok(config) => (&empty, &config.warnings),
            Err(errors) => (errors, &empty),
        };
        let list = |errors: &[ConfigError]| errors.iter().map(described).collect::<Vec<_>>();
        let answer = json!({ "ok": errors.is_empty(), "errors": list(errors), "warnings": list(warnings) });
        writeln!(out, "{answer:#}")?;
        return if errors.is_empty() {
            Ok(())
        } else {
            Err(Failure("the configuration is wrong".to_owned()))
        };
    }
    let config = read_config(cli, check.plugins.as_deref())?;
    summary(&config, out)
}

fn summary(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "{}: ok: {} users, {} ranges of orbits, {} trunks, {} routes",
        config.file.display(),
        config.users.len(),
        config.orbits.len(),
        config.trunks.len(),
        config.routes.len()
    )?;
    Ok(())
}

fn described(error: &ConfigError) -> serde_json::Value {
    json!({
        "file": error.file,
        "line": error.position.map(|(line, _)| line),
        "column": error.position.map(|(_, column)| column),
        "key": error.key,
        "message": error.message,
    })
}

pub(super) fn policies(_cli: &Cli, _check: &PolicyCheck, _out: &mut dyn Write) -> Result<(), Failure> {
    Err(Failure("this build has no policies".to_owned()))
}

pub(super) fn plugin_file(_file: &Path, _json: bool, _out: &mut dyn Write) -> Result<(), Failure> {
    Err(Failure("this build has no plugins".to_owned()))
}
