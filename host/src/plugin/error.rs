//! Why a plugin was not taken: sentences that say what to do about it.

use std::path::PathBuf;

/// Why a library, or an entry, was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// The file, or the directory, cannot be read or copied.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        why: String,
    },
    /// It is no plugin at all.
    #[error("{file} is no plugin: {why}")]
    NoPlugin {
        /// The file.
        file: String,
        /// What is missing.
        why: String,
    },
    /// Built for another version of the ABI.
    #[error("{file} was built for plugin ABI {theirs}, this host speaks plugin ABI {ours}: {way_out}")]
    Abi {
        /// The file.
        file: String,
        /// The plugin's version.
        theirs: u32,
        /// The host's.
        ours: u32,
        /// What to do.
        way_out: String,
    },
    /// The entry is shorter than this ABI version says.
    #[error(
        "{file} has an entry of {theirs} bytes, plugin ABI {abi} has {ours}: rebuild it with switchyard-sdk {sdk} \
         or its switchyard.h"
    )]
    Size {
        /// The file.
        file: String,
        /// The plugin's size.
        theirs: u32,
        /// The host's.
        ours: u32,
        /// The version both claim.
        abi: u32,
        /// The SDK of this host.
        sdk: &'static str,
    },
    /// A panic in it would take the host down.
    #[error(
        "{file} is built with panic = \"abort\", so one panic in it would end the host and every call: take \
         panic = \"abort\" out of its profile in Cargo.toml and build it again"
    )]
    Aborts {
        /// The file.
        file: String,
    },
    /// The manifest, the name or the version is wrong.
    #[error("{file}: {what}")]
    Manifest {
        /// The file.
        file: String,
        /// What, and what was expected.
        what: String,
    },
    /// Another plugin has the same name, kind, service or policy section.
    #[error(
        "{plugin} ({file}) declares the {what} that {other} ({other_file}) has already: remove one of them"
    )]
    Taken {
        /// The plugin.
        plugin: String,
        /// Its file.
        file: String,
        /// `kind call-park`.
        what: String,
        /// The one that has it.
        other: String,
        /// Its file.
        other_file: String,
    },
    /// Enabled in the configuration, but there is no such library.
    #[error("no library in {dir} is the plugin {name}{near}", dir = dir.display())]
    Missing {
        /// The name.
        name: String,
        /// The plugin directory.
        dir: PathBuf,
        /// `, did you mean X?` if one of the libraries has a name like it.
        near: String,
    },
    /// No plugin of that name runs.
    #[error("no plugin {name} runs here{near}")]
    NotRunning {
        /// The name.
        name: String,
        /// `, did you mean X?` if one has a name like it.
        near: String,
    },
    /// Its `create` returned nothing.
    #[error("{name} could not be started: it made no instance; its own log lines may say why")]
    NotCreated {
        /// The name.
        name: String,
    },
}
