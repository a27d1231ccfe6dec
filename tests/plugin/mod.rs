//! Plugins as libraries: what is loaded, what is refused and in which words, what a panic in one does.

mod loading;
mod panics;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use switchyard_host::plugin::{FlowEnd, Plugins, PolicySource, Verb, Waiter};
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_sdk::ext::policy::Decision;
use switchyard_sdk::types::{FlowId, Offer};

/// A plugin directory and a data directory of a test's own.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(site.plugins()).unwrap();
        site
    }

    fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins.d")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("var")
    }

    /// Puts a library that cargo built beside this test into the plugin directory.
    fn install(&self, file: &str) -> &Self {
        let built = std::env::current_exe().unwrap().parent().unwrap().join(file);
        std::fs::copy(&built, self.plugins().join(file))
            .unwrap_or_else(|error| panic!("{}: {error}", built.display()));
        self
    }

    /// Compiles a C plugin into the plugin directory.
    fn compile(&self, source: &str, file: &str, defines: &[&str]) -> &Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // Aside first: writing into a library that is mapped would be the crash the host guards against.
        let fresh = self.dir.path().join(file);
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(root.join("sdk/include"))
            .args(defines.iter().map(|define| format!("-D{define}")))
            .arg("-o")
            .args([&fresh, &root.join(source)])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(fresh, self.plugins().join(file)).unwrap();
        self
    }

    fn write(&self, file: &str, content: &str) -> &Self {
        std::fs::write(self.plugins().join(file), content).unwrap();
        self
    }

    fn load(&self) -> Plugins {
        Plugins::load(&self.plugins(), None, &self.data())
    }

    fn start(&self) -> Plugins {
        let mut plugins = self.load();
        start(&mut plugins);
        plugins
    }
}

fn start(plugins: &mut Plugins) {
    plugins.start(now(), Rc::new(RefCell::new(NoPolicy)));
}

/// These plugins ask no policy.
struct NoPolicy;

impl PolicySource for NoPolicy {
    fn settings(&self, _pool: &str, _section: &str) -> Option<&str> {
        None
    }
    fn decide(&mut self, _now: Now, _pool: &str, _hook: &str, _args: &serde_json::Value) -> Decision {
        Decision::default()
    }
}

fn now() -> Now {
    Now { instant: Instant::ZERO, utc: Utc(1_800_000_000_000) }
}

fn refusals(plugins: &Plugins) -> Vec<String> {
    plugins.refused().iter().map(ToString::to_string).collect()
}

fn offer(plugins: &mut Plugins, kind: &str, service: &str) -> FlowId {
    let instance = plugins.for_kind(kind).or_else(|| plugins.for_service(kind)).unwrap();
    plugins.offer(now(), instance, &Offer::dialled(service))
}

/// The next command must be a watch; who waits.
fn watching(plugins: &mut Plugins) -> Waiter {
    let command = plugins.poll_command().unwrap();
    let Verb::Watch(token, _) = command.verb else { panic!("expected watch, got {command:?}") };
    Waiter { instance: command.instance, token }
}

/// What flows ended, and how, among the commands that are left.
fn ends(plugins: &mut Plugins) -> Vec<(FlowId, FlowEnd, String)> {
    let mut ends = Vec::new();
    while let Some(command) = plugins.poll_command() {
        if let Verb::FlowEnd(how, message) = command.verb {
            ends.push((command.flow, how, message));
        }
    }
    ends
}
