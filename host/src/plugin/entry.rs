//! A plugin's entry, checked before anything of it is trusted.

use serde::Serialize;
use switchyard_sdk::abi::{ABI_VERSION, MAGIC, PluginEntry};
use switchyard_sdk::host::{Extension, texts};
use switchyard_sdk::manifest::Manifest;

use super::error::LoadError;
use crate::policy::HOST_SECTIONS;

/// The SDK this host is built with.
pub(super) const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest name of a plugin, kind, service or section: they appear in tables, file names and metrics.
const NAME_CHARS_MAX: usize = 32;

/// What a plugin says about itself; `switchyard plugin info`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Description {
    /// `call-park`.
    pub name: String,
    /// `0.1.0`.
    pub version: String,
    /// The file it was read from.
    pub file: String,
    /// The ABI it was built for.
    pub abi_version: u32,
    /// Its declaration.
    pub manifest: Manifest,
    /// Declared extensions this host does not have; the plugin must do without.
    pub unknown_extensions: Vec<String>,
}

impl Description {
    /// `call-park 0.1.0`.
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

/// The first words of any entry, of whatever version: read before its size is known.
#[repr(C)]
pub(super) struct Head {
    magic: u64,
    abi_version: u32,
    size: u32,
}

impl Head {
    /// Whether this host can read the rest of the entry.
    pub(super) fn check(&self, file: &str) -> Result<(), LoadError> {
        let file = file.to_owned();
        if self.magic != MAGIC {
            let why = "its switchyard_plugin does not begin with SWYARD01".to_owned();
            return Err(LoadError::NoPlugin { file, why });
        }
        if self.abi_version != ABI_VERSION {
            let rebuild = format!("rebuild it with switchyard-sdk {SDK_VERSION}");
            let way_out = if self.abi_version > ABI_VERSION {
                format!("{rebuild}, or use a newer host")
            } else {
                rebuild
            };
            return Err(LoadError::Abi { file, theirs: self.abi_version, ours: ABI_VERSION, way_out });
        }
        let ours = size_of::<PluginEntry>() as u32;
        if self.size < ours {
            let (theirs, abi) = (self.size, ABI_VERSION);
            return Err(LoadError::Size { file, theirs, ours, abi, sdk: SDK_VERSION });
        }
        Ok(())
    }
}

/// Checks an entry whose [`Head`] is right, and reads what it says about itself.
pub(super) fn describe(entry: &'static PluginEntry, file: &str) -> Result<Description, LoadError> {
    let wrong = |what: String| LoadError::Manifest { file: file.to_owned(), what };
    Head { magic: entry.magic, abi_version: entry.abi_version, size: entry.size }.check(file)?;
    if entry.unwinds == 0 {
        return Err(LoadError::Aborts { file: file.to_owned() });
    }
    let (name, version, manifest) = texts(entry);
    check_name("name", name, '-').map_err(wrong)?;
    if !is_version(version) {
        return Err(wrong(format!("version: expected one like 1.2.3, got {version:?}")));
    }
    let manifest: Manifest =
        serde_json::from_str(manifest).map_err(|error| wrong(format!("the manifest: {error}")))?;
    check_manifest(&manifest).map_err(wrong)?;
    let unknown = manifest.extensions.iter().filter(|id| Extension::find(id).is_none());
    Ok(Description {
        name: name.to_owned(),
        version: version.to_owned(),
        file: file.to_owned(),
        abi_version: entry.abi_version,
        unknown_extensions: unknown.cloned().collect(),
        manifest,
    })
}

fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    for kind in &manifest.kinds {
        check_name("kind", kind, '-')?;
    }
    for service in &manifest.services {
        check_name("service", service, '-')?;
    }
    for prefix in &manifest.prefixes {
        // More would swallow numbers of ranges: those have one character at most before their digits.
        if prefix.len() != 2 || !prefix.chars().all(|c| c == '*' || c == '#') {
            return Err(format!("prefix: expected two of * and #, got {prefix:?}"));
        }
    }
    for (at, section) in manifest.sections.iter().enumerate() {
        check_name("section", &section.name, '_')?;
        if HOST_SECTIONS.contains(&section.name.as_str()) {
            return Err(format!("section {} is the host's own", section.name));
        }
        if manifest.sections[..at].iter().any(|earlier| earlier.name == section.name) {
            return Err(format!("section {} is declared twice", section.name));
        }
    }
    Ok(())
}

/// Lower-case letters and digits joined by `joint`.
fn check_name(what: &str, name: &str, joint: char) -> Result<(), String> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint;
    if fits && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(legal) {
        return Ok(());
    }
    Err(format!(
        "{what}: expected at most {NAME_CHARS_MAX} lower-case letters, digits and {joint:?}, a letter first, got \
         {name:?}"
    ))
}

fn is_version(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').count() == 3 && numbers.split('.').all(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(magic: u64, abi_version: u32, size: u32) -> Result<(), String> {
        Head { magic, abi_version, size }.check("libx.so").map_err(|error| error.to_string())
    }

    #[test]
    fn a_refusal_names_both_versions_and_the_way_out() {
        let size = size_of::<PluginEntry>() as u32;
        assert_eq!(head(MAGIC, ABI_VERSION, size + 8), Ok(()), "entries may grow");
        assert_eq!(
            head(MAGIC, ABI_VERSION + 1, size).unwrap_err(),
            "libx.so was built for plugin ABI 2, this host speaks plugin ABI 1: rebuild it with switchyard-sdk \
             0.1.0, or use a newer host"
        );
        assert_eq!(
            head(MAGIC, 0, size).unwrap_err(),
            "libx.so was built for plugin ABI 0, this host speaks plugin ABI 1: rebuild it with switchyard-sdk 0.1.0"
        );
        assert_eq!(
            head(MAGIC, ABI_VERSION, 16).unwrap_err(),
            format!(
                "libx.so has an entry of 16 bytes, plugin ABI 1 has {size}: rebuild it with switchyard-sdk 0.1.0 or \
                 its switchyard.h"
            )
        );
        assert!(head(1, ABI_VERSION, size).unwrap_err().contains("is no plugin"));
    }

    #[test]
    fn names_and_versions_are_checked() {
        assert!(check_name("kind", "call-park", '-').is_ok());
        for wrong in ["", "Call-Park", "1st", "call park", "a\"b", &"a".repeat(33)] {
            assert!(check_name("kind", wrong, '-').is_err(), "{wrong}");
        }
        assert!(is_version("0.1.0") && is_version("1.2.3-rc.1"));
        assert!(!is_version("1.2") && !is_version("") && !is_version("a.b.c"));
    }

    #[test]
    fn sections_are_the_plugins_own() {
        let section =
            |name: &str| switchyard_sdk::manifest::Section { name: name.into(), ..Default::default() };
        let manifest = |sections: Vec<_>| Manifest { sections, ..Manifest::default() };
        assert!(check_manifest(&manifest(vec![section("call_park")])).is_ok());
        assert!(check_manifest(&manifest(vec![section("resiliency")])).is_err());
        assert!(check_manifest(&manifest(vec![section("outbound")])).is_err());
        assert!(check_manifest(&manifest(vec![section("a"), section("a")])).is_err());
    }
}
