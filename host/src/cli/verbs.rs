//! Verbs that speak to a running host, and how their answers look.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::Failure;
use super::arguments::{CallCommand, OrbitCommand};
use super::client::{Client, segment};
use super::patience::telling;
use super::table;

pub(super) type Done = Result<(), Failure>;

pub(super) fn orbit(verb: &OrbitCommand, client: &Client, json: bool, out: &mut dyn Write) -> Done {
    match verb {
        OrbitCommand::List => {
            let ranges = client.get("orbits")?;
            show_list(&ranges, json, out, "There are no ranges.", &RANGE)
        }
        OrbitCommand::Add { name, from, to, kind, pool } => {
            let mut range = json!({ "name": name, "from": from, "to": to, "kind": kind });
            if let Some(pool) = pool {
                range["pool"] = json!(pool);
            }
            show_list(&one(client.post("orbits", range)?), json, out, "", &RANGE[..5])
        }
        OrbitCommand::Set { name, from, to, kind, pool } => {
            let change = present([("from", from), ("to", to), ("kind", kind), ("pool", pool)]);
            show_list(
                &one(client.patch(&format!("orbits/{}", segment(name)), change)?),
                json,
                out,
                "",
                &RANGE[..5],
            )
        }
        OrbitCommand::Remove { name, force } => {
            let force = if *force { "?force=true" } else { "" };
            let answer = client.delete(&format!("orbits/{}{force}", segment(name)))?;
            done(&answer, json, out, &format!("range {name} removed"))
        }
        OrbitCommand::Occupants => {
            let occupants = client.get("occupants")?;
            let now_ms = now_ms();
            let columns: [Column<'_>; 8] = [
                ("ORBIT", &|o| text(&o["number"])),
                ("STATE", &|o| state_of(o)),
                ("CALLER", &|o| text(&o["parked"])),
                ("PARKED BY", &|o| text(&o["parker"])),
                ("FOR", &|o| between(o["since"].as_u64(), Some(now_ms))),
                ("NEXT STEP IN", &|o| between(Some(now_ms), o["deadline"].as_u64())),
                ("RECALLS", &|o| recalls(o)),
                ("TOKEN", &|o| text(&o["token"])),
            ];
            show_list(&occupants, json, out, "No call is parked.", &columns)
        }
        OrbitCommand::Export => {
            let ranges = client.get("orbits")?;
            if json { Ok(writeln!(out, "{ranges:#}")?) } else { Ok(write!(out, "{}", export(&ranges))?) }
        }
    }
}

const RANGE: [Column<'_>; 6] = [
    ("RANGE", &|r| text(&r["name"])),
    ("FROM", &|r| text(&r["from"])),
    ("TO", &|r| text(&r["to"])),
    ("KIND", &|r| text(&r["kind"])),
    ("POOL", &|r| text(&r["pool"])),
    ("IN USE", &|r| format!("{} of {}", text(&r["occupied"]), text(&r["size"]))),
];

/// `parked`, `recalling Bob`, `connecting Carol`.
fn state_of(occupant: &Value) -> String {
    let whom = [&occupant["claimant"], &occupant["ringing"]].into_iter().find(|whom| !whom.is_null());
    [Some(&occupant["state"]), whom].into_iter().flatten().map(text).collect::<Vec<_>>().join(" ")
}

/// `0`, `1 of 2` while the first of two rings.
fn recalls(occupant: &Value) -> String {
    let most = Some(&occupant["recalls_max"]).filter(|most| !most.is_null());
    [Some(&occupant["recalls"]), most].into_iter().flatten().map(text).collect::<Vec<_>>().join(" of ")
}

/// `[[orbits]]` as they stand in the configuration file.
fn export(ranges: &Value) -> String {
    let mut file = String::new();
    for range in ranges.as_array().into_iter().flatten() {
        if !file.is_empty() {
            file.push('\n');
        }
        file.push_str("[[orbits]]\n");
        for key in ["name", "from", "to", "kind", "pool"] {
            let value = toml::Value::String(text(&range[key]));
            file.push_str(&format!("{key} = {value}\n"));
        }
    }
    file
}

pub(super) fn call(
    verb: &CallCommand,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Done {
    match verb {
        CallCommand::List => {
            let now_ms = now_ms();
            let columns: [Column<'_>; 4] = [
                ("CALL", &|c| text(&c["id"])),
                ("STATE", &|c| text(&c["state"])),
                ("FOR", &|c| between(c["since"].as_u64(), Some(now_ms))),
                ("PARTIES", &parties),
            ];
            show_list(&client.get("calls")?, json, out, "There are no calls.", &columns)
        }
        CallCommand::Show { id } => {
            let call = client.get(&format!("calls/{id}"))?;
            if json {
                return Ok(writeln!(out, "{call:#}")?);
            }
            let since = between(call["since"].as_u64(), Some(now_ms()));
            let pairs = [("call", text(&call["id"])), ("state", text(&call["state"])), ("for", since)];
            table::print_pairs(out, &pairs)?;
            writeln!(out)?;
            let columns: [Column<'_>; 5] = [
                ("LEG", &|l| text(&l["id"])),
                ("STATE", &|l| text(&l["state"])),
                ("WHO", &party),
                ("HELD", &|l| yes_no(&l["held"])),
                ("CALL-ID", &|l| text(&l["call_id"])),
            ];
            show_list(&call["legs"], false, out, "It has no legs.", &columns)
        }
        CallCommand::Park { id, parker, orbit } => {
            let mut park = json!({ "parker": parker });
            if let Some(orbit) = orbit {
                park["number"] = json!(orbit);
            }
            let parked = client.post(&format!("calls/{id}/park"), park)?;
            let words = format!("parked on {}, token {}", text(&parked["number"]), text(&parked["token"]));
            done(&parked, json, out, &words)
        }
        CallCommand::Ringing { group } => {
            let path = group
                .as_deref()
                .map_or_else(|| "ringing".to_owned(), |group| format!("ringing?group={}", segment(group)));
            let now_ms = now_ms();
            let columns: [Column<'_>; 5] = [
                ("CALL", &|c| text(&c["call"])),
                ("CALLER", &|c| text(&c["caller"])),
                ("RINGS AT", &|c| text(&c["callee"])),
                ("GROUPS", &|c| text(&c["groups"])),
                ("FOR", &|c| between(c["since"].as_u64(), Some(now_ms))),
            ];
            show_list(&client.get(&path)?, json, out, "No call rings.", &columns)
        }
        CallCommand::Pickup { id, user, group } => {
            let mut pickup = json!({ "user": user });
            if let Some(group) = group {
                pickup["group"] = json!(group);
            }
            let path = format!("calls/{id}/pickup");
            let answer = telling(&ringing(user), json, err, || client.post(&path, pickup))?;
            done(&answer, json, out, &format!("{user} has call {id}"))
        }
        CallCommand::Retrieve { number, user, token } => {
            let mut retrieve = json!({ "user": user });
            if let Some(token) = token {
                retrieve["token"] = json!(token);
            }
            let path = format!("occupants/{}/retrieve", segment(number));
            let leg = telling(&ringing(user), json, err, || client.post(&path, retrieve))?;
            done(&leg, json, out, &format!("{user} has the call that waited in {number}"))
        }
        CallCommand::Hangup { id } => {
            done(&client.delete(&format!("calls/{id}"))?, json, out, &format!("call {id} is being ended"))
        }
    }
}

fn ringing(user: &str) -> String {
    format!("ringing {} …", table::printable(user))
}

fn parties(call: &Value) -> String {
    let leg = |leg: &Value| format!("{}{}", party(leg), if leg["held"] == true { " (held)" } else { "" });
    call["legs"].as_array().into_iter().flatten().map(leg).collect::<Vec<_>>().join(", ")
}

pub(super) fn policy_status(client: &Client, json: bool, out: &mut dyn Write) -> Done {
    let status = client.get("policies")?;
    if json {
        return Ok(writeln!(out, "{status:#}")?);
    }
    let mut pairs = vec![("revision", text(&status["revision"])), ("hash", text(&status["hash"]))];
    for pool in status["pools"].as_array().into_iter().flatten() {
        pairs.push(("pool", format!("{}: {}", text(&pool["pool"]), text(&pool["file"]))));
    }
    let errors: Vec<&Value> = status["last_error"].as_array().into_iter().flatten().collect();
    if errors.is_empty() {
        pairs.push(("newest files", "in force".to_owned()));
    }
    for error in errors {
        pairs.push(("refused", text(error)));
    }
    Ok(table::print_pairs(out, &pairs)?)
}

pub(super) fn plugins(client: &Client, json: bool, out: &mut dyn Write) -> Done {
    let columns: [Column<'_>; 6] = [
        ("PLUGIN", &|p| text(&p["name"])),
        ("VERSION", &|p| text(&p["version"])),
        ("STATE", &|p| text(&p["state"])),
        ("KINDS", &|p| text(&p["kinds"])),
        ("SERVICES", &|p| text(&p["services"])),
        ("FLOWS", &|p| text(&p["flows"])),
    ];
    let list = client.get("plugins")?;
    if json {
        return Ok(writeln!(out, "{list:#}")?);
    }
    let (refused, taken): (Vec<Value>, Vec<Value>) = list
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .partition(|plugin| plugin["error"].is_string());
    show_list(&Value::Array(taken), false, out, "There are no plugins.", &columns)?;
    for plugin in refused {
        writeln!(out, "refused: {}", table::printable(&text(&plugin["error"])))?;
    }
    Ok(())
}

pub(super) fn plugin_reload(name: &str, client: &Client, json: bool, out: &mut dyn Write) -> Done {
    let plugin = client.post(&format!("plugins/{}/reload", segment(name)), json!({}))?;
    let [version, generation] = ["version", "generation"].map(|field| text(&plugin[field]));
    done(&plugin, json, out, &format!("{name} {version} runs, generation {generation}"))
}

pub(super) fn plugin(name: &str, client: &Client, json: bool, out: &mut dyn Write) -> Done {
    show_plugin(&client.get(&format!("plugins/{}", segment(name)))?, json, out)
}

/// What a plugin says about itself, then what else is known of it.
pub(super) fn show_plugin(object: &Value, json: bool, out: &mut dyn Write) -> Done {
    if json {
        return Ok(writeln!(out, "{object:#}")?);
    }
    let first = ["name", "version", "description", "kinds", "services", "extensions"];
    let fields = object.as_object();
    let rest = fields.into_iter().flat_map(|fields| fields.keys()).map(String::as_str);
    let names = first.into_iter().chain(rest.filter(|name| !first.contains(name)));
    let pairs: Vec<(&str, String)> = names.filter_map(|name| Some((name, text(object.get(name)?)))).collect();
    Ok(table::print_pairs(out, &pairs)?)
}

/// A column: its title, and what it shows of an element.
pub(super) type Column<'a> = (&'static str, &'a dyn Fn(&Value) -> String);

pub(super) fn show_list(
    list: &Value,
    json: bool,
    out: &mut dyn Write,
    empty: &str,
    columns: &[Column<'_>],
) -> Done {
    if json {
        return Ok(writeln!(out, "{list:#}")?);
    }
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return Ok(writeln!(out, "{empty}")?);
    }
    let head: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|(_, show)| show(item)).collect()).collect();
    Ok(table::print(out, &head, &rows)?)
}

pub(super) fn done(answer: &Value, json: bool, out: &mut dyn Write, words: &str) -> Done {
    if json { Ok(writeln!(out, "{answer:#}")?) } else { Ok(writeln!(out, "{}", table::printable(words))?) }
}

fn one(value: Value) -> Value {
    Value::Array(vec![value])
}

pub(super) fn present<const N: usize>(fields: [(&str, &Option<String>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_deref()?)))).collect()
}

/// A value without JSON's quotes; nothing for null; lists with commas.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

pub(super) fn yes_no(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => text(other),
    }
}

/// Who is at the other end of a leg: one of our users, or a URI.
fn party(leg: &Value) -> String {
    let user = text(&leg["user"]);
    if user.is_empty() { text(&leg["uri"]) } else { user }
}

/// The time from one moment to another, both in milliseconds: `1m20s`. Empty if one is missing.
pub(super) fn between(from_ms: Option<u64>, to_ms: Option<u64>) -> String {
    let (Some(from), Some(to)) = (from_ms, to_ms) else { return String::new() };
    let seconds = to.saturating_sub(from) / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds:02}s"),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line runs beside the engine, which never reads a clock"
)]
pub(super) fn now_ms() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exported_range_reads_back() {
        let ranges = json!([
            {"name": "east-park", "from": "7000", "to": "7099", "kind": "call-park", "pool": "east", "size": 100},
            {"name": "groups", "from": "*100", "to": "*199", "kind": "group-pickup", "pool": "ea\"st"}
        ]);
        let file: toml::Table = export(&ranges).parse().unwrap();
        let orbits = file["orbits"].as_array().unwrap();
        assert_eq!(orbits.len(), 2);
        assert_eq!(orbits[0]["to"].as_str(), Some("7099"));
        assert_eq!(orbits[1]["pool"].as_str(), Some("ea\"st"));
        assert!(orbits[0].get("size").is_none());
    }

    #[test]
    fn times_are_short() {
        assert_eq!(between(Some(0), Some(59_999)), "59s");
        assert_eq!(between(Some(0), Some(65_000)), "1m05s");
        assert_eq!(between(Some(0), Some(3_660_000)), "1h01m");
        assert_eq!(between(Some(5), Some(1)), "0s");
        assert_eq!(between(None, Some(1)), "");
    }
}
