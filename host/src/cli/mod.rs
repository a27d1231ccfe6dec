//! The command line: one definition makes the parser, the help, the completions and the man pages.
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage. Verbs that speak to a running host do so over its
//! administrative interface, print a table for people, and its JSON with `--json`.

mod address;
mod arguments;
mod certificates;
mod check;
pub(crate) mod client;
mod documents;
mod drill;
mod logging;
mod names;
mod patience;
mod pools;
pub(crate) mod table;
mod users;
mod verbs;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use self::address::Address;
use self::arguments::{Cli, ClusterCommand, Command, PluginCommand, PolicyCommand, Remote};
use self::client::Client;
use crate::config::{self, Config};

/// Everything `main` does.
pub fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    ExitCode::from(run(std::env::args_os(), std::env::var("SWITCHYARD_TOKEN").ok(), &mut out, &mut err))
}

/// Why a verb did not succeed, in words for whoever typed it. May be several lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Parses `arguments` and does what they say. Written so that a test can look over its shoulder.
fn run(
    arguments: impl IntoIterator<Item = OsString>,
    token: Option<String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
        Ok((cli, matches))
    });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // `--help` and `--version` are errors to the parser, but not to us.
            let text = error.render();
            // Nobody is left to be told when the stream is closed.
            let _ = if error.use_stderr() { write!(err, "{text}") } else { write!(out, "{text}") };
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match execute(&cli, &matches, token, out, err) {
        Ok(()) => 0,
        Err(Failure(text)) => {
            let _ = writeln!(err, "{text}");
            1
        }
    }
}

fn execute(
    cli: &Cli,
    matches: &ArgMatches,
    token: Option<String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let client = |remote: &Remote| Client::new(&Address::find(cli, remote, matches)?, token.as_deref());
    match &cli.command {
        Command::Run(run) => start(cli, run, err),
        Command::Check(run) => check::whole(cli, run, out),
        Command::Orbit { remote, verb } => verbs::orbit(verb, &client(remote)?, remote.output.json, out),
        Command::User { remote, verb } => users::user(verb, &client(remote)?, remote.output.json, out, err),
        Command::Pool { remote, verb } => pools::pool(verb, &client(remote)?, remote.output.json, out),
        Command::Call { remote, verb } => verbs::call(verb, &client(remote)?, remote.output.json, out, err),
        Command::Policy(PolicyCommand::Check(policy)) => check::policies(cli, policy, out),
        Command::Policy(PolicyCommand::Status(remote)) => {
            verbs::policy_status(&client(remote)?, remote.output.json, out)
        }
        Command::Plugin(PluginCommand::List(remote)) => {
            verbs::plugins(&client(remote)?, remote.output.json, out)
        }
        Command::Plugin(PluginCommand::Reload { remote, name }) => {
            verbs::plugin_reload(name, &client(remote)?, remote.output.json, out)
        }
        Command::Plugin(PluginCommand::Info { remote, plugin }) => {
            if looks_like_a_file(plugin) {
                check::plugin_file(Path::new(plugin), remote.output.json, out)
            } else {
                verbs::plugin(plugin, &client(remote)?, remote.output.json, out)
            }
        }
        Command::Cluster(ClusterCommand::Certificates { dir, hosts, etcd }) => {
            certificates::make(dir, hosts, etcd, out)
        }
        Command::Drill { remote, verb } => drill::drill(verb, &client(remote)?, remote.output.json, out, err),
        Command::Completions { shell } => documents::completions(*shell, out),
        Command::Manpage { dir } => documents::manpages(dir, out),
    }
}

/// `call-park` is a plugin of the running host, `./call-park.so` a file.
fn looks_like_a_file(plugin: &str) -> bool {
    plugin.contains('/') || plugin.ends_with(".so") || plugin.ends_with(".dylib")
}

/// Reads the configuration, or says all that is wrong with it. Warnings go to `err`.
fn read_config(cli: &Cli, plugins: Option<&Path>) -> Result<Config, Failure> {
    let mut config = config::load(&cli.global.config).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure(lines.join("\n"))
    })?;
    if let Some(dir) = plugins {
        config.plugins.dir = dir.to_owned();
    }
    Ok(config)
}

fn start(cli: &Cli, run: &arguments::Run, err: &mut dyn Write) -> Result<(), Failure> {
    let log = logging::start(&run.logging)?;
    let lost = log.lost.clone();
    let outcome = read_config(cli, run.plugins.as_deref()).and_then(|config| {
        for warning in &config.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        crate::runtime::run(config, lost, Box::new(greet)).map_err(|error| Failure(error.to_string()))
    });
    log.close();
    outcome
}

/// A host without a terminal runs as well.
fn greet(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests;
