//! What the engine tells the administrative interface is what `openapi.json` says it tells.

use std::time::Duration;

use serde_json::{Map, Value, json};
use switchyard_host::admin::{OPENAPI, Request};
use switchyard_host::pool::Ask;

use crate::harness::{World, WorldOptions};

/// Everything that speaks against `value` being of `schema`: types, missing fields, and fields nobody described.
fn mistakes(document: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("a dangling reference");
        return mistakes(document, schema, value, path);
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) {
            vec![]
        } else {
            vec![format!("{path}: {value} is none of {words:?}")]
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return vec![],
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&is) {
        return vec![format!("{path}: {value} is no {types:?}")];
    }
    let mut found = Vec::new();
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(mistakes(document, &schema["items"], item, &format!("{path}[{index}]")));
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            match properties.get(name) {
                Some(schema) => found.extend(mistakes(document, schema, field, &format!("{path}.{name}"))),
                None => found.push(format!("{path}.{name} is not described")),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing = required.filter(|name| !fields.contains_key(*name));
        found.extend(missing.map(|name| format!("{path}.{name} is missing")));
    }
    found
}

#[test]
fn the_engine_tells_what_the_description_says() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schema = |path: &str| {
        let operation = &document["paths"][path]["get"];
        operation["responses"]["200"]["content"]["application/json"]["schema"].clone()
    };
    let mut world = World::with(WorldOptions::default());
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(Duration::from_secs(3));
    world.connect(bob, carol);
    world.act(alice, |phone| phone.invite("sip:1003@example.test", &[], true));
    world.run_for(Duration::from_secs(1));
    for (path, request, least) in [
        ("/api/v1/calls", Request::Calls, 2),
        ("/api/v1/ringing", Request::Ringing { group: None }, 1),
        ("/api/v1/orbits", Request::Ranges, 1),
        ("/api/v1/occupants", Request::Occupants, 1),
        ("/api/v1/users", Request::Users, 3),
        ("/api/v1/plugins", Request::Plugins, 1),
        ("/api/v1/pools", Request::Pools, 1),
    ] {
        let answer = world.ask(request.clone()).unwrap();
        assert!(answer.as_array().is_some_and(|list| list.len() >= least), "{path}: {answer}");
        assert_eq!(mistakes(&document, &schema(path), &answer, path), Vec::<String>::new());
        // One thing, one word: a call says of itself what its orbit says.
        let states = answer.as_array().unwrap().iter().map(|row| row["state"].clone());
        if let Request::Calls | Request::Occupants = request {
            assert_eq!(states.filter(|state| state == "parked").count(), 1, "{path}: {answer}");
        }
    }
    for (path, request) in [("/api/v1/policies", Request::PolicyStatus), ("/api/v1/status", Request::Status)]
    {
        let mut answer = world.ask(request).unwrap();
        if path.ends_with("status") {
            answer["state"] = json!("ready"); // added on the way
        }
        assert_eq!(mistakes(&document, &schema(path), &answer, path), Vec::<String>::new());
    }
}

#[test]
fn a_pickup_group_is_a_number_of_a_group_pickup_range() {
    let mut world = World::new();
    let mut set = |group: Value| {
        let change = Map::from_iter([("pickup_group".to_owned(), group)]);
        world.ask(Request::SetUser { name: "alice".to_owned(), change, password: None })
    };
    let refused = set(json!("7001")).unwrap_err();
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("GCP-04"), "{}", refused.text);
    assert_eq!(set(Value::Null).unwrap()["pickup_group"], Value::Null);
}

#[test]
fn hosts_of_a_cluster_tell_of_pools_what_the_description_says() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schema = &document["paths"]["/api/v1/pools"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    let hosts = &[("fe1", "east"), ("fw1", "west")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    world.run_for(Duration::from_secs(1));
    let failover =
        |dry_run| Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run };
    for dry_run in [true, false] {
        let begun = world.ask(failover(dry_run)).unwrap();
        let schema = json!({ "$ref": "#/components/schemas/PoolProcedure" });
        assert_eq!(mistakes(&document, &schema, &begun, "failover"), Vec::<String>::new());
    }
    world.run_for(Duration::from_secs(3));
    let pools = world.ask(Request::Pools).unwrap();
    assert_eq!(pools[0]["phase"], "failed_over");
    assert_eq!(mistakes(&document, schema, &pools, "pools"), Vec::<String>::new());
}
