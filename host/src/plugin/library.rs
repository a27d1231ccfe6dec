//! The only libloading: a library file becomes an entry, through a copy of its own.
#![expect(unsafe_code, reason = "opens libraries and reads their entry")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libloading::Library;
use switchyard_sdk::abi::{ENTRY_SYMBOL, PluginEntry};

use super::entry::{self, Description, Head};
use super::error::LoadError;

/// The last number given to a copy. The loader knows images by their path, so no path may be used twice in one
/// process, whoever loads.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A library that was opened and found to be a plugin. Never unmapped: a library that touched a thread-local
/// cannot be, and a late call into one that was is a crash.
pub(super) struct Opened {
    pub(super) entry: &'static PluginEntry,
    pub(super) description: Description,
    /// Number of the copy: `NAME.GENERATION.so`.
    pub(super) generation: u32,
}

/// The libraries of a directory, in the order of their names. Other files are none of ours.
pub(super) fn libraries_in(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |error: std::io::Error| LoadError::File { path: dir.to_owned(), why: error.to_string() };
    let mut libraries = Vec::new();
    for file in fs::read_dir(dir).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION) {
            libraries.push(path);
        }
    }
    libraries.sort();
    Ok(libraries)
}

/// Removes the copies that earlier runs left in `copies`. Images still mapped stay valid.
pub(super) fn clear_copies(copies: &Path) {
    let Ok(files) = fs::read_dir(copies) else { return };
    for file in files.flatten() {
        let path = file.path();
        let is_copy = path.file_stem().is_some_and(|stem| Path::new(stem).extension().is_some_and(is_number));
        if is_copy && path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION) {
            // One that cannot be removed does no harm: no copy is ever written over.
            let _ = fs::remove_file(path);
        }
    }
}

fn is_number(text: &std::ffi::OsStr) -> bool {
    text.to_str().is_some_and(|text| text.parse::<u32>().is_ok())
}

/// Copies a library into `copies` and opens the copy: writing over a mapped file would be a crash, and opening a
/// path twice gives the old image.
pub(super) fn open(path: &Path, copies: &Path) -> Result<Opened, LoadError> {
    let file = file_name(path);
    let failed = |path: &Path, error: std::io::Error| LoadError::File {
        path: path.to_owned(),
        why: error.to_string(),
    };
    fs::create_dir_all(copies).map_err(|error| failed(copies, error))?;
    let (copy, generation) = loop {
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
        let copy = copies.join(format!("{}.{generation}.{}", stem(path), std::env::consts::DLL_EXTENSION));
        if !copy.exists() {
            break (copy, generation);
        }
    };
    fs::copy(path, &copy).map_err(|error| failed(path, error))?;
    let opened = open_here(&copy, &file);
    // The image stays mapped without its name, and a host whose plugins are reloaded every day does not fill its disk.
    let _ = fs::remove_file(&copy);
    opened.map(|(entry, description)| Opened { entry, description, generation })
}

/// Opens a library where it is, to look at it: `switchyard plugin info FILE`.
pub(super) fn inspect(path: &Path) -> Result<Description, LoadError> {
    let absolute = path
        .canonicalize()
        .map_err(|error| LoadError::File { path: path.to_owned(), why: error.to_string() })?;
    open_here(&absolute, &file_name(path)).map(|(_, description)| description)
}

fn open_here(path: &Path, file: &str) -> Result<(&'static PluginEntry, Description), LoadError> {
    let no_plugin = |why: String| LoadError::NoPlugin { file: file.to_owned(), why };
    // SAFETY: opening runs the library's own initialisers; what lies in the plugin directory is trusted with
    // that, as it is with everything it does later in this process.
    let library = unsafe { Library::new(path) }
        .map_err(|error| no_plugin(format!("it is not a shared library ({})", reason(&error, path))))?;
    // SAFETY: the symbol is the address of a static; its type is checked below before more is read.
    let symbol = unsafe { library.get::<*const PluginEntry>(ENTRY_SYMBOL) }.map(|symbol| *symbol);
    // Whatever comes of it stays mapped: see `Opened`.
    std::mem::forget(library);
    let entry = symbol.map_err(|_| no_plugin(format!("it exports no {ENTRY_SYMBOL}")))?;
    if entry.is_null() || !entry.is_aligned() {
        return Err(no_plugin(format!("its {ENTRY_SYMBOL} cannot be read")));
    }
    // SAFETY: every entry of every ABI version begins with these fields, and the image is never unmapped.
    unsafe { &*entry.cast::<Head>() }.check(file)?;
    // SAFETY: magic, version and size say that a whole entry is there.
    let entry = unsafe { &*entry };
    Ok((entry, entry::describe(entry, file)?))
}

/// What the system's loader said, without the path of the copy.
fn reason(error: &libloading::Error, path: &Path) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.replace(&format!("{}: ", path.display()), "")
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// `libcall_park.so` is `call-park`, as the plugin most likely calls itself.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem.strip_prefix("lib").unwrap_or(&stem).replace('_', "-")
}
