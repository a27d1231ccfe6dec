//! Reading a TOML tree key by key: every value with its place, every mistake collected, unknown keys noticed.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::words;
use crate::near::did_you_mean;

/// A place in the file, in bytes.
pub(super) type Span = Range<usize>;

/// Collects what is wrong.
pub(super) struct Report<'a> {
    file: PathBuf,
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl<'a> Report<'a> {
    pub fn new(file: &Path, text: &'a str) -> Self {
        Self { file: file.to_owned(), text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn error(&self, span: Span, key: &str, message: impl Into<String>) {
        self.errors.borrow_mut().push(self.place(span, key, message.into()));
    }

    pub fn warning(&self, span: Span, key: &str, message: impl Into<String>) {
        self.warnings.borrow_mut().push(self.place(span, key, message.into()));
    }

    /// The line in which something stands, from 1.
    pub fn line(&self, span: &Span) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    /// An error without consequences so far.
    pub fn place(&self, span: Span, key: &str, message: String) -> ConfigError {
        let mut end = span.start.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let position = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        ConfigError { file: self.file.clone(), position: Some(position), key: key.to_owned(), message }
    }

    /// The errors so far, if there are any, in the order of the file.
    pub fn stop_on_error(&self) -> Result<(), Vec<ConfigError>> {
        let errors = sorted(&self.errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The warnings, unless there are errors; both in the order of the file.
    pub fn finish(self) -> Result<Vec<ConfigError>, Vec<ConfigError>> {
        self.stop_on_error()?;
        Ok(sorted(&self.warnings))
    }
}

fn sorted(errors: &RefCell<Vec<ConfigError>>) -> Vec<ConfigError> {
    let mut errors = errors.borrow().clone();
    errors.sort();
    errors.dedup();
    errors
}

/// A table being read. Each key asked for becomes known; [`finish`](Section::finish) complains about the others.
pub(super) struct Section<'a, 'i> {
    report: &'a Report<'a>,
    table: Option<&'a DeTable<'i>>,
    /// Where the table's header or brace stands.
    pub span: Span,
    path: String,
    known: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub fn root(report: &'a Report<'a>, table: &'a Spanned<DeTable<'i>>) -> Self {
        Self { report, table: Some(table.get_ref()), span: 0..0, path: String::new(), known: Vec::new() }
    }

    /// Full name of a key of this table: `sip.listen`.
    pub fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Says that something about `key` is wrong.
    pub fn error(&self, span: Span, key: &str, message: impl Into<String>) {
        self.report.error(span, &self.key(key), message);
    }

    /// Whether the file has this table at all.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has `key` here, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where a list stands with nothing in it.
    pub fn empty_list(&self, key: &str) -> Option<Span> {
        let value = self.table?.get(key)?;
        matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()).then(|| value.span())
    }

    fn get(&mut self, key: &'static str) -> Option<(Span, &'a Spanned<DeValue<'i>>)> {
        self.known.push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        Some((name.span(), value))
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'i>>, expected: &str) {
        self.error(value.span(), key, format!("expected {expected}, found {}", show(value.get_ref())));
    }

    /// A key this version knows and refuses.
    pub fn unavailable(&mut self, key: &'static str, why: &str) {
        if let Some((span, _)) = self.get(key) {
            self.error(span, key, format!("not available in this version; {why}"));
        }
    }

    /// A key this version knows, but not here.
    pub fn unexpected(&mut self, key: &'static str, why: &str) {
        if let Some((span, _)) = self.get(key) {
            self.error(span, key, why);
        }
    }

    /// A key nobody looks at.
    pub fn ignore(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Text, as it stands.
    pub fn text(&mut self, key: &'static str, expected: &str) -> Option<Spanned<String>> {
        let (_, value) = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.to_string())),
            _ => {
                self.wrong_type(key, value, expected);
                None
            }
        }
    }

    /// Text that `parse` understands; its error is the message.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let text = self.text(key, expected)?;
        match parse(text.get_ref()) {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(message) => {
                self.error(text.span(), key, message);
                None
            }
        }
    }

    /// Like [`parsed`](Self::parsed), but the key must be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        if !self.has(key) {
            self.known.push(key);
            self.error(self.span.clone(), key, format!("missing, expected {expected}"));
            return None;
        }
        self.parsed(key, expected, parse)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        let expected = names.join(" or ");
        self.parsed(key, &expected, |text| {
            words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
                let near = did_you_mean(text, words.iter().map(|(name, _)| *name));
                format!("expected {expected}, found {text:?}{near}")
            })
        })
        .map(Spanned::into_inner)
    }

    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some((_, value)) = self.get(key) else { return default };
        match value.get_ref() {
            DeValue::Boolean(value) => *value,
            _ => {
                self.wrong_type(key, value, "true or false");
                default
            }
        }
    }

    /// A whole number within `range`.
    pub fn count(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some((_, value)) = self.get(key) else { return default };
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match value.get_ref() {
            DeValue::Integer(number) => match usize::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) if range.contains(&number) => number,
                _ => {
                    self.wrong_type(key, value, &expected);
                    default
                }
            },
            _ => {
                self.wrong_type(key, value, &expected);
                default
            }
        }
    }

    /// A time within `range`: `"90s"`.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.parsed(key, "a time such as \"90s\"", |text| {
            let duration = words::duration(text)?;
            if range.contains(&duration) {
                Ok(duration)
            } else {
                let [least, most] = [*range.start(), *range.end()].map(words::show_duration);
                Err(format!("expected a time from {least} to {most}, found {text:?}"))
            }
        })
        .map_or(default, Spanned::into_inner)
    }

    /// A list of texts, or one text alone. Absent: `None`.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Spanned<T>>> {
        let (_, value) = self.get(key)?;
        let single = std::slice::from_ref(value);
        let items = match value.get_ref() {
            DeValue::Array(items) => items.as_ref(),
            DeValue::String(_) => single,
            _ => {
                self.wrong_type(key, value, expected);
                return None;
            }
        };
        let mut list = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => match parse(text) {
                    Ok(value) => list.push(Spanned::new(item.span(), value)),
                    Err(message) => self.error(item.span(), key, message),
                },
                _ => self.wrong_type(key, item, "text"),
            }
        }
        Some(list)
    }

    /// A table inside this one. If the file lacks it, an empty one that stands where this one stands.
    pub fn section(&mut self, key: &'static str) -> Section<'a, 'i> {
        let path = self.key(key);
        let mut section =
            Section { report: self.report, table: None, span: self.span.clone(), path, known: Vec::new() };
        if let Some((name, value)) = self.get(key) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    section.table = Some(table);
                    section.span = name;
                }
                _ => self.wrong_type(key, value, &format!("a table, [{}]", section.path)),
            }
        }
        section
    }

    /// The tables of `[[key]]`, in the order of the file.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a, 'i>> {
        let Some((_, value)) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, &format!("tables, each under [[{key}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section {
                    report: self.report,
                    table: Some(table),
                    span: item.span(),
                    path: format!("{}[{index}]", self.key(key)),
                    known: Vec::new(),
                }),
                _ => self.wrong_type(key, item, &format!("a table under [[{key}]]")),
            }
        }
        sections
    }

    /// Complains about keys nobody asked for.
    pub fn finish(self) {
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            let text = name.get_ref().as_ref();
            if !self.known.contains(&text) {
                let near = did_you_mean(text, self.known.iter().copied());
                let known = if near.is_empty() {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!(", expected one of {}", known.join(", "))
                } else {
                    near
                };
                self.error(name.span(), text, format!("unknown key{known}"));
            }
        }
    }
}

/// A value as a person would name it.
fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(value) => format!("the date {value}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
