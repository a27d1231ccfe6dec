//! Where the keys of a policy file stand.
//!
//! Lua forgets the line of a table's key once the table is made. This scanner reads the same text and remembers:
//! a lexer and a stack of open tables, brackets and blocks. It understands no Lua beyond that; a key it cannot
//! place (a computed one, say) gets the line of the call it was passed to.

use std::collections::BTreeMap;

/// A place in a file, both counted from 1; columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// All keys of one file.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Outermost table constructors, in the order of their opening braces.
    tables: Vec<Table>,
    /// `name.a.b = …` as statements: path with the name, place of the last word.
    assignments: Vec<(Vec<String>, Place)>,
    /// The first place of each name or one-line string.
    words: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Table {
    line: u32,
    keys: Vec<(Vec<String>, Place)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number,
    /// Any operator or bracket, by its first character; `==` and its like are not `=`.
    Sign(char),
}

impl Scan {
    /// Reads a file. Total: text that is no Lua gives keys that nobody asks for.
    pub(crate) fn of(text: &str) -> Scan {
        let tokens = lex(text);
        let mut scan = Scan::default();
        for (token, place) in &tokens {
            if let Token::Name(word) | Token::Text(word) = token {
                scan.words.entry(word.clone()).or_insert(*place);
            }
        }
        scan.walk(&tokens);
        scan
    }

    /// The place of a key, given its path in a table that was passed to a call on `line`.
    ///
    /// Tried in turn: that path in the table that begins on this line; in a later one; in any; the end of the path
    /// in a table or an assignment (for tables made in steps).
    pub(crate) fn find(&self, path: &[String], line: u32) -> Option<Place> {
        let exact =
            |table: &Table| table.keys.iter().find(|(found, _)| found == path).map(|(_, place)| *place);
        let begins_here = |table: &&Table| table.line == line;
        let tail = |found: &[String]| found.len() < path.len() && path.ends_with(found);
        None.or_else(|| self.tables.iter().filter(begins_here).find_map(exact))
            .or_else(|| self.tables.iter().filter(|table| table.line > line).find_map(exact))
            .or_else(|| self.tables.iter().find_map(exact))
            .or_else(|| {
                let assigned = self.assignments.iter().find(|(found, _)| found[1..].ends_with(path));
                assigned.map(|(_, place)| *place)
            })
            .or_else(|| {
                let mut keys = self.tables.iter().flat_map(|table| &table.keys);
                keys.find(|(found, _)| tail(found)).map(|(_, place)| *place)
            })
            .or_else(|| {
                let assigned = self.assignments.iter().find(|(found, _)| tail(&found[1..]));
                assigned.map(|(_, place)| *place)
            })
    }

    /// The first place of a bare word, when [`find`](Self::find) knows no key.
    pub(crate) fn word(&self, word: &str) -> Option<Place> {
        self.words.get(word).copied()
    }

    fn walk(&mut self, tokens: &[(Token, Place)]) {
        let mut open: Vec<Open> = Vec::new();
        // The path of the value that is about to come, when the last tokens were `key =` in a table.
        let mut next_table: Option<Vec<String>> = None;
        let mut before = Token::Sign(';');
        let mut index = 0;
        while let Some((token, place)) = tokens.get(index) {
            let at = |offset: usize| tokens.get(index + offset).map(|(token, _)| token);
            let fresh = matches!(before, Token::Sign('{' | ',' | ';'));
            let mut used = 1;
            match (token, open.last_mut()) {
                (Token::Name(key), Some(Open::Table { path, table }))
                    if fresh && at(1) == Some(&Token::Sign('=')) =>
                {
                    let path = joined(path, key);
                    self.tables[*table].keys.push((path.clone(), *place));
                    next_table = Some(path);
                    used = 2;
                }
                (Token::Sign('['), Some(Open::Table { path, table })) if fresh => {
                    if let (Some(Token::Text(key)), Some(Token::Sign(']')), Some(Token::Sign('='))) =
                        (at(1), at(2), at(3))
                    {
                        let path = joined(path, key);
                        self.tables[*table].keys.push((path.clone(), *place));
                        next_table = Some(path);
                        used = 4;
                    } else {
                        open.push(Open::Other(']'));
                    }
                }
                (Token::Sign('{'), _) => {
                    let parent = match (next_table.take(), open.last()) {
                        (Some(path), Some(Open::Table { table, .. })) => Some((path, *table)),
                        _ => None,
                    };
                    let (path, table) = parent.unwrap_or_else(|| {
                        self.tables.push(Table { line: place.line, keys: Vec::new() });
                        (Vec::new(), self.tables.len() - 1)
                    });
                    open.push(Open::Table { path, table });
                }
                (Token::Sign('}'), _) => {
                    while let Some(closed) = open.pop() {
                        if matches!(closed, Open::Table { .. }) {
                            break;
                        }
                    }
                }
                (Token::Sign('('), _) => open.push(Open::Other(')')),
                (Token::Sign('['), _) => open.push(Open::Other(']')),
                (Token::Sign(sign @ (')' | ']')), Some(Open::Other(closing))) if sign == closing => {
                    open.pop();
                }
                // `while` and `for` come with a `do`, so only these open what `end` or `until` closes.
                (Token::Name(word), _) if matches!(word.as_str(), "function" | "if" | "do" | "repeat") => {
                    open.push(Open::Block);
                }
                (Token::Name(word), Some(Open::Block)) if matches!(word.as_str(), "end" | "until") => {
                    open.pop();
                }
                (Token::Name(_), top)
                    if !matches!(top, Some(Open::Table { .. })) && before != Token::Sign('.') =>
                {
                    used = self.assignment(&tokens[index..]);
                }
                _ => {}
            }
            if !matches!(token, Token::Name(_) | Token::Sign('[')) || used == 1 {
                next_table = None;
            }
            index += used;
            before = tokens[index - 1].0.clone();
        }
    }

    /// Notes `name.a["b"].c =`; the number of tokens before the `=`, at least one.
    fn assignment(&mut self, tokens: &[(Token, Place)]) -> usize {
        let mut path = Vec::new();
        let mut place = None;
        let mut index = 0;
        let token = |index: usize| tokens.get(index).map(|(token, _)| token);
        if let Some(Token::Name(name)) = token(0) {
            path.push(name.clone());
            index = 1;
        }
        loop {
            match (token(index), token(index + 1), token(index + 2)) {
                (Some(Token::Sign('.')), Some(Token::Name(key)), _) => {
                    path.push(key.clone());
                    place = Some(tokens[index + 1].1);
                    index += 2;
                }
                (Some(Token::Sign('[')), Some(Token::Text(key)), Some(Token::Sign(']'))) => {
                    path.push(key.clone());
                    place = Some(tokens[index + 1].1);
                    index += 3;
                }
                (Some(Token::Sign('=')), ..) => {
                    if let Some(place) = place {
                        self.assignments.push((path, place));
                    }
                    return index.max(1);
                }
                _ => return 1,
            }
        }
    }
}

#[derive(Debug)]
enum Open {
    /// A table constructor: its path in the outermost one, and which that is.
    Table { path: Vec<String>, table: usize },
    /// A bracket, and what closes it.
    Other(char),
    /// `function … end` and its like: tables inside are constructors of their own.
    Block,
}

fn joined(path: &[String], key: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(key.to_owned());
    path
}

fn lex(text: &str) -> Vec<(Token, Place)> {
    let mut cursor = Cursor { rest: text, place: Place { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    while let Some(first) = cursor.peek() {
        let place = cursor.place;
        if first.is_whitespace() {
            cursor.take();
        } else if cursor.rest.starts_with("--") {
            cursor.take();
            cursor.take();
            if cursor.long_bracket().is_none() {
                while cursor.peek().is_some_and(|c| c != '\n') {
                    cursor.take();
                }
            }
        } else if first.is_ascii_alphabetic() || first == '_' {
            let word = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            tokens.push((Token::Name(word.to_owned()), place));
        } else if first.is_ascii_digit() {
            cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
            tokens.push((Token::Number, place));
        } else if first == '"' || first == '\'' {
            let word = cursor.quoted(first);
            tokens.push((Token::Text(word), place));
        } else if let Some(word) = (first == '[').then(|| cursor.long_bracket()).flatten() {
            tokens.push((Token::Text(word.to_owned()), place));
        } else {
            cursor.take();
            // Two-character operators whose parts would be taken for something else.
            let pair = matches!(
                (first, cursor.peek()),
                ('=' | '<' | '>' | '~', Some('=')) | ('.', Some('.')) | (':', Some(':'))
            );
            if pair {
                cursor.take();
            }
            tokens.push((Token::Sign(if pair { '\0' } else { first }), place));
        }
    }
    tokens
}

struct Cursor<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.peek()?;
        self.rest = &self.rest[taken.len_utf8()..];
        if taken == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(taken)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.take();
        }
        &start[..start.len() - self.rest.len()]
    }

    /// `[[…]]` or `[==[…]==]`; `None`, and nothing taken, if there is none here.
    fn long_bracket(&mut self) -> Option<&'a str> {
        let level = self.rest.strip_prefix('[')?.bytes().take_while(|byte| *byte == b'=').count();
        let inside = self.rest[1 + level..].strip_prefix('[')?;
        let closing = format!("]{}]", "=".repeat(level));
        let length = inside.find(&closing).unwrap_or(inside.len());
        let end = self.rest.len() - inside[length..].len();
        let end = (end + closing.len()).min(self.rest.len());
        let taken = self.rest;
        while taken.len() - self.rest.len() < end && self.take().is_some() {}
        Some(&inside[..length])
    }

    /// A string in quotes. Escapes stay as written: no key anybody spells with one is worth finding.
    fn quoted(&mut self, quote: char) -> String {
        self.take();
        let mut word = String::new();
        while let Some(next) = self.peek() {
            if next == '\n' {
                break; // Unfinished: Lua says so itself.
            }
            self.take();
            if next == quote {
                break;
            }
            word.push(next);
            if next == '\\'
                && let Some(escaped) = self.take()
            {
                word.push(escaped);
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, path: &str, line: u32) -> Option<(u32, u32)> {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        Scan::of(text).find(&path, line).map(|place| (place.line, place.column))
    }

    const WEST: &str = r#"-- call_park = { pickup_timeout = "no, a comment" }
local base = require "default"
--[[ call_park = {
  pickup_timeout = 1 } ]]
local text = [==[ { call_park = ]==]
return base:extend {
  call_park = {
    pickup_timeout = "3m", max_recall_attempts = 2,
    ["on_timeout_uri"] = "sip:a@b",
    allow = function(request)
      local t = { pickup_timeout = 7 }
      if request.x == 1 then return { music_on_hold = false } end
      return t[1] ~= nil
    end,
    music_on_hold = "west.wav";
  },
  resiliency = { allowed = { resilient = { park = true } } },
}
"#;

    #[test]
    fn keys_of_nested_tables_have_their_lines_and_columns() {
        assert_eq!(find(WEST, "call_park", 6), Some((7, 3)));
        assert_eq!(find(WEST, "call_park.pickup_timeout", 6), Some((8, 5)));
        assert_eq!(find(WEST, "call_park.max_recall_attempts", 6), Some((8, 28)));
        assert_eq!(find(WEST, "call_park.on_timeout_uri", 6), Some((9, 5)));
        assert_eq!(find(WEST, "call_park.allow", 6), Some((10, 5)));
        assert_eq!(
            find(WEST, "call_park.music_on_hold", 6),
            Some((15, 5)),
            "the table goes on after the function"
        );
        assert_eq!(find(WEST, "resiliency.allowed.resilient.park", 6), Some((17, 44)));
        assert_eq!(find(WEST, "call_park.absent", 6), None);
    }

    #[test]
    fn tables_inside_functions_are_their_own() {
        assert_eq!(find(WEST, "pickup_timeout", 11), Some((11, 19)));
        assert_eq!(find(WEST, "music_on_hold", 12), Some((12, 39)));
    }

    #[test]
    fn tables_made_in_steps_are_found_by_the_end_of_the_path() {
        let text = "local t = { call_park = {} }\nt.call_park.max_recal_attempts = 4\nt[\"group\"].x = 1\nreturn base:extend(t)\n";
        assert_eq!(find(text, "call_park.max_recal_attempts", 4), Some((2, 13)));
        assert_eq!(find(text, "group.x", 4), Some((3, 12)));
        let text = "local park = {\n  pickup_timout = '1m' }\nreturn base:extend { call_park = park }\n";
        assert_eq!(find(text, "call_park.pickup_timout", 3), Some((2, 3)));
        let text = "local park = {}\npark.pickup_timout = '1m'\nreturn base:extend { call_park = park }\n";
        assert_eq!(find(text, "call_park.pickup_timout", 3), Some((2, 6)));
    }

    #[test]
    fn the_table_of_the_call_comes_first() {
        let text = "local a = base:extend { s = { n = 1 } }\nlocal b = base:extend {\n  s = { n = 2 } }\n";
        assert_eq!(find(text, "s.n", 1), Some((1, 31)));
        assert_eq!(find(text, "s.n", 2), Some((3, 9)));
    }

    #[test]
    fn comparisons_calls_and_list_items_are_no_keys() {
        let text = "x { a == 1, f(b == 2, { c = 3 }), d, [1] = 2, [k] = 3, e = 4 }";
        assert_eq!(find(text, "a", 1), None);
        assert_eq!(find(text, "d", 1), None);
        assert_eq!(find(text, "c", 1), Some((1, 25)));
        assert_eq!(find(text, "e", 1), Some((1, 56)));
    }

    #[test]
    fn any_text_is_survived() {
        for text in [
            "",
            "}",
            "{{{{",
            "]]",
            "[==[",
            "\"",
            "--[[",
            "end end until",
            "a.b.",
            "[\"x\"",
            "é = { ü = 1 }",
            "x.y[",
        ] {
            Scan::of(text);
        }
        let mut deep = "{ a = ".repeat(2_000);
        deep.push('1');
        Scan::of(&deep);
    }

    #[test]
    fn words_are_a_last_resort() {
        let scan = Scan::of("local key = 'pickup_' .. 'timout'\n t[key] = nothing\n");
        assert_eq!(scan.word("nothing"), Some(Place { line: 2, column: 11 }));
        assert_eq!(scan.word("pickup_timout"), None);
    }
}
