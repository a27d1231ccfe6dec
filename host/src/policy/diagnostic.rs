//! What is wrong with a policy, in its author's terms.

use std::fmt;

use serde::Serialize;

/// One mistake in a policy file: `pools/west.lua:5:5: pickup_timout: unknown key, did you mean pickup_timeout?`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Diagnostic {
    /// The file's name in the policy directory; a path if it is about the directory itself.
    pub file: String,
    /// The line, counted from 1; 0 when it is about the whole file.
    pub line: u32,
    /// The column in characters, counted from 1, where it is known.
    pub column: Option<u32>,
    /// What was expected and what was found.
    pub message: String,
}

impl Diagnostic {
    /// A mistake of a whole file.
    pub fn of_file(file: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: 0, column: None, message: message.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_a_compiler_so_that_editors_jump_there() {
        let mut diagnostic =
            Diagnostic { file: "a.lua".into(), line: 5, column: Some(3), message: "x: unknown key".into() };
        assert_eq!(diagnostic.to_string(), "a.lua:5:3: x: unknown key");
        diagnostic.column = None;
        assert_eq!(diagnostic.to_string(), "a.lua:5: x: unknown key");
        assert_eq!(Diagnostic::of_file("a.lua", "empty").to_string(), "a.lua: empty");
    }
}
