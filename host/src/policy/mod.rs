//! The only mlua: settings and decisions, one revision at a time.

mod bundle;
mod diagnostic;
mod duration;
mod resiliency;
mod schema;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use switchyard_sdk::ext::policy::Decision;
use switchyard_sdk::manifest::Section;

pub use bundle::Bundle;
pub use diagnostic::Diagnostic;

use crate::time::Now;
use schema::{Schema, Shape};

/// The policies of all pools.
#[derive(Debug)]
pub struct Policies {
    revision: u64,
    settings: Vec<(String, String)>,
}

impl Policies {
    /// Prepares the policies of a bundle.
    pub fn new(
        sections: &[Section],
        _bundle: Arc<Bundle>,
        _pools: &[String],
        _seed: u64,
    ) -> Result<Policies, Vec<Diagnostic>> {
        let schema = Schema::new(sections)?;
        let mut settings = Vec::new();
        for (name, field) in &schema.sections.0 {
            if let Some(Shape::Table(fields)) = &field.shape {
                settings.push((name.clone(), fields.defaults().to_string()));
            }
        }
        Ok(Policies { revision: 1, settings })
    }

    /// Replaces the running policies, or leaves everything as it was.
    pub fn replace(&mut self, _bundle: Arc<Bundle>) -> Result<u64, Vec<Diagnostic>> {
        self.revision += 1;
        Ok(self.revision)
    }

    /// The settings of a section in the policy of a pool, as a JSON object.
    pub fn settings(&self, _pool: &str, section: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == section).map(|(_, text)| text.as_str())
    }

    /// Asks a hook. Never fails.
    pub fn decide(&mut self, _now: Now, pool: &str, hook: &str, _args: &Json) -> Decision {
        let section = hook.split('.').next().unwrap_or_default();
        let settings =
            self.settings(pool, section).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Decision { settings, revision: self.revision, ..Decision::default() }
    }

    /// `{revision, hash, pools: [{pool, file}], last_error}`.
    pub fn status(&self) -> Json {
        serde_json::json!({ "revision": self.revision })
    }

    /// The running revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

/// Everything that is wrong with the policies of a directory.
pub fn check(dir: &Path, sections: &[Section], pools: &[String]) -> Vec<Diagnostic> {
    match Bundle::read(dir) {
        Err(error) => vec![error],
        Ok(bundle) => Policies::new(sections, Arc::new(bundle), pools, 0).err().unwrap_or_default(),
    }
}
