//! Which host a verb asks, and who said so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::Failure;
use super::arguments::{Cli, Remote};
use crate::config::{self, Secret};

/// Where a host listens that was told nothing else.
const DEFAULT: &str = "http://127.0.0.1:8080";

/// Where a running host is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    /// `http://HOST:PORT`.
    pub url: String,
    /// Who said so, for whoever finds nobody there: `as --admin says`.
    pub said: String,
    /// The token that was found beside it. It is for no other host.
    pub token: Option<Secret>,
}

impl Address {
    /// The command line is nearer than the environment, and an address nearer than a file that has one.
    pub fn find(cli: &Cli, remote: &Remote, matches: &ArgMatches) -> Result<Self, Failure> {
        let [admin, file] = ["admin", "config"].map(|argument| source(matches, argument));
        match (&remote.admin, file) {
            (Some(url), _) if admin >= file => {
                let by = if admin == Some(ValueSource::CommandLine) { "--admin" } else { "SWITCHYARD_ADMIN" };
                Ok(Self { url: url.clone(), said: format!("as {by} says"), token: None })
            }
            (_, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) => {
                Self::of_file(&cli.global.config)
            }
            _ => {
                let said = "the default, for want of --admin or --config".to_owned();
                Ok(Self { url: DEFAULT.to_owned(), said, token: None })
            }
        }
    }

    fn of_file(file: &Path) -> Result<Self, Failure> {
        let admin = config::load_admin(file).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure(format!("{}\nor say where the host is with --admin URL", lines.join("\n")))
        })?;
        let said = format!("the admin.listen of {}", file.display());
        if admin.listen.port() == 0 {
            return Err(Failure(format!(
                "{} is {said}, which leaves the port to chance; say where the host is with --admin URL",
                admin.listen
            )));
        }
        Ok(Self { url: format!("http://{}", reached_at(admin.listen)), said, token: admin.token })
    }
}

/// Where who listens at `address` is reached from the same machine.
fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Who gave an argument, at whichever of the verbs it stood.
fn source(matches: &ArgMatches, argument: &str) -> Option<ValueSource> {
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    innermost.value_source(argument)
}
