//! What a policy file says, in layers: `default.lua`, what extends it, what extends that.
//!
//! In Lua a layer is a userdata that can be read and extended but not changed; in Rust it is a tree whose leaves
//! know their file and line. Each layer is checked against the schema when it is made, so that a mistake is told
//! where it stands and not where it is used.

use std::collections::BTreeMap;
use std::rc::Rc;

use mlua::{AnyUserData, Error, Function, Lua, Result, Table, UserData, UserDataMethods, Value};
use serde_json::Value as Json;

use super::load::Workshop;
use super::sandbox::{Sentinel, caller};
use super::schema::{Field, Fields, Given, Shape};
use crate::near::nearest;

/// Settings and hooks as far as files mention them.
pub(crate) type Tree = BTreeMap<String, Node>;

/// One key of a tree.
#[derive(Clone)]
pub(crate) enum Node {
    Table(Rc<Tree>),
    Leaf(Leaf),
}

/// A value and where it was written.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) content: Content,
    pub(crate) origin: Origin,
}

#[derive(Clone)]
pub(crate) enum Content {
    /// Converted for whoever asks, and as the author wrote it.
    Setting {
        json: Json,
        written: Value,
    },
    Hook(Function),
    /// Explicitly no hook.
    NoHook,
    /// The documented default again. Gone once layers are merged.
    Unset,
}

/// Where something was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) file: Rc<str>,
    pub(crate) line: u32,
    pub(crate) column: Option<u32>,
}

/// A test of a policy file: its name, its function, where it is written.
pub(crate) type Test = (String, Function, Origin);

/// A policy table in Lua: all of it, or one section of it.
#[derive(Clone)]
pub(crate) struct Layer {
    path: Vec<String>,
    pub(crate) tree: Rc<Tree>,
    /// Of the newest layer only: what extends a policy has tests of its own.
    pub(crate) tests: Rc<[Test]>,
}

impl Layer {
    /// The layer of a plain table that a file returned.
    pub(crate) fn of_file(workshop: &Workshop, file: &str, table: &Table) -> Result<Layer> {
        let empty = Layer { path: Vec::new(), tree: Rc::new(Tree::new()), tests: Rc::new([]) };
        empty.extended(workshop, &(file.to_owned(), 0), &Value::Table(table.clone()))
    }

    fn extended(&self, workshop: &Workshop, call: &(String, u32), over: &Value) -> Result<Layer> {
        let mut reader = Reader { workshop, call, path: self.path.clone(), tests: Vec::new() };
        let over = match over {
            Value::Table(table) => {
                let field = workshop.schema.at(self.path.iter().map(String::as_str));
                let fields = match field.map(|field| &field.shape) {
                    None => &workshop.schema.sections,
                    Some(Some(Shape::Table(fields))) => fields,
                    Some(_) => return Err(Error::runtime("extend: not a table of settings")),
                };
                Rc::new(reader.table(table, fields)?)
            }
            Value::UserData(data) => match data.borrow::<Layer>() {
                Ok(layer) if layer.path == self.path => layer.tree.clone(),
                _ => return Err(Error::runtime("extend: expected a table of the same kind, found another")),
            },
            other => {
                let text = format!("extend: expected a table, found {}", other.type_name());
                return Err(Error::runtime(text));
            }
        };
        Ok(Layer { path: self.path.clone(), tree: merged(&self.tree, &over), tests: reader.tests.into() })
    }

    /// A plain table of what can be read: for `pairs`.
    pub(crate) fn as_table(&self, lua: &Lua) -> Result<Table> {
        let table = lua.create_table()?;
        for key in self.tree.keys() {
            table.raw_set(key.as_str(), self.get(lua, key)?)?;
        }
        Ok(table)
    }

    fn get(&self, lua: &Lua, key: &str) -> Result<Value> {
        Ok(match self.tree.get(key) {
            None => Value::Nil,
            Some(Node::Table(tree)) => {
                let mut path = self.path.clone();
                path.push(key.to_owned());
                let layer = Layer { path, tree: tree.clone(), tests: Rc::new([]) };
                Value::UserData(lua.create_userdata(layer)?)
            }
            Some(Node::Leaf(leaf)) => match &leaf.content {
                Content::Setting { written, .. } => written.clone(),
                Content::Hook(function) => Value::Function(function.clone()),
                Content::NoHook | Content::Unset => Value::Nil,
            },
        })
    }
}

impl UserData for Layer {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_function("extend", |lua, (this, over): (Value, Value)| {
            let workshop = match lua.app_data_ref::<Rc<Workshop>>() {
                Some(workshop) if workshop.is_open() => workshop.clone(),
                _ => {
                    return Err(Error::runtime(
                        "extend: only while the file is loaded, not when a hook is asked",
                    ));
                }
            };
            let this = match &this {
                Value::UserData(data) => data.borrow::<Layer>().map(|layer| layer.clone()).ok(),
                _ => None,
            };
            let this = this.ok_or_else(|| Error::runtime("extend: write base:extend { … }, with a colon"))?;
            let call = caller(lua).unwrap_or_default();
            this.extended(&workshop, &call, &over)
        });
        methods.add_meta_method("__index", |lua, this, key: Value| match &key {
            Value::String(key) => this.get(lua, &key.to_string_lossy()),
            _ => Ok(Value::Nil),
        });
        methods.add_meta_method("__newindex", |_, _, (key, _): (Value, Value)| {
            let key = key.as_string().map(|key| key.to_string_lossy()).unwrap_or_default();
            Err::<(), _>(Error::runtime(format!(
                "{key}: a policy is not changed in place, use base:extend {{ … }}"
            )))
        });
    }
}

/// `over` on top of `base`: tables key by key, everything else replaced.
fn merged(base: &Rc<Tree>, over: &Tree) -> Rc<Tree> {
    let mut tree = (**base).clone();
    for (key, node) in over {
        match (tree.get(key), node) {
            (_, Node::Leaf(Leaf { content: Content::Unset, .. })) => {
                tree.remove(key);
            }
            (Some(Node::Table(below)), Node::Table(above)) => {
                let both = merged(below, above);
                tree.insert(key.clone(), Node::Table(both));
            }
            (None, Node::Table(above)) => {
                // Merged with nothing, so that what is unset inside goes away too.
                tree.insert(key.clone(), Node::Table(merged(&Rc::default(), above)));
            }
            (_, node) => {
                tree.insert(key.clone(), node.clone());
            }
        }
    }
    Rc::new(tree)
}

/// Turns a Lua table into a tree, noting every mistake in it.
struct Reader<'a> {
    workshop: &'a Workshop,
    call: &'a (String, u32),
    path: Vec<String>,
    tests: Vec<Test>,
}

impl Reader<'_> {
    fn table(&mut self, table: &Table, fields: &Fields) -> Result<Tree> {
        let mut tree = Tree::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Some(key) = key.as_string().map(|key| key.to_string_lossy()) else {
                let found = given(&key, &mut None).words();
                let place =
                    if self.path.is_empty() { String::new() } else { format!("{}: ", self.path.join(".")) };
                self.complain(format!(
                    "{place}expected name = value, found an item without a name ([{found}])"
                ));
                continue;
            };
            self.path.push(key.clone());
            match fields.0.get(&key) {
                Some(field) => {
                    if let Some(node) = self.node(&value, field)? {
                        tree.insert(key, node);
                    }
                }
                None if key == "tests" && self.path.len() == 1 => self.tests(&value)?,
                // A section of a plugin that is not loaded: what it says matters again when the plugin is.
                None if self.path.len() == 1
                    && matches!(&value, Value::Table(table) if table.raw_len() == 0)
                    && nearest(&key, fields.0.keys().map(String::as_str)).is_none() =>
                {
                    let Origin { file, line, .. } = self.origin();
                    tracing::warn!("policy: {file}:{line}: {key}: no plugin that is loaded has this section");
                }
                None => {
                    let what = if self.path.len() == 1 { "section" } else { "key" };
                    let message = fields.unknown(&self.path.join("."), &key, what);
                    self.complain(message);
                }
            }
            self.path.pop();
        }
        Ok(tree)
    }

    /// `None` when it is wrong, which has been noted.
    fn node(&mut self, value: &Value, field: &Field) -> Result<Option<Node>> {
        let sentinel = match value {
            Value::UserData(data) => data.borrow::<Sentinel>().map(|sentinel| *sentinel).ok(),
            _ => None,
        };
        let content = match (value, &field.shape) {
            _ if sentinel == Some(Sentinel::Unset) => Content::Unset,
            _ if sentinel == Some(Sentinel::None) && field.shape.is_none() => Content::NoHook,
            (Value::Function(function), _) if field.hook => Content::Hook(function.clone()),
            (Value::Table(table), Some(Shape::Table(fields))) => {
                return Ok(Some(Node::Table(Rc::new(self.table(table, fields)?))));
            }
            (Value::UserData(data), Some(Shape::Table(_))) if self.is_same_section(data) => {
                return Ok(Some(Node::Table(data.borrow::<Layer>()?.tree.clone())));
            }
            _ => {
                let mut text = None;
                match field.convert(&given(value, &mut text)) {
                    Ok(json) => Content::Setting { json, written: value.clone() },
                    Err(message) => {
                        self.complain(format!("{}: {message}", self.path.join(".")));
                        return Ok(None);
                    }
                }
            }
        };
        Ok(Some(Node::Leaf(Leaf { content, origin: self.origin() })))
    }

    fn is_same_section(&self, data: &AnyUserData) -> bool {
        data.borrow::<Layer>().is_ok_and(|layer| layer.path == self.path)
    }

    fn tests(&mut self, value: &Value) -> Result<()> {
        let Value::Table(table) = value else {
            self.complain(format!("tests: expected a table of functions, found {}", value.type_name()));
            return Ok(());
        };
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let name = given(&key, &mut None).words().trim_matches('"').to_owned();
            self.path.push(key.as_string().map(|key| key.to_string_lossy()).unwrap_or_default());
            match value {
                Value::Function(function) => self.tests.push((name, function, self.origin())),
                other => {
                    self.complain(format!("tests.{name}: expected a function, found {}", other.type_name()))
                }
            }
            self.path.pop();
        }
        self.tests.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(())
    }

    fn origin(&self) -> Origin {
        self.workshop.locate(&self.call.0, self.call.1, &self.path)
    }

    fn complain(&self, message: String) {
        self.workshop.complain(self.origin(), message);
    }
}

/// A Lua value as the schema sees it; `text` keeps the string it borrows.
pub(crate) fn given<'a>(value: &Value, text: &'a mut Option<String>) -> Given<'a> {
    match value {
        Value::Nil => Given::Other("nil"),
        Value::Boolean(value) => Given::Boolean(*value),
        Value::Integer(number) => Given::Integer(*number),
        Value::Number(number) => Given::of_number(*number),
        Value::String(value) => match value.to_str() {
            Ok(value) => Given::Text(text.insert(value.to_owned())),
            Err(_) => Given::Other("text that is not UTF-8"),
        },
        Value::Table(table) => {
            let texts: Option<Vec<String>> = table
                .sequence_values::<Value>()
                .map(|item| Some(item.ok()?.as_string()?.to_str().ok()?.to_owned()))
                .collect();
            match texts {
                Some(texts) if table.pairs::<Value, Value>().count() == texts.len() => Given::Texts(texts),
                _ if table.raw_len() > 0 => Given::Other("a list"),
                _ => Given::Other("a table"),
            }
        }
        Value::Function(_) => Given::Other("a function"),
        Value::UserData(data) => match data.borrow::<Sentinel>().map(|sentinel| *sentinel) {
            Ok(Sentinel::None) => Given::None,
            Ok(Sentinel::Unset) => Given::Other("unset"),
            Err(_) => Given::Other("a policy"),
        },
        _ => Given::Other("something else"),
    }
}
