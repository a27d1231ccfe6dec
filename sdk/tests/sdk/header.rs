//! Writes `include/switchyard.h` from `src/abi.rs`: a C plugin sees what the Rust definitions say, words included.
//!
//! The test fails when the file is behind; `UPDATE_EXPECT=1 cargo test -p switchyard-sdk header` writes it anew.

#![expect(clippy::unwrap_used, reason = "part of a test")]

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::expect_file;
use switchyard_sdk::abi;
use syn::{Attribute, Expr, Fields, Item, Lit, Meta, PointerMutability, ReturnType, Type, TypeFnPtr};

const HEAD: &str = r#"/* switchyard.h: what a Switchyard plugin in C needs.
 *
 * Written from sdk/src/abi.rs by the SDK's tests; not to be edited. Values named `*_json` are JSON; their
 * fields are those of the Rust types named beside them (sdk/src/types.rs, sdk/src/ext/). A missing field has its
 * default, an unknown one is ignored. An example lies in sdk/examples/c-plugin/.
 */
#ifndef SWITCHYARD_H
#define SWITCHYARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"#;

const TAIL: &str = r#"
/* What the library exports: one constant entry under this name. */
#if defined(_WIN32)
__declspec(dllexport)
#elif defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const sy_plugin_entry switchyard_plugin;

#ifdef __cplusplus
}
#endif

#endif /* SWITCHYARD_H */
"#;

/// How wide a comment may be.
const WIDTH: usize = 110;

#[test]
fn the_header_says_what_the_rust_definitions_say() {
    let source = include_str!("../../src/abi.rs");
    let header = Header::of(&syn::parse_file(source).expect("abi.rs is Rust"));
    expect_file!["../../include/switchyard.h"].assert_eq(&header);
}

/// The C names of what links in doc comments may point to.
#[derive(Default)]
struct Header {
    names: BTreeMap<String, String>,
    text: String,
}

impl Header {
    fn of(file: &syn::File) -> String {
        let mut header = Self { text: HEAD.to_owned(), ..Self::default() };
        for item in &file.items {
            header.learn(item);
        }
        let about = docs(&file.attrs);
        let about = header.translate(about.split("Plugin authors in Rust").next().unwrap_or(&about));
        header.text.push('\n');
        header.comment("", &about);
        header.text.push('\n');
        for item in &file.items {
            if let Item::Struct(item) = item {
                let name = type_name(&item.ident.to_string());
                writeln!(header.text, "typedef struct {name} {name};").unwrap();
            }
        }
        for item in &file.items {
            header.item(item);
        }
        header.text + TAIL
    }

    /// Learns the C name of an item before any comment is written.
    fn learn(&mut self, item: &Item) {
        match item {
            Item::Const(item) => self.name(&item.ident.to_string(), upper(&[&item.ident.to_string()])),
            Item::Struct(item) => self.name(&item.ident.to_string(), type_name(&item.ident.to_string())),
            Item::Type(item) => self.name(&item.ident.to_string(), type_name(&item.ident.to_string())),
            Item::Mod(module) => {
                let name = module.ident.to_string();
                self.name(&name, format!("{}_*", upper(&[&name])));
                for item in module.content.iter().flat_map(|(_, items)| items) {
                    if let Item::Const(item) = item {
                        let path = format!("{name}::{}", item.ident);
                        self.name(&path, upper(&[&name, &item.ident.to_string()]));
                    }
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, rust: &str, c: String) {
        self.names.insert(rust.to_owned(), c);
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Const(item) => {
                self.text.push('\n');
                let value = match item.ident.to_string().as_str() {
                    "MAGIC" => format!("UINT64_C({:#x})", abi::MAGIC),
                    "ENTRY_SYMBOL" => format!("{:?}", abi::ENTRY_SYMBOL),
                    _ => literal(&item.expr),
                };
                self.constant(&[&item.ident.to_string()], &item.attrs, &value);
            }
            Item::Mod(module) => {
                self.text.push('\n');
                self.doc("", &module.attrs);
                self.text.push('\n');
                for item in module.content.iter().flat_map(|(_, items)| items) {
                    let Item::Const(item) = item else { panic!("a module with more than constants") };
                    let path = [&module.ident.to_string()[..], &item.ident.to_string()[..]];
                    self.constant(&path, &item.attrs, &literal(&item.expr));
                }
            }
            Item::Type(item) => {
                self.text.push('\n');
                self.doc("", &item.attrs);
                let Type::FnPtr(function) = &*item.ty else { panic!("an alias of something else") };
                let name = type_name(&item.ident.to_string());
                let declared = declaration(function, &name);
                writeln!(self.text, "typedef {declared};").unwrap();
            }
            Item::Struct(item) => {
                let name = item.ident.to_string();
                self.text.push('\n');
                self.doc("", &item.attrs);
                let Fields::Named(fields) = &item.fields else { panic!("a struct without names") };
                writeln!(self.text, "struct {} {{", type_name(&name)).unwrap();
                for field in &fields.named {
                    self.doc("    ", &field.attrs);
                    let ident = field.ident.as_ref().expect("a named field").to_string();
                    let declared = match &field.ty {
                        Type::FnPtr(function) => declaration(function, &ident),
                        other => declared(other, &ident),
                    };
                    writeln!(self.text, "    {declared};").unwrap();
                }
                self.text.push_str("};\n");
            }
            Item::Impl(item) => {
                // The ids of the extensions.
                let Type::Path(path) = &*item.self_ty else { return };
                let owner = path.path.segments.last().expect("a path").ident.to_string();
                for item in &item.items {
                    if let syn::ImplItem::Const(item) = item {
                        self.text.push('\n');
                        let path = [&snake(&owner)[..], &item.ident.to_string()[..]];
                        self.constant(&path, &item.attrs, &literal(&item.expr));
                    }
                }
            }
            _ => {}
        }
    }

    fn constant(&mut self, path: &[&str], attrs: &[Attribute], value: &str) {
        self.doc("", attrs);
        writeln!(self.text, "#define {} {value}", upper(path)).unwrap();
    }

    fn doc(&mut self, indent: &str, attrs: &[Attribute]) {
        let text = self.translate(&docs(attrs));
        self.comment(indent, &text);
    }

    /// Rust paths in links become C names.
    fn translate(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("[`") {
            let Some(end) = rest[start..].find("`]").map(|end| start + end) else { break };
            out.push_str(&rest[..start]);
            let path = rest[start + 2..end].trim_start_matches("crate::");
            let field =
                path.split_once("::").and_then(|(owner, field)| Some((self.names.get(owner)?, field)));
            match (self.names.get(path), field) {
                (Some(name), _) => out.push_str(name),
                (None, Some((owner, field))) => write!(out, "{owner}.{field}").unwrap(),
                (None, None) => out.push_str(path),
            }
            rest = &rest[end + 2..];
        }
        out.push_str(rest);
        out
    }

    fn comment(&mut self, indent: &str, text: &str) {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|paragraph| !paragraph.is_empty())
            .collect();
        if let [only] = &paragraphs[..]
            && indent.len() + only.len() + 6 <= WIDTH
        {
            writeln!(self.text, "{indent}/* {only} */").unwrap();
            return;
        }
        let mut start = "/*";
        for (at, paragraph) in paragraphs.iter().enumerate() {
            if at > 0 {
                writeln!(self.text, "{indent} *").unwrap();
            }
            for line in wrap(paragraph, WIDTH - indent.len() - 6) {
                writeln!(self.text, "{indent}{start} {line}").unwrap();
                start = " *";
            }
        }
        let end = self.text.pop();
        debug_assert_eq!(end, Some('\n'));
        self.text.push_str(" */\n");
    }
}

/// The lines of the doc comment.
fn docs(attrs: &[Attribute]) -> String {
    let mut text = String::new();
    for attr in attrs {
        if let Meta::NameValue(pair) = &attr.meta
            && pair.path.is_ident("doc")
        {
            text.push_str(&literal(&pair.value).trim_matches('"').replace("\\\"", "\""));
            text.push('\n');
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one at least");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn literal(expr: &Expr) -> String {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_digits().to_owned(),
            Lit::Str(text) => format!("\"{}\"", text.value()),
            _ => panic!("a constant that is neither number nor text"),
        },
        Expr::Unary(unary) => format!("(-{})", literal(&unary.expr)),
        _ => panic!("a constant that is computed"),
    }
}

/// A function pointer as C declares it.
fn declaration(function: &TypeFnPtr, name: &str) -> String {
    let result = match &function.output {
        ReturnType::Default => "void ".to_owned(),
        ReturnType::Type(_, kind) => declared(kind, ""),
    };
    let arguments: Vec<String> = function
        .inputs
        .iter()
        .map(|argument| {
            let (ident, _) = argument.name.as_ref().expect("arguments have names: they are documentation");
            declared(&argument.ty, &ident.to_string())
        })
        .collect();
    format!("{result}(*{name})({})", arguments.join(", "))
}

/// `const uint8_t *ptr`.
fn declared(kind: &Type, name: &str) -> String {
    match kind {
        Type::Ptr(pointer) => {
            let constant =
                if matches!(pointer.mutability, PointerMutability::Mut(_)) { "" } else { "const " };
            format!("{constant}{}*{name}", declared(&pointer.elem, ""))
        }
        Type::Path(path) => {
            let ident = path.path.segments.last().expect("a path").ident.to_string();
            let c = match ident.as_str() {
                "u8" => "uint8_t".to_owned(),
                "u32" => "uint32_t".to_owned(),
                "u64" => "uint64_t".to_owned(),
                "i32" => "int32_t".to_owned(),
                "usize" => "size_t".to_owned(),
                "c_void" => "void".to_owned(),
                ours => type_name(ours),
            };
            format!("{c} {name}")
        }
        _ => panic!("a type C does not have"),
    }
}

/// `CallV1` is `sy_call_v1`.
fn type_name(rust: &str) -> String {
    format!("sy_{}", snake(rust))
}

fn snake(rust: &str) -> String {
    let mut name = String::new();
    for (at, c) in rust.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

fn upper(path: &[&str]) -> String {
    format!("SY_{}", path.join("_").to_uppercase())
}
