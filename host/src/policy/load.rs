//! From a bundle to the policies of all pools: files run, settings converted, tests of the files passed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, Table, Value};
use serde::Serialize;
use serde_json::Value as Json;

use super::args::Trampolines;
use super::budget::{Budget, Limits};
use super::fault::Fault;
use super::layer::{Content, Layer, Leaf, Node, Origin, Tree};
use super::sandbox::{Dice, Sandbox, caller};
use super::scan::Scan;
use super::schema::{Field, Fields, Schema, Shape};
use super::{Bundle, Diagnostic, duration, resiliency};
use crate::near::nearest;

/// The file that speaks for pools without one of their own.
const DEFAULT: &str = "default.lua";

/// A whole revision: a Lua state and what was made in it.
pub(crate) struct Prepared {
    pub(crate) sandbox: Sandbox,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) trampolines: Trampolines,
    pools: BTreeMap<String, Pool>,
    /// For pools without a file.
    fallback: Pool,
}

/// The policy of one pool.
pub(crate) struct Pool {
    /// Its file; none when only the documented defaults hold.
    pub(crate) file: Option<String>,
    sections: BTreeMap<String, Rc<Terms>>,
    hooks: BTreeMap<String, Hook>,
    pub(crate) explained: Vec<Explained>,
}

/// The settings of a section.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) name: String,
    pub(crate) json: Json,
    /// The same as text, made once per revision.
    pub(crate) text: String,
}

/// Something that can be asked per decision.
pub(crate) struct Hook {
    pub(crate) terms: Rc<Terms>,
    /// What the file has for it.
    pub(crate) function: Option<(Function, Origin)>,
    /// Whether it is allowed when there is no function, and when the function fails.
    pub(crate) allowed: bool,
    pub(crate) allowed_by_default: bool,
    /// The setting of the same name, if there is one.
    pub(crate) setting: Option<String>,
}

/// One value of a pool's policy and where it comes from, for `switchyard policy explain`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explained {
    /// `call_park.pickup_timeout`.
    pub path: String,
    /// As one would write it: `"3m"`, `true`, `none`, `function`.
    pub value: String,
    /// The file it stands in; none: the documented default.
    pub file: Option<String>,
    /// The line in it; 0 without a file.
    pub line: u32,
}

impl Prepared {
    /// Prepares a bundle, or says everything that is wrong with it.
    pub(crate) fn new(
        schema: &Rc<Schema>,
        bundle: Arc<Bundle>,
        limits: &Limits,
        dice: &Dice,
    ) -> Result<Prepared, Vec<Diagnostic>> {
        let broken = |error: Error| vec![Diagnostic::of_file("policies", super::fault::text(&error))];
        let sandbox = Sandbox::new(limits.clone(), dice).map_err(broken)?;
        let budget = sandbox.budget.clone();
        let begin = sandbox.lua.create_function(move |lua, ()| budget.begin_call(lua)).map_err(broken)?;
        let trampolines = Trampolines::new(begin);
        let workshop = Rc::new(Workshop::new(bundle.clone(), schema.clone()));
        sandbox.lua.set_app_data(workshop.clone());
        let mut pools = BTreeMap::new();
        for file in bundle.names() {
            if let Some(pool) = pool_of(file)
                && let Some(loaded) = workshop.load(&sandbox, Some(file))
            {
                pools.insert(pool.to_owned(), loaded);
            }
        }
        let fallback = workshop.load(&sandbox, bundle.get(DEFAULT).map(|_| DEFAULT));
        workshop.open.set(false);
        match (workshop.take_errors(), fallback) {
            (errors, Some(fallback)) if errors.is_empty() => {
                Ok(Prepared { sandbox, bundle, trampolines, pools, fallback })
            }
            (errors, _) => Err(errors),
        }
    }

    /// The policy of a pool, be it known or not.
    pub(crate) fn pool(&self, name: &str) -> &Pool {
        self.pools.get(name).unwrap_or(&self.fallback)
    }

    /// Pools that have a file of their own.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(String::as_str)
    }
}

impl Pool {
    /// The settings of a section.
    pub(crate) fn terms(&self, section: &str) -> Option<&Rc<Terms>> {
        self.sections.get(section)
    }

    /// The settings of all sections, as a JSON object each.
    pub(crate) fn settings(&self) -> serde_json::Map<String, serde_json::Value> {
        self.sections.iter().map(|(name, terms)| (name.clone(), terms.json.clone())).collect()
    }

    /// What a hook's full name stands for.
    pub(crate) fn hook(&self, name: &str) -> Option<&Hook> {
        self.hooks.get(name)
    }
}

/// `west` of `pools/west.lua`.
fn pool_of(file: &str) -> Option<&str> {
    file.strip_prefix("pools/")?.strip_suffix(".lua").filter(|pool| !pool.contains('/'))
}

/// Where files are loaded: what they share, and what is wrong with them.
pub(crate) struct Workshop {
    bundle: Arc<Bundle>,
    pub(crate) schema: Rc<Schema>,
    scans: RefCell<BTreeMap<String, Rc<Scan>>>,
    errors: RefCell<BTreeSet<Diagnostic>>,
    /// The files of the pool being loaded, in the order they were first asked for.
    files: RefCell<Vec<String>>,
    open: Cell<bool>,
}

/// A file of the pool being loaded.
enum Module {
    /// It runs; whoever requires it now closes a circle.
    Running,
    Done(Value),
}

/// The loading of one pool: its globals, and the files that ran in them.
struct Session {
    budget: Rc<Budget>,
    modules: RefCell<BTreeMap<String, Module>>,
    globals: RefCell<Option<Table>>,
}

impl Workshop {
    fn new(bundle: Arc<Bundle>, schema: Rc<Schema>) -> Workshop {
        Workshop {
            bundle,
            schema,
            scans: RefCell::default(),
            errors: RefCell::default(),
            files: RefCell::default(),
            open: Cell::new(true),
        }
    }

    /// Whether files are being loaded; later nothing is extended any more.
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Notes a mistake. One that several pools meet in a shared file is noted once.
    pub(crate) fn complain(&self, at: Origin, message: String) {
        let diagnostic = Diagnostic { file: at.file.to_string(), line: at.line, column: at.column, message };
        self.errors.borrow_mut().insert(diagnostic);
    }

    fn complain_of(&self, error: &Error, file: &str) {
        let mut diagnostic = Fault::of(error).diagnostic(file);
        // Lua shortens long names in messages to their end.
        if let Some(end) = diagnostic.file.strip_prefix("...")
            && let Some(whole) = self.bundle.names().find(|name| name.ends_with(end))
        {
            diagnostic.file = whole.to_owned();
        }
        self.errors.borrow_mut().insert(diagnostic);
    }

    fn take_errors(&self) -> Vec<Diagnostic> {
        std::mem::take(&mut *self.errors.borrow_mut()).into_iter().collect()
    }

    /// Where a key stands that was passed to a call at `file:line`: as a key there, else as a key in another file
    /// of the same pool (a table from `lib/`), else as a word, else the call.
    pub(crate) fn locate(&self, file: &str, line: u32, path: &[String]) -> Origin {
        let files = self.files.borrow();
        let others = files.iter().map(String::as_str).filter(|other| *other != file);
        let found = std::iter::once((file, line))
            .chain(others.map(|other| (other, 0)))
            .find_map(|(file, line)| Some((file, self.scan(file)?.find(path, line)?)));
        let found = found.or_else(|| Some((file, self.scan(file)?.word(path.last()?)?)));
        match found {
            Some((file, place)) => Origin { file: file.into(), line: place.line, column: Some(place.column) },
            None => Origin { file: file.into(), line, column: None },
        }
    }

    fn scan(&self, file: &str) -> Option<Rc<Scan>> {
        let text = self.bundle.get(file)?;
        let mut scans = self.scans.borrow_mut();
        if !scans.contains_key(file) {
            scans.insert(file.to_owned(), Rc::new(Scan::of(text)));
        }
        scans.get(file).cloned()
    }

    /// Loads the policy of one pool. `None`: something is wrong, and noted.
    fn load(self: &Rc<Self>, sandbox: &Sandbox, file: Option<&str>) -> Option<Pool> {
        let before = self.errors.borrow().len();
        let layer = match file {
            None => None,
            Some(file) => {
                self.files.borrow_mut().clear();
                let result = self.run(sandbox, file);
                Some(result.map_err(|error| self.complain_of(&error, file)).ok()?)
            }
        };
        let empty = Rc::new(Tree::new());
        let tree = layer.as_ref().map_or(&empty, |layer| &layer.tree);
        let pool = self.resolve(file, tree);
        if self.errors.borrow().len() > before {
            return None; // Tests of a wrong policy would only repeat what is wrong.
        }
        for (name, test, origin) in layer.iter().flat_map(|layer| layer.tests.iter()) {
            let result = guarded(sandbox, Some(0), |_| {
                let policy = layer.clone().map(|layer| sandbox.lua.create_userdata(layer)).transpose()?;
                test.call::<()>(policy)
            });
            if let Err(error) = result {
                let fault = Fault::of(&error);
                let at = match &fault.place {
                    Some((file, line)) => Origin { file: file.as_str().into(), line: *line, column: None },
                    None => origin.clone(),
                };
                self.complain(at, format!("test {name}: {}", fault.message));
            }
        }
        (self.errors.borrow().len() == before).then_some(pool)
    }

    fn run(self: &Rc<Self>, sandbox: &Sandbox, file: &str) -> mlua::Result<Layer> {
        let session = Rc::new(Session {
            budget: sandbox.budget.clone(),
            modules: RefCell::default(),
            globals: RefCell::default(),
        });
        let (workshop, asked) = (self.clone(), session.clone());
        let require =
            sandbox.lua.create_function(move |lua, name: String| workshop.require(lua, &asked, &name))?;
        *session.globals.borrow_mut() = Some(sandbox.environment(require)?);
        match guarded(sandbox, None, |lua| self.module(lua, &session, file))? {
            Value::UserData(data) => Ok(data.borrow::<Layer>()?.clone()),
            other => {
                Err(Error::runtime(format!("expected a policy to be returned, found {}", other.type_name())))
            }
        }
    }

    fn require(self: &Rc<Self>, lua: &Lua, session: &Session, name: &str) -> mlua::Result<Value> {
        if !self.is_open() {
            return Err(Error::runtime("require: only while the file is loaded, not when a hook is asked"));
        }
        let file = format!("{name}.lua");
        if self.bundle.get(&file).is_none() {
            let known: Vec<&str> = self.bundle.names().filter_map(|file| file.strip_suffix(".lua")).collect();
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!(", did you mean \"{near}\"?"),
                None => format!("; there are {}", known.join(", ")),
            };
            return Err(Error::runtime(format!("require: no file {file} in the policy directory{hint}")));
        }
        self.module(lua, session, &file)
    }

    /// Runs a file, once per pool. Files in `lib/` return what they like, all others a policy.
    fn module(self: &Rc<Self>, lua: &Lua, session: &Session, file: &str) -> mlua::Result<Value> {
        match session.modules.borrow().get(file) {
            Some(Module::Done(value)) => return Ok(value.clone()),
            Some(Module::Running) => {
                let by = caller(lua).map(|(by, _)| by).unwrap_or_default();
                return Err(Error::runtime(format!("require: {file} and {by} require each other")));
            }
            None => {}
        }
        session.modules.borrow_mut().insert(file.to_owned(), Module::Running);
        self.files.borrow_mut().push(file.to_owned());
        let text = self.bundle.get(file).unwrap_or_default();
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let globals = session.globals.borrow().clone();
        let globals = globals.ok_or_else(|| Error::runtime("no globals to run in"))?;
        let chunk = lua.load(text).set_name(format!("@{file}")).set_mode(ChunkMode::Text);
        let value: Value = {
            let _level = session.budget.nest()?;
            chunk.set_environment(globals).into_function()?.call(())?
        };
        let value = match value {
            value if file.starts_with("lib/") => value,
            Value::UserData(data) if data.is::<Layer>() => Value::UserData(data),
            Value::Table(table) => Value::UserData(lua.create_userdata(Layer::of_file(self, file, &table)?)?),
            other => {
                let line = text.lines().count();
                let found = other.type_name();
                return Err(Error::runtime(format!(
                    "{file}:{line}: expected the file to return base:extend {{ … }} or a table, found {found}"
                )));
            }
        };
        session.modules.borrow_mut().insert(file.to_owned(), Module::Done(value.clone()));
        Ok(value)
    }

    /// Settings, hooks and their origins, with the documented defaults where the tree says nothing.
    fn resolve(&self, file: Option<&str>, tree: &Tree) -> Pool {
        let mut pool = Pool {
            file: file.map(str::to_owned),
            sections: BTreeMap::new(),
            hooks: BTreeMap::new(),
            explained: Vec::new(),
        };
        for (name, field) in &self.schema.sections.0 {
            let Some(Shape::Table(fields)) = &field.shape else { continue };
            let empty = Tree::new();
            let tree = match tree.get(name) {
                Some(Node::Table(tree)) => tree,
                _ => &empty,
            };
            let mut found = Vec::new();
            let json = section(fields, tree, name, &mut pool.explained, &mut found);
            if name == resiliency::NAME
                && let Some((setting, message)) = resiliency::contradiction(&json)
            {
                let origin = match tree.get(setting).or_else(|| tree.get("allow_fast_detection")) {
                    Some(Node::Leaf(leaf)) => leaf.origin.clone(),
                    _ => Origin { file: file.unwrap_or(DEFAULT).into(), line: 0, column: None },
                };
                self.complain(origin, format!("{name}.{message}"));
            }
            let terms = Rc::new(Terms { name: name.clone(), text: json.to_string(), json });
            for FoundHook { path, field, function, value } in found {
                let boolean = |value: &Json| value.as_bool().unwrap_or(true);
                let hook = Hook {
                    terms: terms.clone(),
                    function,
                    allowed: boolean(&value),
                    allowed_by_default: boolean(&field.default),
                    setting: field.shape.as_ref().and(path.rsplit('.').next()).map(str::to_owned),
                };
                pool.hooks.insert(path, hook);
            }
            pool.sections.insert(name.clone(), terms);
        }
        pool
    }
}

struct FoundHook<'a> {
    path: String,
    field: &'a Field,
    function: Option<(Function, Origin)>,
    /// The setting of the same name.
    value: Json,
}

/// The settings of a table as JSON. Hooks and origins are collected on the way.
fn section<'a>(
    fields: &'a Fields,
    tree: &Tree,
    path: &str,
    explained: &mut Vec<Explained>,
    hooks: &mut Vec<FoundHook<'a>>,
) -> Json {
    let mut settings = serde_json::Map::new();
    for (name, field) in &fields.0 {
        let path = format!("{path}.{name}");
        let leaf = match (&field.shape, tree.get(name)) {
            (Some(Shape::Table(inner)), node) => {
                let empty = Tree::new();
                let tree = match node {
                    Some(Node::Table(tree)) => tree,
                    _ => &empty,
                };
                settings.insert(name.clone(), section(inner, tree, &path, explained, hooks));
                continue;
            }
            (_, Some(Node::Leaf(leaf))) => Some(leaf),
            _ => None,
        };
        let value = match leaf.map(|leaf| &leaf.content) {
            Some(Content::Setting { json, .. }) => json.clone(),
            _ => field.default.clone(),
        };
        let function = match leaf {
            Some(Leaf { content: Content::Hook(function), origin }) => {
                Some((function.clone(), origin.clone()))
            }
            _ => None,
        };
        if function.is_some() || leaf.is_some() || field.shape.is_some() {
            explained.push(Explained {
                path: path.clone(),
                value: if function.is_some() { "function".into() } else { written(field, &value) },
                file: leaf.map(|leaf| leaf.origin.file.to_string()),
                line: leaf.map_or(0, |leaf| leaf.origin.line),
            });
        }
        if field.shape.is_some() {
            settings.insert(name.clone(), value.clone());
        }
        if field.hook {
            hooks.push(FoundHook { path, field, function, value });
        }
    }
    Json::Object(settings)
}

/// A converted value as one would write it.
fn written(field: &Field, value: &Json) -> String {
    match (&field.shape, value) {
        (_, Json::Null) => "none".into(),
        (Some(Shape::Duration { .. }), Json::Number(number)) => {
            format!("{:?}", duration::print(number.as_u64().unwrap_or_default()))
        }
        (Some(Shape::Texts), Json::Array(texts)) if texts.is_empty() => "{}".into(),
        (Some(Shape::Texts), Json::Array(texts)) => {
            let texts: Vec<String> = texts.iter().map(Json::to_string).collect();
            format!("{{ {} }}", texts.join(", "))
        }
        (Some(Shape::Music), Json::String(word)) => (word == "default").to_string(),
        (Some(Shape::Music), Json::Object(file)) => file.get("file").unwrap_or(&Json::Null).to_string(),
        (_, value) => value.to_string(),
    }
}

/// Runs something in Lua under the budget for loading. `now` is the time it sees.
fn guarded<T>(
    sandbox: &Sandbox,
    now: Option<u64>,
    work: impl FnOnce(&Lua) -> mlua::Result<T>,
) -> mlua::Result<T> {
    let Sandbox { lua, budget, moment, .. } = sandbox;
    moment.begin(now);
    budget.begin_load(lua)?;
    let result = work(lua);
    let hit = budget.end(lua);
    moment.begin(None);
    match (result, hit) {
        (Err(_), Some((limit, place))) => {
            let place = place.map(|(file, line)| format!("{file}:{line}: ")).unwrap_or_default();
            Err(Error::runtime(format!("{place}stopped: {}", limit.words())))
        }
        (result, _) => result,
    }
}
