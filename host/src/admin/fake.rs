//! The interface with an engine behind it that answers from a table and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use serde_json::{Value, json};

use super::*;
use crate::config::{self, Secret};

pub(crate) const TOKEN: &str = "0123456789abcdef";

pub(crate) struct World {
    pub router: Router,
    pub events: Events,
    pub readiness: Readiness,
    pub asked: Arc<Mutex<Vec<Request>>>,
}

/// On a loopback address, without a token.
pub(crate) fn world() -> World {
    world_of("127.0.0.1:8080", None)
}

pub(crate) fn world_of(listen: &str, token: Option<&str>) -> World {
    let admin = config::Admin {
        listen: listen.parse().unwrap(),
        token: token.map(Secret::new),
        hosts: vec!["pbx.example.test".to_owned()],
    };
    let (engine, mut inbox) = AdminHandle::channel();
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Some((request, reply)) = inbox.recv().await {
            seen.lock().unwrap().push(request.clone());
            // His phone rings for a while.
            if let Request::Retrieve { user, .. } | Request::Pickup { user, .. } = &request
                && user == "dozy"
            {
                tokio::time::sleep(std::time::Duration::from_millis(800)).await;
            }
            let _ = reply.send(answer(&request));
        }
    });
    let events = Events::default();
    let readiness = Readiness::default();
    let service = Service {
        engine,
        events: events.clone(),
        readiness: readiness.clone(),
        access: Access::new(&admin).unwrap(),
        pool: "east".to_owned(),
        metrics: Arc::new(|| "switchyard_calls 1\n".to_owned()),
    };
    World { router: router(service), events, readiness, asked }
}

fn answer(request: &Request) -> Result<Value, Refused> {
    match request {
        Request::Calls => Ok(json!([{"id": 7, "state": "answered", "since": 1, "legs": [
            {"id": 1, "user": "alice", "uri": "sip:alice@example.test", "call_id": "a1", "state": "confirmed", "held": true},
            {"id": 2, "user": null, "uri": "sip:0301234@example.test", "call_id": "b2", "state": "confirmed", "held": false}
        ]}])),
        Request::Hangup { call: 7 } | Request::RemoveRange { .. } => Ok(json!({})),
        Request::Hangup { .. } => {
            Err(Refused { status: 404, code: None, text: "there is no such call".to_owned() })
        }
        Request::Park { number: None, .. } => Ok(json!({"number": "7042", "token": "3f9a"})),
        Request::Park { .. } => {
            Err(Refused { status: 409, code: Some(35102), text: "orbit 7001 is occupied".to_owned() })
        }
        Request::Retrieve { .. } => Ok(json!({"leg": 12})),
        Request::Ringing { .. } => Ok(json!([{
            "call": 9, "caller": "Alice", "callee": "Bob", "user": "bob", "groups": ["*101"], "since": 32_503_680_000_000_u64
        }])),
        Request::Pickup { .. } => Ok(json!({})),
        Request::Ranges => Ok(json!([{
            "name": "east-park", "from": "7000", "to": "7099", "kind": "call-park", "pool": "east",
            "size": 100, "occupied": 1
        }])),
        Request::PutRange(spec) => Ok(serde_json::to_value(spec).unwrap()),
        Request::Occupants => Ok(json!([{
            "number": "*101", "range": "east-park", "pool": "east", "kind": "call-park", "state": "parked",
            "parked": "Zo\u{1b}[1m", "parker": "Bob", "claimant": null, "since": 32_503_680_000_000_u64, "deadline": null,
            "recalls": 0, "recalls_max": null, "ringing": null, "token": "3f9a"
        }])),
        Request::Users => Ok(json!([{
            "name": "alice", "extension": "1001", "display": null, "pool": "east", "pickup_group": null,
            "may_park": true, "may_retrieve": true,
            "bindings": [{"contact": "sip:alice@192.0.2.7", "flow": "udp:192.0.2.7:5060", "expires": 0}]
        }])),
        Request::RemoveUser { .. } => Ok(json!({})),
        Request::ReloadPlugin { name } => {
            Ok(json!({"name": name, "version": "0.2.0", "generation": 1, "state": "running"}))
        }
        Request::AddUser { name, change, .. } | Request::SetUser { name, change, .. } => {
            let mut user = json!({"name": name, "pool": "east", "may_park": false, "may_retrieve": true, "bindings": []});
            for (key, value) in change {
                user[key] = value.clone();
                if value == "1005" {
                    user["warnings"] = json!([format!("{key}: nobody is reached at {value}")]);
                }
            }
            Ok(user)
        }
        Request::Pools => Ok(json!([{
            "name": "south", "fqdn": null, "backup": null, "phase": "active", "since": null, "epoch": 9, "served_by": "fw1",
            "last_served_by": "fw1", "serving": "east", "parked": 0, "replaced_by": "east", "upcoming": null, "hosts": [],
            "moved": [], "journal": null
        }, {
            "name": "east", "fqdn": "east.example.test", "backup": "west", "phase": "failed_over",
            "since": 32_503_680_000_000_u64, "epoch": 7, "served_by": "fw1", "last_served_by": "fw1", "serving": "west", "parked": 0,
            "replaced_by": null, "upcoming": {"what": "failback", "at": 5},
            "hosts": [{"name": "fe1", "drained": true}, {"name": "fe2", "drained": false,
                "trouble": "it does not answer", "trouble_since": 32_503_679_000_000_u64}], "moved": ["east-groups"],
            "journal": {"procedure": "failover", "planned": false, "asked_by": "ana", "runner": "fw1",
                "began": 32_503_679_000_000_u64, "ended": 32_503_680_000_000_u64, "steps": [
                    {"name": "fence", "state": "done", "at": 32_503_679_000_000_u64, "note": "users of east are in resiliency mode"},
                    {"name": "open", "state": "done", "at": 32_503_680_000_000_u64, "note": ""}]}
        }])),
        Request::MovePool { pool, .. } if pool != "east" => Err(Refused {
            status: 409,
            code: Some(35112),
            text: "east is failed_over: fail east back first, only then can west fail over to it".to_owned(),
        }),
        Request::MovePool { pool, ask, dry_run, .. } => Ok(json!({
            "pool": pool, "procedure": ask.procedure(), "dry_run": dry_run,
            "steps": [{"name": "fence", "does": "users of east are in resiliency mode"}, {"name": "open", "does": "full service by west"}]
        })),
        Request::DrainHost { host, drained, .. } => Ok(json!({"host": host, "drained": drained})),
        Request::ReassignPool { pool, to, dry_run, .. } => Ok(json!({
            "pool": pool, "procedure": "reassign", "to": to, "dry_run": dry_run,
            "ranges": ["east-park", "east-groups"], "users": ["alice", "bob"],
            "steps": [{"name": "seat", "does": "fw1 passes the users of east to fn1, with their calls"},
                {"name": "ranges", "does": "2 ranges go to north: east-park, east-groups"}],
            "left_to_do": ["settings and music: those of north count now"],
        })),
        Request::PolicyStatus => Ok(json!({
            "revision": 3, "hash": "ab12", "pools": [{"pool": "east", "file": "default.lua"}],
            "last_error": ["default.lua:5: pickup_timout: unknown key, did you mean pickup_timeout?"]
        })),
        Request::Plugins => Ok(json!([{
            "name": "call-park", "version": "0.1.0", "state": "running", "kinds": ["call-park"],
            "services": ["park", "unpark"], "flows": 2
        }, {"state": "refused", "error": "notes.so is no plugin: it is not a shared library"}])),
        Request::Status => Ok(json!({"calls": 1})),
    }
}
