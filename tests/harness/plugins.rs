//! The plugin libraries as this build made them, opened once for all worlds of a process: a world has its own
//! instances, and opening a library for each of ten thousand worlds would fill the memory with its copies.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::{LazyLock, Mutex};

use switchyard_host::plugin::Plugins;
use switchyard_sdk::abi::PluginEntry;

static OPENED: LazyLock<Mutex<BTreeMap<&'static str, &'static PluginEntry>>> = LazyLock::new(Mutex::default);

/// The entries of these libraries, which lie beside the test.
pub fn entries(names: &[&'static str]) -> Vec<&'static PluginEntry> {
    let mut opened = OPENED.lock().unwrap();
    names.iter().map(|name| *opened.entry(name).or_insert_with(|| open(name))).collect()
}

fn open(name: &str) -> &'static PluginEntry {
    // The image stays mapped when the folder goes.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plugins.d");
    std::fs::create_dir(&dir).unwrap();
    let file = format!("lib{name}.so");
    symlink(std::env::current_exe().unwrap().with_file_name(&file), dir.join(&file)).unwrap();
    let plugins = Plugins::load(&dir, None, &folder.path().join("var"));
    assert!(plugins.refused().is_empty(), "{:?}", plugins.refused());
    plugins.entries().next().unwrap()
}
