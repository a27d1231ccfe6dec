use std::time::Duration;

use axum::body::Body;
use axum::http::{Request as HttpRequest, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::fake::{TOKEN, World, world, world_of};
use super::*;
use crate::config;
use crate::engine::Event;
use crate::time::Utc;

impl World {
    async fn send(&self, request: HttpRequest<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        (status, value)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(request("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn write(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let request = request("DELETE", path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    fn last(&self) -> Option<Request> {
        self.asked.lock().unwrap().last().cloned()
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    HttpRequest::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8080")
}

#[tokio::test]
async fn each_read_asks_the_engine_and_passes_its_answer_on() {
    let world = world();
    for (path, pointer, expected) in [
        ("/api/v1/calls", "/0/legs/1/call_id", json!("b2")),
        ("/api/v1/calls/7", "/legs/0/user", json!("alice")),
        ("/api/v1/occupants", "/0/number", json!("*101")),
        ("/api/v1/occupants/*101", "/state", json!("parked")),
        ("/api/v1/occupants/%2A101", "/state", json!("parked")),
        ("/api/v1/orbits/east-park", "/to", json!("7099")),
        ("/api/v1/users", "/0/name", json!("alice")),
        ("/api/v1/users/alice", "/extension", json!("1001")),
        ("/api/v1/policies", "/revision", json!(3)),
        ("/api/v1/plugins/call-park", "/state", json!("running")),
        ("/api/v1/status", "", json!({"calls": 1, "state": "starting"})),
    ] {
        let (status, body) = world.get(path).await;
        assert_eq!((status, body.pointer(pointer)), (StatusCode::OK, Some(&expected)), "{path}");
    }
}

#[tokio::test]
async fn acts_reach_the_engine_as_they_were_asked() {
    let world = world();
    let (status, _) = world.delete("/api/v1/calls/7").await;
    assert_eq!((status, world.last()), (StatusCode::OK, Some(Request::Hangup { call: 7 })));

    let (status, body) =
        world.write("POST", "/api/v1/calls/7/park", json!({"parker": "bob", "number": "7001"})).await;
    assert_eq!(
        (status, body),
        (StatusCode::CONFLICT, json!({"status": 409, "code": 35102, "text": "orbit 7001 is occupied"}))
    );
    let park = Request::Park { call: 7, parker: "bob".to_owned(), number: Some("7001".to_owned()) };
    assert_eq!(world.last(), Some(park));

    let (status, body) =
        world.write("POST", "/api/v1/occupants/7001/retrieve", json!({"user": "carol", "token": "t"})).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"leg": 12})));
    let retrieve = Request::Retrieve {
        number: "7001".to_owned(),
        user: "carol".to_owned(),
        token: Some("t".to_owned()),
    };
    assert_eq!(world.last(), Some(retrieve));

    let (status, _) =
        world.write("POST", "/api/v1/calls/9/pickup", json!({"user": "carol", "group": "*101"})).await;
    assert_eq!(status, StatusCode::OK);
    let (user, group) = ("carol".to_owned(), Some("*101".to_owned()));
    assert_eq!(world.last(), Some(Request::Pickup { call: 9, user, group }));
    let (status, _) = world.get("/api/v1/ringing?group=*101").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.last(), Some(Request::Ringing { group: Some("*101".to_owned()) }));

    assert_eq!(world.delete("/api/v1/orbits/east-park?force=true").await.0, StatusCode::OK);
    assert_eq!(world.last(), Some(Request::RemoveRange { name: "east-park".to_owned(), force: true }));

    let (status, _) = world.write("PATCH", "/api/v1/users/alice", json!({"pickup_group": null})).await;
    assert_eq!(status, StatusCode::OK);
    let Some(Request::SetUser { name, change, .. }) = world.last() else { panic!("{:?}", world.last()) };
    assert_eq!((name.as_str(), Value::Object(change)), ("alice", json!({"pickup_group": null})));
}

/// A password goes its own way, and is never shown.
#[tokio::test]
async fn users_are_added_changed_and_removed() {
    let world = world();
    let erin = json!({"name": "erin", "password": "s3cret", "extension": "1005"});
    let (status, body) = world.write("POST", "/api/v1/users", erin).await;
    assert_eq!(
        (status, &body["name"], &body["password"]),
        (StatusCode::CREATED, &json!("erin"), &Value::Null)
    );
    let asked = format!("{:?}", world.last());
    assert!(asked.contains("erin") && asked.contains("1005") && !asked.contains("s3cret"), "{asked}");

    let (status, _) = world.write("PATCH", "/api/v1/users/erin", json!({"password": "n3w"})).await;
    assert_eq!(status, StatusCode::OK);
    let Some(Request::SetUser { change, password, .. }) = world.last() else { panic!("{:?}", world.last()) };
    assert_eq!((change.len(), password.unwrap().reveal()), (0, "n3w"));

    assert_eq!(world.delete("/api/v1/users/erin").await.0, StatusCode::OK);
    assert_eq!(world.last(), Some(Request::RemoveUser { name: "erin".to_owned() }));

    for wrong in [
        json!({"name": "erin"}),
        json!({"password": "x"}),
        json!({"name": "er in", "password": "x"}),
        json!({"name": "erin", "password": ""}),
        json!({"name": "erin", "password": "x", "extension": "12a"}),
        json!({"name": "erin", "password": "x", "may_prak": true}),
    ] {
        assert_eq!(world.write("POST", "/api/v1/users", wrong).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_range_is_added_once_and_changed_by_name() {
    let world = world();
    let east = json!({"name": "east-park", "from": "1", "to": "2"});
    assert_eq!(world.write("POST", "/api/v1/orbits", east).await.0, StatusCode::CONFLICT);

    let west = json!({"name": "west", "from": "8000", "to": "8009"});
    let (status, body) = world.write("POST", "/api/v1/orbits", west).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        body,
        json!({"name": "west", "from": "8000", "to": "8009", "kind": "call-park", "pool": "east"})
    );

    let (status, body) = world.write("PATCH", "/api/v1/orbits/east-park", json!({"to": "7049"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        json!({"name": "east-park", "from": "7000", "to": "7049", "kind": "call-park", "pool": "east"})
    );
    // A name is for good (ORB-07).
    assert_eq!(
        world.write("PATCH", "/api/v1/orbits/east-park", json!({"name": "x"})).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        world.write("PATCH", "/api/v1/orbits/nowhere", json!({"to": "1"})).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_error_is_json_with_status_and_text() {
    let world = world();
    let big = json!({"parker": "b".repeat(70_000)});
    for (status, answer) in [
        (404, world.get("/api/v1/nothing").await),
        (404, world.get("/api/v1/calls/8").await),
        (404, world.get("/api/v1/users/nobody").await),
        (405, world.write("POST", "/api/v1/calls", json!({})).await),
        (404, world.write("POST", "/api/v1/calls/x/park", json!({"parker": "a"})).await),
        (400, world.write("POST", "/api/v1/calls/7/park", json!({"prker": "a"})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!({"may_park": "yes"})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!({"may_park": null})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!({"password": 7})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!({"extension": "10 01"})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!({})).await),
        (400, world.write("PATCH", "/api/v1/users/alice", json!([])).await),
        (413, world.write("POST", "/api/v1/calls/7/park", big).await),
        (400, world.get("/api/v1/users/%ff").await),
        (400, world.delete("/api/v1/orbits/a?force=maybe").await),
    ] {
        let (got, body) = answer;
        assert_eq!(got.as_u16(), status, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert!(body["text"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_use_an_open_interface() {
    let world = world();
    let host = |host: &str| {
        HttpRequest::builder().uri("/api/v1/users").header(header::HOST, host).body(Body::empty()).unwrap()
    };
    for good in
        ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "PBX.example.test", "127.8.8.8"]
    {
        assert_eq!(world.send(host(good)).await.0, StatusCode::OK, "{good}");
    }
    for rebound in
        ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "203.0.113.5"]
    {
        assert_eq!(world.send(host(rebound)).await.0, StatusCode::FORBIDDEN, "{rebound}");
    }
    assert_eq!(
        world.send(HttpRequest::get("/healthz").body(Body::empty()).unwrap()).await.0,
        StatusCode::FORBIDDEN
    );

    let json = (header::CONTENT_TYPE, "application/json");
    let from = |origin: &str| {
        request("DELETE", "/api/v1/calls/7").header(header::ORIGIN, origin).header(json.0.clone(), json.1)
    };
    let own = from("http://127.0.0.1:8080").body(Body::empty()).unwrap();
    assert_eq!(world.send(own).await.0, StatusCode::OK);
    for other in ["http://evil.example", "null", "http://127.0.0.1:9999"] {
        let other = from(other).body(Body::empty()).unwrap();
        assert_eq!(world.send(other).await.0, StatusCode::FORBIDDEN);
    }

    let form = request("POST", "/api/v1/calls/7/park").header(header::CONTENT_TYPE, "text/plain");
    let form = form.body(Body::from(r#"{"parker": "a"}"#)).unwrap();
    assert_eq!(world.send(form).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // One rule for all that changes something, with a body or without.
    let bare = request("DELETE", "/api/v1/calls/7").body(Body::empty()).unwrap();
    assert_eq!(world.send(bare).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn with_a_token_nothing_is_told_without_it() {
    let world = world_of("192.0.2.1:8080", Some(TOKEN));
    let with = |path: &str, value: &str| {
        let request = HttpRequest::get(path).header(header::HOST, "anything.example");
        request.header(header::AUTHORIZATION, value).body(Body::empty()).unwrap()
    };
    for path in ["/api/v1/users", "/metrics", "/api/v1/events", "/api/v1/status"] {
        assert_eq!(world.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
        for wrong in
            ["Bearer 0123456789abcdeF", "Bearer", "Basic 0123456789abcdef", "Bearer 0123456789abcdef0"]
        {
            assert_eq!(world.send(with(path, wrong)).await.0, StatusCode::UNAUTHORIZED, "{path} {wrong}");
        }
    }
    assert!(world.asked.lock().unwrap().is_empty());
    for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef"] {
        assert_eq!(world.send(with("/api/v1/users", right)).await.0, StatusCode::OK, "{right}");
    }
    for open in ["/", "/healthz", "/panel.js", "/api/v1/openapi.json"] {
        assert_eq!(world.get(open).await.0, StatusCode::OK, "{open}");
    }
}

#[test]
fn others_cannot_be_let_in_without_a_token() {
    let admin =
        |listen: &str| config::Admin { listen: listen.parse().unwrap(), token: None, hosts: Vec::new() };
    assert!(Access::new(&admin("127.0.0.1:8080")).is_ok());
    assert!(Access::new(&admin("[::1]:8080")).is_ok());
    for open in ["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080"] {
        assert!(Access::new(&admin(open)).unwrap_err().to_string().contains("admin.token is required"));
    }
}

#[tokio::test]
async fn readiness_follows_the_life_of_the_host() {
    let world = world();
    assert_eq!(
        world.get("/readyz").await,
        (StatusCode::SERVICE_UNAVAILABLE, json!({"state": "starting", "ready": false}))
    );
    world.readiness.set(State::Ready);
    assert_eq!(world.get("/readyz").await, (StatusCode::OK, json!({"state": "ready", "ready": true})));
    world.readiness.set(State::Draining);
    assert_eq!(
        world.get("/readyz").await,
        (StatusCode::SERVICE_UNAVAILABLE, json!({"state": "draining", "ready": false}))
    );
    assert_eq!(world.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(world.get("/metrics").await.1, json!("switchyard_calls 1\n"));
}

#[tokio::test]
async fn an_engine_that_is_silent_or_gone_is_a_503() {
    let (engine, inbox) = AdminHandle::channel();
    let hurried = engine.clone().with_patience(Duration::from_millis(20));
    let silent = hurried.ask(Request::Calls).await.unwrap_err();
    assert_eq!((silent.status, silent.text.contains("did not answer")), (503, true));
    drop(inbox);
    let gone = engine.ask(Request::Calls).await.unwrap_err();
    assert_eq!((gone.status, gone.text.as_str()), (503, "the host is stopping"));
}

/// Reads server-sent events off a response until `count` of them came.
async fn read_events(body: Body, count: usize) -> Vec<(String, Value)> {
    let mut stream = body.into_data_stream();
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    text.split_terminator("\n\n")
        .map(|event| {
            let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            (field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap())
        })
        .collect()
}

fn event(what: &'static str) -> Event {
    Event { at: Utc(5), what, code: None, call_id: None, detail: json!({"number": "7001"}) }
}

async fn open_stream(world: &World) -> axum::response::Response {
    let request = request("GET", "/api/v1/events").body(Body::empty()).unwrap();
    world.router.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_event_stream_begins_with_a_snapshot_and_goes_on_with_what_happens() {
    let world = world();
    world.events.publish(&event("before"));
    let response = open_stream(&world).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    world.events.publish(&event("park.parked"));
    let events = read_events(response.into_body(), 2).await;
    let (kind, snapshot) = &events[0];
    assert_eq!((kind.as_str(), &snapshot["users"][0]["name"]), ("snapshot", &json!("alice")));
    assert_eq!(snapshot["pools"][1]["upcoming"]["what"], "failback");
    assert_eq!(
        events[1],
        ("event".to_owned(), json!({"at": 5, "what": "park.parked", "detail": {"number": "7001"}}))
    );
}

#[test]
fn each_event_is_counted_by_what_it_is_and_why() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        let events = Events::default();
        events.publish(&event("park.parked"));
        events.publish(&Event { code: Some(35002), ..event("feature.refused") });
        events.publish(&Event { code: Some(35002), ..event("feature.refused") });
    });
    let text = recorder.handle().render();
    assert!(text.contains("switchyard_events_total{what=\"park.parked\"} 1"), "{text}");
    assert!(text.contains("switchyard_events_total{what=\"feature.refused\",code=\"35002\"} 2"), "{text}");
}

#[tokio::test]
async fn a_slow_reader_is_told_what_he_missed_and_starts_afresh() {
    let world = world();
    let response = open_stream(&world).await;
    for _ in 0..2000 {
        world.events.publish(&event("call.answered"));
    }
    let events = read_events(response.into_body(), 4).await;
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds[..4], ["snapshot", "missed", "snapshot", "event"]);
    assert_eq!(events[1].1, json!({"missed": 2000 - 1024}));
}

#[tokio::test]
async fn streams_are_limited_and_a_closed_one_makes_room() {
    let world = world();
    let mut open = Vec::new();
    loop {
        let response = open_stream(&world).await;
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            break;
        }
        open.push(response);
        assert!(open.len() <= 32);
    }
    open.pop();
    assert_eq!(open_stream(&world).await.status(), StatusCode::OK);
}

#[test]
fn the_description_lists_exactly_the_routes() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut described: Vec<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    described.sort();
    let mut served: Vec<String> = super::routes::listed()
        .map(|(method, path)| {
            use axum::routing::MethodFilter as M;
            let names = [(M::GET, "get"), (M::POST, "post"), (M::PATCH, "patch"), (M::DELETE, "delete")];
            let (_, name) = names.into_iter().find(|(filter, _)| *filter == method).unwrap();
            format!("{name} {path}")
        })
        .collect();
    served.sort();
    assert_eq!(described, served);
}

#[test]
fn the_description_has_no_dangling_references_and_names_each_path_parameter() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let declared: Vec<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let named: Vec<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(declared, named, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn it_answers_on_a_socket_and_closes_when_told() {
    let world = world();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, world.router.clone(), async {
        let _ = stopped.await;
    }));
    let body = tokio::task::spawn_blocking(move || {
        ureq::get(format!("http://{address}/api/v1/users"))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    });
    assert!(body.await.unwrap().contains(r#""name":"alice""#));
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
