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

/// `, did you mean X?` for the nearest of `known`, or nothing if none is near.
pub(super) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let length = word.chars().count();
    let nearest = known
        .into_iter()
        .map(|candidate| {
            // Half a word is as good as a misspelt one: `bindings` for `bindings_per_user`.
            let begun = length >= 3 && candidate.starts_with(word);
            (if begun { 1 } else { strsim::damerau_levenshtein(word, candidate) }, candidate)
        })
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        // A third of the word may be wrong; more is a different word.
        Some((distance, candidate)) if distance <= (length / 3).max(1) => {
            format!(", did you mean {candidate}?")
        }
        _ => String::new(),
    }
}
