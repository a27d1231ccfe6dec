//! Users: the verbs, and how a password comes in without anybody seeing it.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::Failure;
use super::arguments::{UserCommand, UserSettings};
use super::client::{Client, segment};
use super::table;
use super::verbs::{Column, Done, between, done, now_ms, present, show_list, text, yes_no};
use crate::directory::CallRules;

pub(super) fn user(
    verb: &UserCommand,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Done {
    match verb {
        UserCommand::List => {
            let columns: [Column<'_>; 7] = [
                ("USER", &|u| text(&u["name"])),
                ("EXTENSION", &|u| text(&u["extension"])),
                ("NAME", &|u| text(&u["display"])),
                ("POOL", &|u| text(&u["pool"])),
                ("PICKUP GROUP", &|u| text(&u["pickup_group"])),
                ("MAY PARK", &|u| yes_no(&u["may_park"])),
                ("PHONES", &|u| u["bindings"].as_array().map_or(0, Vec::len).to_string()),
            ];
            show_list(&client.get("users")?, json, out, "There are no users.", &columns)
        }
        UserCommand::Show { name } => show_user(&client.get(&format!("users/{}", segment(name)))?, json, out),
        UserCommand::Add { name, pool, settings, password_stdin } => {
            let mut user = fields(settings);
            user.extend(present([("pool", pool)]));
            user.insert("name".to_owned(), json!(name));
            user.insert("password".to_owned(), json!(password(name, *password_stdin)?));
            show_changed(&client.post("users", user)?, json, out, err)
        }
        UserCommand::Remove { name } => {
            let answer = client.delete(&format!("users/{}", segment(name)))?;
            done(&answer, json, out, &format!("user {name} removed"))
        }
        UserCommand::Set { name, settings, password: ask, password_stdin } => {
            let mut change = fields(settings);
            if *ask || *password_stdin {
                change.insert("password".to_owned(), json!(password(name, *password_stdin)?));
            }
            show_changed(&client.patch(&format!("users/{}", segment(name)), change)?, json, out, err)
        }
        UserCommand::UnsetPickup { name } => {
            let change = json!({ "pickup_group": null });
            show_user(&client.patch(&format!("users/{}", segment(name)), change)?, json, out)
        }
    }
}

/// A user that was added or changed, and what the host thinks of that.
fn show_changed(user: &Value, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> Done {
    for warning in user["warnings"].as_array().into_iter().flatten().filter(|_| !json) {
        writeln!(err, "warning: {}", table::printable(&text(warning)))?;
    }
    show_user(user, json, out)
}

fn show_user(user: &Value, json: bool, out: &mut dyn Write) -> Done {
    if json {
        return Ok(writeln!(out, "{user:#}")?);
    }
    let mut pairs = vec![
        ("user", text(&user["name"])),
        ("extension", text(&user["extension"])),
        ("name", text(&user["display"])),
        ("pool", text(&user["pool"])),
        ("pickup group", groups(user)),
        ("may park", yes_no(&user["may_park"])),
        ("may retrieve", yes_no(&user["may_retrieve"])),
    ];
    let rules: Vec<String> = CallRules::KEYS
        .iter()
        .filter(|key| !user[**key].is_null())
        .map(|key| format!("{key}={}", text(&user[*key])))
        .collect();
    pairs.extend(rules.into_iter().map(|rule| ("rule", rule)));
    let now_ms = now_ms();
    for binding in user["bindings"].as_array().into_iter().flatten() {
        let left = between(Some(now_ms), binding["expires"].as_u64());
        pairs.push((
            "phone",
            format!("{} at {}, for {left}", text(&binding["contact"]), text(&binding["flow"])),
        ));
    }
    Ok(table::print_pairs(out, &pairs)?)
}

fn groups(user: &Value) -> String {
    let further = text(&user["further_pickup_groups"]);
    let main = text(&user["pickup_group"]);
    if further.is_empty() { main } else { format!("{main}, {further}") }
}

/// What was given of a user's settings.
fn fields(settings: &UserSettings) -> Map<String, Value> {
    let UserSettings { may_park, may_retrieve, pickup_group, extension, display, rule } = settings;
    let mut fields = Map::new();
    for (key, text) in [("pickup_group", pickup_group), ("extension", extension), ("display", display)] {
        let value = text.as_deref().map(|text| if text.is_empty() { Value::Null } else { json!(text) });
        fields.extend(value.map(|value| (key.to_owned(), value)));
    }
    for (key, value) in [("may_park", may_park), ("may_retrieve", may_retrieve)] {
        if let Some(value) = value {
            fields.insert(key.to_owned(), json!(value));
        }
    }
    for (key, value) in rule {
        // Lists are told from texts by the host, which knows the keys.
        let value = match value.as_str() {
            "" => Value::Null,
            list if list.contains(',') => json!(list.split(',').map(str::trim).collect::<Vec<_>>()),
            text => json!(text),
        };
        fields.insert(key.clone(), value);
    }
    fields
}

/// A password from the first line of standard input, or asked for twice on the terminal.
fn password(user: &str, from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        let password = line.trim_end_matches(['\r', '\n']);
        return match password {
            "" => Err(Failure("--password-stdin: expected a password on the first line".to_owned())),
            password => Ok(password.to_owned()),
        };
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|error| {
            Failure(format!("the password cannot be asked for ({error}); give it with --password-stdin"))
        })
    };
    let password = ask(&format!("Password of {user}: "))?;
    if password.is_empty() {
        return Err(Failure("expected a password".to_owned()));
    }
    if ask("Again: ")? != password {
        return Err(Failure("the two differ".to_owned()));
    }
    Ok(password)
}
