//! The arguments of a hook, handed to Lua as plain tables, quickly.
//!
//! Setting a field of a Lua table from Rust costs sixty nanoseconds; a table constructor in Lua's own code costs
//! ten per field. So for each *shape* of arguments (its keys and how they nest) there is a small Lua function that
//! takes the leaves as parameters and builds the tables: `function(hook, a1, a2) begin() return hook({ how = a1,
//! parker = { user = a2 } }) end`. Hooks are asked with the same few shapes again and again.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Either, Function, Lua, Result, Table, Value, Variadic};
use serde_json::Value as Json;

/// Shapes kept. Arguments of other shapes are built field by field, four times slower.
const SHAPES_MAX: usize = 64;
/// Lua allows 200 local variables, parameters included.
const LEAVES_MAX: usize = 150;
/// Nesting of objects in a shape; Lua's compiler allows some more.
const DEPTH_MAX: usize = 16;

/// The functions that build arguments and call a hook with them.
pub(crate) struct Trampolines {
    /// Told that the arguments are there and the budget begins.
    begin: Function,
    shapes: RefCell<Vec<Rc<Shape>>>,
}

struct Shape {
    keys: Vec<Key>,
    call: Function,
}

/// Objects flattened in order: each key, then what it holds; `Close` ends an object.
#[derive(PartialEq, Eq, Debug)]
enum Key {
    Leaf(Box<str>),
    Open(Box<str>),
    Close,
}

/// A parameter, in a form that mlua pushes without a detour.
type Leaf<'a> = Option<Either<&'a str, Either<i64, Either<bool, Either<f64, Table>>>>>;

impl Trampolines {
    pub(crate) fn new(begin: Function) -> Trampolines {
        Trampolines { begin, shapes: RefCell::default() }
    }

    /// Calls a hook. An array of arguments becomes several parameters, anything else one.
    pub(crate) fn call(&self, lua: &Lua, hook: &Function, args: &Json) -> Result<Value> {
        if let Json::Object(_) = args {
            let shape = self.shapes.borrow().iter().find(|shape| shape.fits(args)).cloned();
            let shape = match shape {
                Some(shape) => Some(shape),
                None => self.learn(lua, args)?,
            };
            if let Some(shape) = shape {
                let mut leaves = Vec::with_capacity(shape.keys.len());
                flatten(lua, args, &mut leaves)?;
                return shape.call.call((hook, Variadic::from_iter(leaves)));
            }
        }
        let values = match args {
            Json::Array(several) => several.iter().map(|one| value(lua, one)).collect::<Result<Vec<_>>>()?,
            one => vec![value(lua, one)?],
        };
        self.begin.call::<()>(())?;
        hook.call(Variadic::from_iter(values))
    }

    /// Makes a function for a new shape; none if there are too many, or it is too large.
    fn learn(&self, lua: &Lua, args: &Json) -> Result<Option<Rc<Shape>>> {
        let mut shapes = self.shapes.borrow_mut();
        let mut made = Maker { keys: Vec::new(), leaves: 0, constructor: String::new() };
        if shapes.len() >= SHAPES_MAX || !made.object(args, 0) || made.leaves > LEAVES_MAX {
            return Ok(None);
        }
        let parameters: String = (1..=made.leaves).map(|index| format!(", a{index}")).collect();
        let script = format!(
            "local begin = ... return function(hook{parameters}) begin() return hook({}) end",
            made.constructor
        );
        let call: Function = lua.load(script).set_name("=switchyard").into_function()?.call(&self.begin)?;
        let shape = Rc::new(Shape { keys: made.keys, call });
        shapes.push(shape.clone());
        Ok(Some(shape))
    }
}

impl Shape {
    fn fits(&self, args: &Json) -> bool {
        let mut keys = self.keys.iter();
        fits(args, &mut keys) && keys.next().is_none()
    }
}

fn fits<'a>(value: &Json, keys: &mut impl Iterator<Item = &'a Key>) -> bool {
    let Json::Object(fields) = value else { return false };
    for (name, value) in fields {
        let same = match (keys.next(), value) {
            (Some(Key::Open(key)), Json::Object(_)) => **key == **name && fits(value, keys),
            (Some(Key::Leaf(key)), value) => **key == **name && !value.is_object(),
            _ => false,
        };
        if !same {
            return false;
        }
    }
    keys.next() == Some(&Key::Close)
}

fn flatten<'a>(lua: &Lua, value: &'a Json, leaves: &mut Vec<Leaf<'a>>) -> Result<()> {
    leaves.push(match value {
        Json::Object(fields) => return fields.values().try_for_each(|value| flatten(lua, value, leaves)),
        Json::Null => None,
        Json::String(text) => Some(Either::Left(text)),
        Json::Number(number) => Some(Either::Right(match number.as_i64() {
            Some(number) => Either::Left(number),
            None => Either::Right(Either::Right(Either::Left(number.as_f64().unwrap_or_default()))),
        })),
        Json::Bool(value) => Some(Either::Right(Either::Right(Either::Left(*value)))),
        Json::Array(items) => {
            Some(Either::Right(Either::Right(Either::Right(Either::Right(list(lua, items)?)))))
        }
    });
    Ok(())
}

struct Maker {
    keys: Vec<Key>,
    leaves: usize,
    constructor: String,
}

impl Maker {
    /// False when it nests too deeply.
    fn object(&mut self, value: &Json, depth: usize) -> bool {
        let Json::Object(fields) = value else { return false };
        if depth > DEPTH_MAX {
            return false;
        }
        self.constructor.push('{');
        for (name, value) in fields {
            self.constructor.push_str(&format!("[{}]=", quoted(name)));
            if value.is_object() {
                self.keys.push(Key::Open(name.as_str().into()));
                if !self.object(value, depth + 1) {
                    return false;
                }
            } else {
                self.leaves += 1;
                self.keys.push(Key::Leaf(name.as_str().into()));
                self.constructor.push_str(&format!("a{}", self.leaves));
            }
            self.constructor.push(',');
        }
        self.keys.push(Key::Close);
        self.constructor.push('}');
        true
    }
}

/// A Lua string literal. Names come from plugins: nothing of them may be read as code.
fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => quoted.push(char::from(byte)),
            other => quoted.push_str(&format!("\\{other:03}")),
        }
    }
    quoted.push('"');
    quoted
}

fn value(lua: &Lua, json: &Json) -> Result<Value> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Number(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => Value::Table(list(lua, items)?),
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, field) in fields {
                table.raw_set(name.as_str(), value(lua, field)?)?;
            }
            Value::Table(table)
        }
    })
}

fn list(lua: &Lua, items: &[Json]) -> Result<Table> {
    let table = lua.create_table_with_capacity(items.len(), 0)?;
    for item in items {
        table.raw_push(value(lua, item)?)?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::Cell;

    fn call(lua: &Lua, trampolines: &Trampolines, script: &str, args: &Json) -> String {
        let hook = lua.load(script).eval::<Function>().unwrap();
        let value = trampolines.call(lua, &hook, args).unwrap();
        value.to_string().unwrap()
    }

    fn trampolines(lua: &Lua) -> (Trampolines, Rc<Cell<u32>>) {
        let begun = Rc::new(Cell::new(0));
        let seen = begun.clone();
        let begin = lua.create_function(move |_, ()| {
            seen.set(seen.get() + 1);
            Ok(())
        });
        (Trampolines::new(begin.unwrap()), begun)
    }

    #[test]
    fn arguments_arrive_as_written() {
        let lua = Lua::new();
        let (trampolines, begun) = trampolines(&lua);
        let args = json!({
            "how": "refer", "n": 3, "x": 1.5, "yes": true, "no": null, "empty": {},
            "parker": { "user": "bob", "groups": ["sales", "desk"], "deep": { "er": -1 } },
        });
        let script = "function(r) return table.concat({ r.how, r.n, r.x, tostring(r.yes), tostring(r.no), \
                      next(r.empty) or 'empty', r.parker.user, r.parker.groups[2], r.parker.deep.er }, ' ') end";
        let expected = "refer 3 1.5 true nil empty bob desk -1";
        for _ in 0..3 {
            assert_eq!(call(&lua, &trampolines, script, &args), expected);
        }
        assert_eq!(trampolines.shapes.borrow().len(), 1, "the shape is learnt once");
        assert_eq!(begun.get(), 3);
    }

    #[test]
    fn other_keys_are_another_shape() {
        let lua = Lua::new();
        let (trampolines, _) = trampolines(&lua);
        let script =
            "function(r) return tostring(r.a) .. tostring(type(r.b) == 'table' and r.b.c or r.b) end";
        for (args, expected) in [
            (json!({ "a": 1, "b": 2 }), "12"),
            (json!({ "a": 1, "b": { "c": 3 } }), "13"),
            (json!({ "a": 1 }), "1nil"),
            (json!({ "a": 1, "b": {} }), "1table"),
            (json!({ "a": "x", "b": null }), "xnil"),
        ] {
            // `type(r.b) == 'table' and r.b.c or r.b` of an empty table prints the table itself.
            let script =
                if expected == "1table" { "function(r) return '1' .. type(r.b) end" } else { script };
            assert_eq!(call(&lua, &trampolines, script, &args), expected, "{args}");
        }
        assert_eq!(trampolines.shapes.borrow().len(), 4);
    }

    #[test]
    fn lists_and_scalars_are_parameters() {
        let lua = Lua::new();
        let (trampolines, begun) = trampolines(&lua);
        let script = "function(free, call) return free[1] .. call.user end";
        assert_eq!(call(&lua, &trampolines, script, &json!([["7001"], { "user": "bob" }])), "7001bob");
        assert_eq!(call(&lua, &trampolines, "function(x) return x end", &json!("x")), "x");
        assert_eq!(call(&lua, &trampolines, "function(x) return tostring(x) end", &Json::Null), "nil");
        assert_eq!(begun.get(), 3);
    }

    #[test]
    fn names_are_never_code() {
        let lua = Lua::new();
        let (trampolines, _) = trampolines(&lua);
        let name = "x\"] = 1, [os] = \\ \n é";
        let script = "function(r) local k, v = next(r) return k .. v end";
        assert_eq!(call(&lua, &trampolines, script, &json!({ name: "!" })), format!("{name}!"));
    }

    #[test]
    fn too_many_shapes_and_too_many_fields_still_work() {
        let lua = Lua::new();
        let (trampolines, _) = trampolines(&lua);
        let script = "function(r) local n = 0 for _ in pairs(r) do n = n + 1 end return tostring(n) end";
        for n in 0..300 {
            let args: Json = (0..n).map(|key| (format!("k{key}"), json!(key))).collect();
            let args = if args.is_null() { json!({}) } else { args };
            assert_eq!(call(&lua, &trampolines, script, &args), n.to_string());
        }
        assert_eq!(trampolines.shapes.borrow().len(), SHAPES_MAX);
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({ "d": deep });
        }
        let script = "function(r) local n = 0 while type(r) == 'table' do r = r.d n = n + 1 end return tostring(n) end";
        assert_eq!(call(&lua, &trampolines, script, &deep), "100");
    }
}
