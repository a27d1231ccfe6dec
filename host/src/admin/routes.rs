//! The routes: each becomes a [`Request`] to the engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use metrics::gauge;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Access;
use super::answer::{self, Answer, refused};
use super::events::Events;
use super::handle::{AdminHandle, Readiness, State as Life};
use super::request::{RangeSpec, Refused, Request};
use crate::config::{self, KIND_CALL_PARK, Secret};
use crate::directory::User;
use crate::pool::Ask;

/// The description of the interface, served at `/api/v1/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// All the interface needs to answer. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The way to the engine.
    pub engine: AdminHandle,
    /// What the engine tells.
    pub events: Events,
    /// Whether the host takes calls.
    pub readiness: Readiness,
    /// Who may ask.
    pub access: Access,
    /// The pool of a range that names none: the host's own.
    pub pool: String,
    /// The metrics as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("access", &self.access)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// A scraper gives up after ten seconds, and should then have the metrics of what is not stuck.
const SCRAPE_MAX: Duration = Duration::from_secs(2);

type Route = (MethodFilter, &'static str, MethodRouter<Service>);

/// Those that tell nothing about anybody, and so need no token.
fn open_routes() -> Vec<Route> {
    let get = MethodFilter::GET;
    vec![
        (get, "/", on(get, || async { asset("text/html; charset=utf-8", include_str!("panel/index.html")) })),
        (get, "/panel.js", on(get, || async { asset("text/javascript", include_str!("panel/panel.js")) })),
        (get, "/panel.css", on(get, || async { asset("text/css", include_str!("panel/panel.css")) })),
        (get, "/healthz", on(get, || async { answer::json(&json!({ "status": "ok" })) })),
        (get, "/readyz", on(get, ready)),
        (get, "/api/v1/openapi.json", on(get, || async { asset("application/json", OPENAPI) })),
    ]
}

fn closed_routes() -> Vec<Route> {
    use MethodFilter as M;
    vec![
        (M::GET, "/metrics", on(M::GET, scrape)),
        (M::GET, "/api/v1/status", on(M::GET, status)),
        (M::GET, "/api/v1/events", on(M::GET, events)),
        (M::GET, "/api/v1/calls", on(M::GET, calls)),
        (M::GET, "/api/v1/calls/{id}", on(M::GET, call)),
        (M::DELETE, "/api/v1/calls/{id}", on(M::DELETE, hang_up)),
        (M::POST, "/api/v1/calls/{id}/park", on(M::POST, park)),
        (M::POST, "/api/v1/calls/{id}/pickup", on(M::POST, pickup)),
        (M::GET, "/api/v1/ringing", on(M::GET, ringing)),
        (M::GET, "/api/v1/occupants", on(M::GET, occupants)),
        (M::GET, "/api/v1/occupants/{number}", on(M::GET, occupant)),
        (M::POST, "/api/v1/occupants/{number}/retrieve", on(M::POST, retrieve)),
        (M::GET, "/api/v1/orbits", on(M::GET, ranges)),
        (M::POST, "/api/v1/orbits", on(M::POST, add_range)),
        (M::GET, "/api/v1/orbits/{name}", on(M::GET, range)),
        (M::PATCH, "/api/v1/orbits/{name}", on(M::PATCH, set_range)),
        (M::DELETE, "/api/v1/orbits/{name}", on(M::DELETE, remove_range)),
        (M::GET, "/api/v1/users", on(M::GET, users)),
        (M::POST, "/api/v1/users", on(M::POST, add_user)),
        (M::GET, "/api/v1/users/{name}", on(M::GET, user)),
        (M::PATCH, "/api/v1/users/{name}", on(M::PATCH, set_user)),
        (M::DELETE, "/api/v1/users/{name}", on(M::DELETE, remove_user)),
        (M::GET, "/api/v1/pools", on(M::GET, pools)),
        (M::GET, "/api/v1/pools/{name}", on(M::GET, pool)),
        (M::POST, "/api/v1/pools/{name}/failover", on(M::POST, fail_over)),
        (M::POST, "/api/v1/pools/{name}/failback", on(M::POST, fail_back)),
        (M::POST, "/api/v1/pools/{name}/reassign", on(M::POST, reassign)),
        (M::POST, "/api/v1/hosts/{name}/drain", on(M::POST, drain_host)),
        (M::POST, "/api/v1/hosts/{name}/resume", on(M::POST, resume_host)),
        (M::GET, "/api/v1/policies", on(M::GET, policies)),
        (M::GET, "/api/v1/plugins", on(M::GET, plugins)),
        (M::GET, "/api/v1/plugins/{name}", on(M::GET, plugin)),
        (M::POST, "/api/v1/plugins/{name}/reload", on(M::POST, reload_plugin)),
    ]
}

/// The whole interface.
pub fn router(service: Service) -> Router {
    let mut closed = Router::new();
    for (_, path, route) in closed_routes() {
        closed = closed.route(path, route);
    }
    let mut all = closed.route_layer(middleware::from_fn_with_state(service.clone(), with_token));
    for (_, path, route) in open_routes() {
        all = all.route(path, route);
    }
    all.fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(service.clone(), with_origin))
        .with_state(service)
}

/// Method and path of every route.
#[cfg(test)]
pub(super) fn listed() -> impl Iterator<Item = (MethodFilter, &'static str)> {
    open_routes().into_iter().chain(closed_routes()).map(|(method, path, _)| (method, path))
}

async fn with_token(State(service): State<Service>, request: HttpRequest, next: Next) -> Response {
    match service.access.bearer(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

async fn with_origin(State(service): State<Service>, request: HttpRequest, next: Next) -> Response {
    let checked = service.access.origin(request.method(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        // Everything the page needs comes from here; nothing on it may run but its own script.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn no_such_route(uri: Uri) -> Refused {
    refused(StatusCode::NOT_FOUND, format!("there is nothing at {}; see /api/v1/openapi.json", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Refused {
    let text = format!("{} does not take {method}; see /api/v1/openapi.json", uri.path());
    refused(StatusCode::METHOD_NOT_ALLOWED, text)
}

async fn ready(State(service): State<Service>) -> Response {
    let life = service.readiness.get();
    let status = if life == Life::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "state": life.name(), "ready": life == Life::Ready }))).into_response()
}

async fn scrape(State(service): State<Service>) -> Response {
    // An engine that does not answer is a finding, not a reason to hide the other metrics.
    if let Ok(status) = service.engine.clone().with_patience(SCRAPE_MAX).ask(Request::Status).await {
        super::metrics::set(&status);
    }
    let ready = service.readiness.get() == Life::Ready;
    gauge!("switchyard_ready").set(if ready { 1.0 } else { 0.0 });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (service.metrics)())
        .into_response()
}

async fn status(State(service): State<Service>) -> Answer {
    let mut status = service.engine.ask(Request::Status).await?;
    if let Value::Object(fields) = &mut status {
        fields.insert("state".to_owned(), service.readiness.get().name().into());
    }
    Ok(answer::json(&status))
}

async fn events(State(service): State<Service>) -> Answer {
    service.events.stream(service.engine)
}

/// The variable part of a path.
struct Segment(String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(error) => Err(refused(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

async fn list(service: &Service, request: Request) -> Answer {
    Ok(answer::json(&service.engine.ask(request).await?))
}

async fn calls(State(service): State<Service>) -> Answer {
    list(&service, Request::Calls).await
}

async fn call(State(service): State<Service>, Segment(id): Segment) -> Answer {
    let calls = service.engine.ask(Request::Calls).await?;
    Ok(answer::json(&answer::find(calls, "id", &id, "call")?))
}

fn call_id(id: &str) -> Result<u64, Refused> {
    id.parse().map_err(|_| refused(StatusCode::NOT_FOUND, format!("there is no call {id:?}")))
}

async fn hang_up(State(service): State<Service>, Segment(id): Segment) -> Answer {
    list(&service, Request::Hangup { call: call_id(&id)? }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Park {
    parker: String,
    number: Option<String>,
}

async fn park(State(service): State<Service>, Segment(id): Segment, body: Body) -> Answer {
    let call = call_id(&id)?;
    let Park { parker, number } = answer::body(body).await?;
    list(&service, Request::Park { call, parker, number }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pickup {
    user: String,
    group: Option<String>,
}

async fn pickup(State(service): State<Service>, Segment(id): Segment, body: Body) -> Answer {
    let call = call_id(&id)?;
    let Pickup { user, group } = answer::body(body).await?;
    list(&service, Request::Pickup { call, user, group }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingingIn {
    group: Option<String>,
}

async fn ringing(
    State(service): State<Service>,
    which: Result<Query<RingingIn>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(RingingIn { group }) =
        which.map_err(|error| refused(StatusCode::BAD_REQUEST, error.body_text()))?;
    list(&service, Request::Ringing { group }).await
}

async fn occupants(State(service): State<Service>) -> Answer {
    list(&service, Request::Occupants).await
}

async fn occupant(State(service): State<Service>, Segment(number): Segment) -> Answer {
    let occupants = service.engine.ask(Request::Occupants).await?;
    Ok(answer::json(&answer::find(occupants, "number", &number, "parked call in")?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retrieve {
    user: String,
    token: Option<String>,
}

async fn retrieve(State(service): State<Service>, Segment(number): Segment, body: Body) -> Answer {
    let Retrieve { user, token } = answer::body(body).await?;
    list(&service, Request::Retrieve { number, user, token }).await
}

async fn ranges(State(service): State<Service>) -> Answer {
    list(&service, Request::Ranges).await
}

async fn range(State(service): State<Service>, Segment(name): Segment) -> Answer {
    let ranges = service.engine.ask(Request::Ranges).await?;
    Ok(answer::json(&answer::find(ranges, "name", &name, "range")?))
}

/// A [`RangeSpec`] whose kind and pool may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRange {
    name: String,
    from: String,
    to: String,
    kind: Option<String>,
    pool: Option<String>,
}

async fn add_range(State(service): State<Service>, body: Body) -> Answer {
    let NewRange { name, from, to, kind, pool } = answer::body(body).await?;
    let ranges = service.engine.ask(Request::Ranges).await?;
    if answer::find(ranges, "name", &name, "range").is_ok() {
        return Err(refused(StatusCode::CONFLICT, format!("there is a range {name:?} already")));
    }
    let kind = kind.unwrap_or_else(|| KIND_CALL_PARK.to_owned());
    let pool = pool.unwrap_or_else(|| service.pool.clone());
    let added = service.engine.ask(Request::PutRange(RangeSpec { name, from, to, kind, pool })).await?;
    Ok((StatusCode::CREATED, axum::Json(added)).into_response())
}

/// What may change of a range: all but its name (ORB-07).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeChange {
    from: Option<String>,
    to: Option<String>,
    kind: Option<String>,
    pool: Option<String>,
}

async fn set_range(State(service): State<Service>, Segment(name): Segment, body: Body) -> Answer {
    let change: RangeChange = answer::body(body).await?;
    let ranges = service.engine.ask(Request::Ranges).await?;
    let current = answer::find(ranges, "name", &name, "range")?;
    let field = |change: Option<String>, field: &str| match (change, &current[field]) {
        (Some(value), _) => Ok(value),
        (None, Value::String(value)) => Ok(value.clone()),
        (None, _) => Err(refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the engine told no {field:?} of the range"),
        )),
    };
    let from = field(change.from, "from")?;
    let to = field(change.to, "to")?;
    let kind = field(change.kind, "kind")?;
    let pool = field(change.pool, "pool")?;
    list(&service, Request::PutRange(RangeSpec { name, from, to, kind, pool })).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    #[serde(default)]
    force: bool,
}

async fn remove_range(
    State(service): State<Service>,
    Segment(name): Segment,
    removal: Result<Query<Removal>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(Removal { force }) =
        removal.map_err(|error| refused(StatusCode::BAD_REQUEST, error.body_text()))?;
    list(&service, Request::RemoveRange { name, force }).await
}

async fn users(State(service): State<Service>) -> Answer {
    list(&service, Request::Users).await
}

async fn user(State(service): State<Service>, Segment(name): Segment) -> Answer {
    let users = service.engine.ask(Request::Users).await?;
    Ok(answer::json(&answer::find(users, "name", &name, "user")?))
}

/// The password apart, and the rest checked as far as the engine's state is not needed for it.
fn checked(mut change: Map<String, Value>) -> Result<(Map<String, Value>, Option<Secret>), Refused> {
    let wrong = |text: String| refused(StatusCode::BAD_REQUEST, text);
    let password = match change.remove("password") {
        None => None,
        Some(Value::String(password)) if !password.trim().is_empty() => Some(Secret::new(password)),
        Some(_) => return Err(wrong("password: expected some text".to_owned())),
    };
    let mut user = User::default();
    for (key, value) in &change {
        user.set(key, value).map_err(wrong)?;
    }
    Ok((change, password))
}

async fn set_user(State(service): State<Service>, Segment(name): Segment, body: Body) -> Answer {
    let (change, password) = checked(answer::body(body).await?)?;
    if change.is_empty() && password.is_none() {
        return Err(refused(StatusCode::BAD_REQUEST, "the body changes nothing"));
    }
    list(&service, Request::SetUser { name, change, password }).await
}

async fn add_user(State(service): State<Service>, body: Body) -> Answer {
    let wrong = |text: &str| refused(StatusCode::BAD_REQUEST, text);
    let mut change: Map<String, Value> = answer::body(body).await?;
    let name = match change.remove("name") {
        Some(Value::String(name)) => name,
        _ => return Err(wrong("name: expected a name")),
    };
    config::check_name(&name).map_err(|why| wrong(&why))?;
    let pool = match change.remove("pool") {
        None | Some(Value::Null) => None,
        Some(Value::String(pool)) => Some(pool),
        Some(_) => return Err(wrong("pool: expected the name of a pool")),
    };
    let (change, password) = checked(change)?;
    let password = password.ok_or_else(|| wrong("password: missing, expected some text"))?;
    let added = service.engine.ask(Request::AddUser { name, pool, password, change }).await?;
    Ok((StatusCode::CREATED, axum::Json(added)).into_response())
}

async fn remove_user(State(service): State<Service>, Segment(name): Segment) -> Answer {
    list(&service, Request::RemoveUser { name }).await
}

async fn pools(State(service): State<Service>) -> Answer {
    Ok(answer::json(&known_pools(&service).await?))
}

async fn pool(State(service): State<Service>, Segment(name): Segment) -> Answer {
    Ok(answer::json(&answer::find(known_pools(&service).await?, "name", &name, "pool")?))
}

/// What the engine knows of pools, and whether all of it is of a time when this host last reached the store.
async fn known_pools(service: &Service) -> Result<Value, Refused> {
    let mut pools = service.engine.ask(Request::Pools).await?;
    let fenced = service.readiness.get() == Life::Fenced;
    for pool in pools.as_array_mut().into_iter().flatten() {
        pool["stale"] = json!(fenced);
    }
    Ok(pools)
}

/// Who asks, where it is not said: whoever has the token.
fn somebody() -> String {
    "an administrator".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailOver {
    #[serde(default)]
    dry_run: bool,
    #[serde(default = "somebody")]
    by: String,
}

async fn fail_over(State(service): State<Service>, Segment(pool): Segment, body: Body) -> Answer {
    let FailOver { dry_run, by } = answer::body(body).await?;
    list(&service, Request::MovePool { pool, ask: Ask::Failover, by, dry_run }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailBack {
    #[serde(default)]
    disaster: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default = "somebody")]
    by: String,
}

async fn fail_back(State(service): State<Service>, Segment(pool): Segment, body: Body) -> Answer {
    let FailBack { disaster, dry_run, by } = answer::body(body).await?;
    list(&service, Request::MovePool { pool, ask: Ask::Failback { disaster }, by, dry_run }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reassign {
    to: String,
    #[serde(default)]
    users: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default = "somebody")]
    by: String,
}

async fn reassign(State(service): State<Service>, Segment(pool): Segment, body: Body) -> Answer {
    let Reassign { to, users, dry_run, by } = answer::body(body).await?;
    list(&service, Request::ReassignPool { pool, to, users, by, dry_run }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    #[serde(default = "somebody")]
    by: String,
}

async fn drain_host(State(service): State<Service>, Segment(host): Segment, body: Body) -> Answer {
    let By { by } = answer::body(body).await?;
    list(&service, Request::DrainHost { host, drained: true, by }).await
}

async fn resume_host(State(service): State<Service>, Segment(host): Segment, body: Body) -> Answer {
    let By { by } = answer::body(body).await?;
    list(&service, Request::DrainHost { host, drained: false, by }).await
}

async fn policies(State(service): State<Service>) -> Answer {
    list(&service, Request::PolicyStatus).await
}

async fn plugins(State(service): State<Service>) -> Answer {
    list(&service, Request::Plugins).await
}

async fn plugin(State(service): State<Service>, Segment(name): Segment) -> Answer {
    let plugins = service.engine.ask(Request::Plugins).await?;
    Ok(answer::json(&answer::find(plugins, "name", &name, "plugin")?))
}

async fn reload_plugin(State(service): State<Service>, Segment(name): Segment) -> Answer {
    list(&service, Request::ReloadPlugin { name }).await
}
