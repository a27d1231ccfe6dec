//! What is wrong with a file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake, in words for whoever wrote the file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line and column, from 1; absent if the file could not be read at all. Columns count characters.
    pub position: Option<(usize, usize)>,
    /// The key it is about: `sip.listen`, `users[2].extension`; may be empty.
    pub key: String,
    /// What was expected, what was found, and a near match if there is one.
    pub message: String,
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = if error.kind() == std::io::ErrorKind::NotFound {
            "there is no such file; name another with --config FILE or SWITCHYARD_CONFIG".to_owned()
        } else {
            format!("cannot be read: {error}")
        };
        Self { file: path.to_owned(), position: None, key: String::new(), message }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}
