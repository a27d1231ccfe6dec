//! `switchyard pool …`.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use super::arguments::{Moving, PoolCommand};
use super::client::{Client, segment};
use super::table;
use super::verbs::{Column, Done, between, done, now_ms, show_list, text};

/// How often it is looked how far a procedure is: often enough to show each step, rarely enough to be no load.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) fn pool(verb: &PoolCommand, client: &Client, json: bool, out: &mut dyn Write) -> Done {
    match verb {
        PoolCommand::List { all } => {
            let now_ms = now_ms();
            let columns: [Column<'_>; 7] = [
                ("POOL", &|p| text(&p["name"])),
                ("PHASE", &phase),
                ("FOR", &|p| between(p["since"].as_u64(), Some(now_ms))),
                ("SERVED BY", &served_by),
                ("BACKUP", &|p| text(&p["backup"])),
                ("HOSTS", &hosts),
                ("PARKED", &|p| text(&p["parked"])),
            ];
            let pools = client.get("pools")?;
            if json {
                return Ok(writeln!(out, "{pools:#}")?);
            }
            let (mut shown, mut replaced): (Vec<&Value>, Vec<&Value>) =
                pools.as_array().into_iter().flatten().partition(|pool| pool["replaced_by"].is_null());
            if *all {
                shown.append(&mut replaced);
            }
            show_list(&json!(shown), json, out, "There are no pools.", &columns)?;
            for pool in replaced {
                let line = format!(
                    "{} was replaced by {}; --all shows it",
                    text(&pool["name"]),
                    text(&pool["replaced_by"])
                );
                writeln!(out, "{}", table::printable(&line))?;
            }
            doubts(shown.into_iter(), out)
        }
        PoolCommand::Show { name } => {
            let pool = client.get(&path(name))?;
            if json {
                return Ok(writeln!(out, "{pool:#}")?);
            }
            show(&pool, out)?;
            doubts(std::iter::once(&pool), out)
        }
        PoolCommand::Failover { name, moving } => {
            let body = json!({ "dry_run": moving.dry_run, "by": moving.by });
            move_pool(client, name, "failover", &body, moving, json, out)
        }
        PoolCommand::Failback { name, disaster, moving } => {
            let body = json!({ "disaster": disaster, "dry_run": moving.dry_run, "by": moving.by });
            move_pool(client, name, "failback", &body, moving, json, out)
        }
        PoolCommand::Drain { host } => {
            let answer = client.post(&format!("hosts/{}/drain", segment(host)), json!({}))?;
            done(&answer, json, out, &format!("{host} passes its users on and takes no others"))
        }
        PoolCommand::Resume { host } => {
            let answer = client.post(&format!("hosts/{}/resume", segment(host)), json!({}))?;
            done(&answer, json, out, &format!("{host} serves again when it is its turn"))
        }
        PoolCommand::Reassign { name, to, users, moving } => {
            let body = json!({ "to": to, "users": users, "dry_run": moving.dry_run, "by": moving.by });
            move_pool(client, name, "reassign", &body, moving, json, out)
        }
    }
}

fn path(pool: &str) -> String {
    format!("pools/{}", segment(pool))
}

/// `fw1`, or that nobody does.
fn served_by(pool: &Value) -> String {
    let host = text(&pool["served_by"]);
    if host.is_empty() { "nobody".to_owned() } else { host }
}

/// `failed_over`, or which pool has the place of this one.
fn phase(pool: &Value) -> String {
    let by = text(&pool["replaced_by"]);
    if by.is_empty() { text(&pool["phase"]) } else { format!("replaced by {by}") }
}

/// What time alone brings about: `counts as lost in 4m 12s`.
fn upcoming(pool: &Value) -> String {
    let what = match pool["upcoming"]["what"].as_str() {
        Some("lost") => "counts as lost",
        Some("back") => "counts as back",
        Some("failover") => "fails over by its policy",
        Some("failback") => "goes home by its policy",
        Some("drained") => "parked calls are ended",
        _ => return String::new(),
    };
    format!("{what} in {}", between(Some(now_ms()), pool["upcoming"]["at"].as_u64()))
}

/// `fe1 (drained), fe2 (unreachable)`.
fn hosts(pool: &Value) -> String {
    let host = |host: &Value| {
        let drained = if host["drained"] == true { " (drained)" } else { "" };
        let trouble = if host["trouble"].is_string() { " (unreachable)" } else { "" };
        format!("{}{drained}{trouble}", text(&host["name"]))
    };
    pool["hosts"].as_array().into_iter().flatten().map(host).collect::<Vec<_>>().join(", ")
}

/// What is wrong with what the host that was asked has said.
fn doubts<'a>(pools: impl Iterator<Item = &'a Value>, out: &mut dyn Write) -> Done {
    let mut stale = false;
    for pool in pools {
        stale |= pool["stale"] == true;
        for host in pool["hosts"].as_array().into_iter().flatten().filter(|host| host["trouble"].is_string())
        {
            let line = format!(
                "{} is alive, and cannot be reached from the host that was asked (for {}): {}",
                text(&host["name"]),
                between(host["trouble_since"].as_u64(), Some(now_ms())),
                text(&host["trouble"])
            );
            writeln!(out, "{}", table::printable(&line))?;
        }
    }
    if stale {
        writeln!(out, "The host that was asked does not reach etcd: this is how it was when it last did.")?;
    }
    Ok(())
}

fn show(pool: &Value, out: &mut dyn Write) -> Done {
    let now_ms = now_ms();
    let since = between(pool["since"].as_u64(), Some(now_ms));
    let mut pairs = vec![
        ("pool", text(&pool["name"])),
        ("fqdn", text(&pool["fqdn"])),
        ("backup", text(&pool["backup"])),
        ("phase", phase(pool)),
        ("for", since),
        ("next", upcoming(pool)),
        ("epoch", text(&pool["epoch"])),
        ("served by", served_by(pool)),
        ("parks in orbits of", text(&pool["serving"])),
        ("hosts alive", hosts(pool)),
        ("parked calls", text(&pool["parked"])),
    ];
    if pool["policy_differs"] == true {
        pairs.push(("policies", "differ between its hosts".to_owned()));
    }
    if !text(&pool["moved"]).is_empty() {
        pairs.push(("ranges moved", text(&pool["moved"])));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    let journal = &pool["journal"];
    if journal.is_object() {
        let how = match journal["ended"].as_u64() {
            None => "runs".to_owned(),
            ended => format!("over for {}", between(ended, Some(now_ms))),
        };
        let line =
            format!("{}, asked for by {}, {how}", text(&journal["procedure"]), text(&journal["asked_by"]));
        pairs.push(("last procedure", line));
    }
    table::print_pairs(out, &pairs)?;
    for step in steps(journal) {
        writeln!(out, "  {}", line(step))?;
    }
    Ok(())
}

fn steps(journal: &Value) -> impl Iterator<Item = &Value> {
    journal["steps"].as_array().into_iter().flatten()
}

fn line(step: &Value) -> String {
    let line = format!("{:<7} {:<8} {}", text(&step["name"]), text(&step["state"]), text(&step["note"]));
    table::printable(line.trim_end())
}

fn move_pool(
    client: &Client,
    name: &str,
    verb: &str,
    body: &Value,
    moving: &Moving,
    json: bool,
    out: &mut dyn Write,
) -> Done {
    let begun = client.post(&format!("{}/{verb}", path(name)), body)?;
    if moving.dry_run || moving.no_wait {
        if json {
            return Ok(writeln!(out, "{begun:#}")?);
        }
        if !moving.dry_run {
            let line = format!("the {verb} of {name} has begun; how far it is: switchyard pool show {name}");
            writeln!(out, "{}", table::printable(&line))?;
            return left_to_do(&begun, out);
        }
        for step in begun["steps"].as_array().into_iter().flatten() {
            let line = format!("{:<7} {}", text(&step["name"]), text(&step["does"]));
            writeln!(out, "{}", table::printable(&line))?;
        }
        return left_to_do(&begun, out);
    }
    let (mut told, mut waiting): (Vec<String>, u64) = (Vec::new(), 0);
    loop {
        // The host that was asked may be one that ends with this: then another is to be asked how it went.
        let pool = client.get(&path(name)).map_err(|Failure(why)| {
            Failure(format!("{why}\nthe {verb} goes on; ask another host: switchyard pool show {name}"))
        })?;
        let journal = &pool["journal"];
        if !json {
            let lines = steps(journal).filter(|step| step["state"] != "pending").map(line);
            for line in lines {
                if !told.contains(&line) {
                    writeln!(out, "{line}")?;
                    out.flush()?;
                    told.push(line);
                }
            }
            // A planned failover may wait for minutes.
            let parked = steps(journal).any(|step| step["name"] == "parked" && step["state"] == "running");
            let left = pool["parked"].as_u64().unwrap_or(0);
            if parked && left > 0 && left != waiting {
                writeln!(out, "                 still parked: {left}")?;
                out.flush()?;
                waiting = left;
            }
        }
        if !journal["ended"].is_null() && journal["procedure"] == verb {
            let words = format!("{name} is {}, served by {}", phase(&pool), served_by(&pool));
            done(&pool, json, out, &words)?;
            return if json { Ok(()) } else { left_to_do(&begun, out) };
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a procedure leaves to people.
fn left_to_do(begun: &Value, out: &mut dyn Write) -> Done {
    let left = begun["left_to_do"].as_array().into_iter().flatten();
    for (at, what) in left.enumerate() {
        if at == 0 {
            writeln!(out, "left to do by you:")?;
        }
        writeln!(out, "  {}", table::printable(&text(what)))?;
    }
    Ok(())
}
