//! Requests and answers as HTTP: JSON bodies in, JSON out, errors too.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::request::Refused;
use crate::near::did_you_mean;

/// No request needs a tenth of this.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a handler returns: JSON, or a refusal which becomes `{status, code, text}`.
pub(super) type Answer = Result<Response, Refused>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"switchyard\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}

/// 200 with `value`.
pub(super) fn json(value: &Value) -> Response {
    axum::Json(value).into_response()
}

/// A refusal made here, not by the engine.
pub(super) fn refused(status: StatusCode, text: impl Into<String>) -> Refused {
    Refused { status: status.as_u16(), code: None, text: text.into() }
}

/// Reads a JSON body.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T, Refused> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is broken, or longer than {BODY_BYTES_MAX} bytes"),
        )
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| refused(StatusCode::BAD_REQUEST, format!("the body does not fit: {error}")))
}

/// The element of a list whose `field` is `value`.
pub(super) fn find(list: Value, field: &str, value: &str, what: &str) -> Result<Value, Refused> {
    let Value::Array(items) = list else {
        return Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the engine answered no list"));
    };
    let is_it = |item: &&Value| match &item[field] {
        Value::String(text) => text == value,
        Value::Number(number) => number.to_string() == value,
        _ => false,
    };
    items.iter().find(is_it).cloned().ok_or_else(|| {
        let near = did_you_mean(value, items.iter().filter_map(|item| item[field].as_str()));
        refused(StatusCode::NOT_FOUND, format!("there is no {what} {value:?}{near}"))
    })
}
