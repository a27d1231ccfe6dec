//! Log lines: for people by default, JSON for collectors.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use super::arguments::{LogFormat, Logging};

/// Sets up the log of this process, on standard error.
pub(super) fn start(logging: &Logging) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&logging.log).map_err(|error| {
        Failure(format!(
            "--log {:?}: {error}; expected a level such as info, or switchyard_host::sip=debug",
            logging.log
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match logging.log_format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|error| Failure(format!("the log cannot be started: {error}")))
}
