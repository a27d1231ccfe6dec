//! Completions and man pages, from the same definitions as the parser.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;

use super::Failure;
use super::arguments::Cli;

pub(super) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> Result<(), Failure> {
    // The generator panics if it cannot write (a closed pipe, say), so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "switchyard", &mut script);
    Ok(out.write_all(&script)?)
}

pub(super) fn manpages(dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure(format!("{}: {error}", dir.display())))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|error| Failure(format!("{}: {error}", dir.display())))?;
    Ok(writeln!(out, "man pages written to {}", dir.display())?)
}
