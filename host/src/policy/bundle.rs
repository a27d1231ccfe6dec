//! The policy files of a directory, read once.
//!
//! Everything after [`Bundle::read`] works on memory: a file that changes on disk while a candidate is being
//! prepared cannot make half a policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Diagnostic;

/// More than any site has pools; a directory with more is not a policy directory (a home folder, say).
const FILES_MAX: usize = 2_000;
/// A policy file is written by hand; a generated one of this size would take longer to compile than calls wait.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// All files together are kept in memory once per host, and compiled once per engine.
const TOTAL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// `pools/` and `lib/` with a few folders below; also what ends a loop of linked folders.
const DEPTH_MAX: usize = 6;

/// All `*.lua` files of a policy directory: `default.lua`, `pools/west.lua`, `lib/hours.lua`.
///
/// Names are relative to the directory, with `/`, whatever the system uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    files: BTreeMap<String, Arc<str>>,
    hash: String,
}

impl Bundle {
    /// Reads every `*.lua` below `dir`, each once. Hidden files and folders are left out, and `types/`, which is
    /// for editors.
    ///
    /// Fails, naming the file, when one cannot be read, is not UTF-8, is too large, is no regular file, or is a
    /// link that leads out of the directory.
    pub fn read(dir: &Path) -> Result<Bundle, Diagnostic> {
        let root = fs::canonicalize(dir)
            .map_err(|error| Diagnostic::of_file(dir.display(), format!("cannot be opened: {error}")))?;
        let mut reader = Reader { root: &root, files: BTreeMap::new(), total: 0 };
        reader.folder(&root, "", 0)?;
        Ok(Self::of(reader.files))
    }

    /// A bundle of texts, for tests and for what another pool left in the store.
    pub fn of(files: impl IntoIterator<Item = (String, String)>) -> Bundle {
        let files: BTreeMap<String, Arc<str>> =
            files.into_iter().map(|(name, text)| (name, Arc::from(text))).collect();
        let mut hasher = Sha256::new();
        for (name, text) in &files {
            // Lengths first, so that moving text from one file to another cannot give the same hash.
            hasher.update((name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        let mut hash = String::with_capacity(64);
        for byte in hasher.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Bundle { files, hash }
    }

    /// SHA-256 over all names and texts, in hex. Hosts of a pool compare it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The text of a file, by its name in the directory: `pools/west.lua`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|text| &**text)
    }

    /// The names of all files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All names and texts, in order.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), &**text))
    }

    /// The file that speaks for a pool: `pools/<pool>.lua`, else `default.lua`; `None` if there is neither.
    pub fn file_of_pool(&self, pool: &str) -> Option<&str> {
        let own = format!("pools/{pool}.lua");
        let name = if self.files.contains_key(&own) { own.as_str() } else { "default.lua" };
        self.files.get_key_value(name).map(|(name, _)| name.as_str())
    }
}

struct Reader<'a> {
    root: &'a Path,
    files: BTreeMap<String, String>,
    total: usize,
}

impl Reader<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Diagnostic> {
        let failed =
            |error: std::io::Error| Diagnostic::of_file(folder.display(), format!("cannot be read: {error}"));
        if depth > DEPTH_MAX {
            return Err(Diagnostic::of_file(prefix, format!("folders deeper than {DEPTH_MAX}")));
        }
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue; // No name that is not UTF-8 can be required or belong to a pool.
            };
            if name.starts_with('.') {
                continue; // Editors' swap files, version control, the inner links of mounted volumes.
            }
            let path = entry.path();
            let name = format!("{prefix}{name}");
            if name == "types" {
                continue;
            }
            let linked = entry.file_type().map_err(failed)?.is_symlink();
            // What is no folder and no Lua file is none of our business, even if it is a broken link.
            let wanted = name.ends_with(".lua");
            let kind = match fs::metadata(&path) {
                Ok(kind) => kind,
                Err(error) if wanted => {
                    return Err(Diagnostic::of_file(name, format!("cannot be read: {error}")));
                }
                Err(_) => continue,
            };
            if kind.is_dir() {
                self.inside(&path, &name, linked)?;
                self.folder(&path, &format!("{name}/"), depth + 1)?;
            } else if wanted {
                if !kind.is_file() {
                    return Err(Diagnostic::of_file(name, "not a regular file"));
                }
                self.inside(&path, &name, linked)?;
                self.file(&path, name)?;
            }
        }
        Ok(())
    }

    /// Refuses a link that leads out of the directory: what is edited there is not what a review of it shows.
    fn inside(&self, path: &Path, name: &str, linked: bool) -> Result<(), Diagnostic> {
        if !linked {
            return Ok(());
        }
        match fs::canonicalize(path) {
            Ok(target) if target.starts_with(self.root) => Ok(()),
            Ok(target) => Err(Diagnostic::of_file(
                name,
                format!("a link to {}, which is outside the policy directory", target.display()),
            )),
            Err(error) => Err(Diagnostic::of_file(name, format!("cannot be read: {error}"))),
        }
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), Diagnostic> {
        if self.files.len() == FILES_MAX {
            return Err(Diagnostic::of_file(
                name,
                format!("more than {FILES_MAX} files; is this the policy directory?"),
            ));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| Diagnostic::of_file(&name, format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Diagnostic::of_file(name, format!("larger than {} KiB", FILE_BYTES_MAX / 1024)));
        }
        self.total += bytes.len();
        if self.total > TOTAL_BYTES_MAX {
            return Err(Diagnostic::of_file(
                name,
                format!("all files are larger than {} MiB", TOTAL_BYTES_MAX >> 20),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() as u32;
            Diagnostic { file: name.clone(), line, column: None, message: "not UTF-8 text".into() }
        })?;
        self.files.insert(name, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &[u8]) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn reads_lua_files_by_their_names_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "default.lua", b"return {}");
        write(dir.path(), "pools/west.lua", b"return {}\n");
        write(dir.path(), "lib/deep/x.lua", b"");
        write(dir.path(), "README.md", b"not Lua");
        write(dir.path(), ".#default.lua", b"an editor's lock");
        write(dir.path(), "default.lua~", b"a backup");
        write(dir.path(), "types/switchyard.lua", b"---@meta");
        let bundle = Bundle::read(dir.path()).unwrap();
        assert_eq!(bundle.names().collect::<Vec<_>>(), ["default.lua", "lib/deep/x.lua", "pools/west.lua"]);
        assert_eq!(bundle.get("pools/west.lua"), Some("return {}\n"));
        assert_eq!(bundle.file_of_pool("west"), Some("pools/west.lua"));
        assert_eq!(bundle.file_of_pool("east"), Some("default.lua"));
    }

    #[test]
    fn hash_tells_texts_names_and_their_borders_apart() {
        let of = |files: &[(&str, &str)]| {
            Bundle::of(files.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))).hash().to_owned()
        };
        let first = of(&[("a.lua", "x"), ("b.lua", "y")]);
        assert_eq!(first, of(&[("b.lua", "y"), ("a.lua", "x")]), "order of reading does not matter");
        assert_ne!(first, of(&[("a.lua", "xb"), ("b.lua", "y")]));
        assert_ne!(first, of(&[("a.lua", "y"), ("b.lua", "x")]));
        assert_eq!(first.len(), 64);
    }

    #[test]
    fn link_out_of_the_directory_is_refused_and_one_inside_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret.lua", b"return {}");
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "default.lua", b"return {}");
        std::os::unix::fs::symlink(dir.path().join("default.lua"), dir.path().join("same.lua")).unwrap();
        assert_eq!(Bundle::read(dir.path()).unwrap().get("same.lua"), Some("return {}"));

        std::os::unix::fs::symlink(outside.path().join("secret.lua"), dir.path().join("evil.lua")).unwrap();
        let error = Bundle::read(dir.path()).unwrap_err();
        assert_eq!(error.file, "evil.lua");
        assert!(error.message.contains("outside the policy directory"), "{error}");

        fs::remove_file(dir.path().join("evil.lua")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("pools")).unwrap();
        assert_eq!(Bundle::read(dir.path()).unwrap_err().file, "pools");
    }

    #[test]
    fn folder_linked_into_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(Bundle::read(dir.path()).unwrap_err().message.contains("deeper"));
    }

    #[test]
    fn unusable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "latin.lua", b"return {\n  name = '\xe9' }");
        let error = Bundle::read(dir.path()).unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("latin.lua", 2));

        write(dir.path(), "latin.lua", &vec![b' '; FILE_BYTES_MAX as usize + 1]);
        assert!(Bundle::read(dir.path()).unwrap_err().message.contains("256 KiB"));

        fs::remove_file(dir.path().join("latin.lua")).unwrap();
        fs::create_dir(dir.path().join("folder.lua")).unwrap();
        assert_eq!(Bundle::read(dir.path()).unwrap().names().count(), 0, "a folder may be called anything");
        assert!(Bundle::read(&dir.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
