//! Speaks to a running host.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::Failure;
use super::address::Address;
use crate::config::Secret;

/// Longer than the host itself waits for its engine, so that its own sentence arrives.
const ANSWER_MAX: Duration = Duration::from_secs(80);

/// A host on this machine accepts at once; one behind a network within seconds.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A list of everything on a big host stays far below.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// All but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One path segment: `#7001` becomes `%237001`.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Speaks to one host.
pub struct Client {
    agent: Agent,
    base: String,
    said: String,
    authorization: Option<String>,
}

impl std::fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// Asks the host at `address`. A `token` goes before the one that was found there.
    pub(super) fn new(address: &Address, token: Option<&str>) -> Result<Self, Failure> {
        let Address { url: base, said, token: found } = address;
        if !base.starts_with("http://") {
            return Err(Failure(format!(
                "--admin {base}: expected http://HOST:PORT (https is not available in this version; use a tunnel)"
            )));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            // A redirect would take the token elsewhere.
            .max_redirects(0)
            .build()
            .into();
        let token = token.filter(|token| !token.is_empty()).or(found.as_ref().map(Secret::reveal));
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Self { agent, base: base.trim_end_matches('/').to_owned(), said: said.clone(), authorization })
    }

    /// A GET below `/api/v1/`.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut request = self.agent.get(self.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.call())
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        // Without a body, but what changes something says that it is no page's doing.
        let mut request = self.agent.delete(self.url(path)).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.call())
    }

    /// A POST.
    pub fn post(&self, path: &str, body: impl Serialize) -> Result<Value, Failure> {
        self.write(self.agent.post(self.url(path)), body)
    }

    /// A PATCH.
    pub fn patch(&self, path: &str, body: impl Serialize) -> Result<Value, Failure> {
        self.write(self.agent.patch(self.url(path)), body)
    }

    fn write(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: impl Serialize,
    ) -> Result<Value, Failure> {
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.send_json(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut response = answer.map_err(|error| match error {
            ureq::Error::Timeout(_) => Failure(format!(
                "{}, {}, has been asked and does not answer; it may do what it was asked when it goes on. Ask another host: --admin URL",
                self.base, self.said
            )),
            error => Failure(format!(
                "no host answers at {}, {} ({error}); is it running? Name another with --admin URL or SWITCHYARD_ADMIN",
                self.base, self.said
            )),
        })?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| Failure(format!("{}: the answer broke off: {error}", self.base)))?;
        let value: Result<Value, _> = serde_json::from_str(&text);
        match (status.is_success(), value) {
            (true, Ok(value)) => Ok(value),
            (true, Err(_)) => Err(Failure(format!("what answers at {} is no Switchyard host", self.base))),
            (false, Ok(refusal)) if refusal["text"].is_string() => Err(refused(status, &refusal)),
            (false, _) => Err(Failure(format!("{} answered {status}", self.base))),
        }
    }
}

fn refused(status: StatusCode, refusal: &Value) -> Failure {
    let text = super::table::printable(refusal["text"].as_str().unwrap_or_default());
    let hint = match status {
        StatusCode::UNAUTHORIZED => " (put the token into SWITCHYARD_TOKEN)",
        _ => "",
    };
    match refusal["code"].as_u64() {
        Some(code) => Failure(format!("refused: {text} ({code}){hint}")),
        None => Failure(format!("refused: {text}{hint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_hangs_is_not_said_to_be_absent() {
        let said = "as --admin says".to_owned();
        let address = Address { url: "http://127.0.0.1:8080".to_owned(), said, token: None };
        let client = Client::new(&address, None).unwrap();
        let Err(Failure(text)) = client.answer(Err(ureq::Error::Timeout(ureq::Timeout::Global))) else {
            panic!("it did answer");
        };
        assert!(
            text.contains("has been asked and does not answer") && !text.contains("is it running"),
            "{text}"
        );
    }
}
