//! Where a drill takes place: a running host or cluster, with users, phones and numbers that are there for the drill only.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};
use switchyard_sdk::ext::call::Music;
use tokio::task::block_in_place;

use super::park::Waiting;
use super::phone::{Account, CallId, Phone, Refused, Registration, State};
use super::report::{Observation, Report, Seen};
use crate::cli::Failure;
use crate::cli::client::{Client, segment};
use crate::config::{KIND_CALL_PARK, KIND_GROUP_PICKUP, Secret};
use crate::runtime::Clock;
use crate::sip::Status;

/// What the names of users and ranges of a drill begin with. Whatever is called so belongs to no person.
pub const PREFIX: &str = "drill-";

/// The range of pickup groups that is there for a drill, from its first number to its last.
pub const GROUPS: (&str, &str, &str) = ("drill-groups", "*99990", "*99991");

/// Longer than any drill: nobody refreshes.
const REGISTERED_S: u32 = 7200;

/// How long the host's goodbye is waited for at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// How long a phone waits before it changes a call again that was just being changed by the other side.
const CROSSING: Duration = Duration::from_millis(300);

/// How often it does.
const CROSSINGS_MAX: usize = 5;

/// What a drill needs to know of its host.
#[derive(Debug)]
pub struct Office<'a> {
    /// The way to the host that is asked.
    pub client: &'a Client,
    /// How long a phone waits for something.
    pub patience: Duration,
    /// What was observed.
    pub report: Report,
    clock: Clock,
    domain: String,
    users: Vec<String>,
    has_groups: bool,
    /// Told of each observation as it is made.
    tell: fn(&Observation),
}

/// A phone and whose it is.
#[derive(Debug)]
pub struct Person {
    /// The user's name.
    pub name: String,
    /// The phone.
    pub phone: Phone,
    patience: Duration,
}

impl<'a> Office<'a> {
    /// Asks the host who it is.
    pub fn open(client: &'a Client, patience: Duration, tell: fn(&Observation)) -> Result<Self, Failure> {
        let status = block_in_place(|| client.get("status"))?;
        let domain = status["domain"].as_str().ok_or_else(|| {
            Failure("the host does not say which domain it serves: it is of an older version".to_owned())
        })?;
        Ok(Self {
            client,
            patience,
            report: Report::default(),
            clock: Clock::start(),
            domain: domain.to_owned(),
            users: Vec::new(),
            has_groups: false,
            tell,
        })
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        block_in_place(|| self.client.get(path))
    }

    /// What those hear who wait in an orbit, by the policy of their parker's pool.
    pub fn waiting(&self, pool: &str) -> Result<Waiting, Failure> {
        let policies = self.get("policies")?;
        let of_pool = policies["pools"].as_array().into_iter().flatten().find(|row| row["pool"] == pool);
        let off =
            of_pool.is_some_and(|row| row["settings"]["call_park"]["music_on_hold"] == json!(Music::Off));
        Ok(if off { Waiting::Silence } else { Waiting::Music })
    }

    /// The SIP addresses of the host that is asked.
    pub fn own_addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        addresses(&self.get("status")?["listeners"])
    }

    /// Adds the range of pickup groups, for a pool.
    pub fn add_groups(&mut self, pool: Option<&str>) -> Result<(), Failure> {
        let (name, from, to) = GROUPS;
        // One that a drill has left behind which was killed.
        let _ = block_in_place(|| self.client.delete(&format!("orbits/{name}?force=true")));
        let mut range = json!({ "name": name, "from": from, "to": to, "kind": KIND_GROUP_PICKUP });
        if let Some(pool) = pool {
            range["pool"] = json!(pool);
        }
        block_in_place(|| self.client.post("orbits", range))?;
        self.has_groups = true;
        Ok(())
    }

    /// Gives the range of pickup groups to a pool, unless it is there. Whether it was given now.
    pub fn give_groups(&self, pool: &str) -> Result<bool, Failure> {
        let path = format!("orbits/{}", GROUPS.0);
        if self.get(&path)?["pool"] == pool {
            return Ok(false);
        }
        block_in_place(|| self.client.patch(&path, json!({ "pool": pool })))?;
        Ok(true)
    }

    /// Adds a user and gives it a phone that talks to `host`. It is not registered yet.
    pub async fn hire(
        &mut self,
        name: &str,
        pool: Option<&str>,
        settings: Value,
        host: SocketAddr,
    ) -> Result<Person, Failure> {
        let name = format!("{PREFIX}{name}");
        let password = format!("{:032x}", rand::random::<u128>());
        let mut user = json!({ "name": name, "password": password, "may_park": true });
        if let Some(pool) = pool {
            user["pool"] = json!(pool);
        }
        for (key, value) in settings.as_object().into_iter().flatten() {
            user[key] = value.clone();
        }
        // One that a drill has left behind which was killed.
        let _ = block_in_place(|| self.client.delete(&format!("users/{name}")));
        block_in_place(|| self.client.post("users", user))?;
        self.users.push(name.clone());
        let account =
            Account { user: name.clone(), password: Secret::new(password), domain: self.domain.clone() };
        let phone = Phone::start(account, host, self.clock).await?;
        Ok(Person { name, phone, patience: self.patience })
    }

    /// Makes an observation, and notes how long it took.
    pub async fn observe(
        &mut self,
        (matrix, row, column): (&'static str, &str, &'static str),
        expected: &str,
        look: impl Future<Output = Seen>,
    ) {
        let begun = self.clock.now().instant;
        let Seen { text, verdict } = look.await;
        let took = self.clock.now().instant - begun;
        self.note((matrix, row, column), expected, Seen { text, verdict }, took);
    }

    /// Notes an observation that was made otherwise.
    pub fn note(
        &mut self,
        (matrix, row, column): (&'static str, &str, &'static str),
        expected: &str,
        seen: Seen,
        took: Duration,
    ) {
        let observation = Observation {
            matrix,
            row: row.to_owned(),
            column,
            expected: expected.to_owned(),
            observed: seen.text,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            verdict: seen.verdict,
        };
        (self.tell)(&observation);
        self.report.observations.push(observation);
    }

    /// The clock of the phones.
    pub fn now(&self) -> crate::time::Instant {
        self.clock.now().instant
    }

    /// The pool whose range of orbits a number lies in.
    pub fn pool_of(&self, number: &str) -> Result<Option<String>, Failure> {
        let ranges = self.get("orbits")?;
        let value = |text: &Value| text.as_str().and_then(|text| text.parse::<u64>().ok());
        let Ok(wanted) = number.parse::<u64>() else { return Ok(None) };
        let holds = |range: &&Value| {
            range["kind"] == KIND_CALL_PARK
                && value(&range["from"]).is_some_and(|from| from <= wanted)
                && value(&range["to"]).is_some_and(|to| to >= wanted)
        };
        let range = ranges.as_array().into_iter().flatten().find(holds);
        Ok(range.and_then(|range| range["pool"].as_str()).map(str::to_owned))
    }

    /// Everybody hangs up, and what was there for the drill only is removed.
    pub async fn close(&mut self, people: &[&Person]) {
        for person in people {
            person.phone.act(|core| {
                core.hang_up_all();
                core.register(0);
            });
        }
        let limit = self.clock.wake_at(self.now() + GOODBYE);
        for person in people {
            let gone = person.phone.wait(GOODBYE, |core| {
                (core.registration != Registration::Asked && core.is_quiet()).then_some(())
            });
            let _ = tokio::time::timeout_at(limit, gone).await;
        }
        self.clean();
    }

    /// Removes users and ranges; of what cannot be removed a note is left.
    pub fn clean(&mut self) {
        let mut left = Vec::new();
        for name in std::mem::take(&mut self.users) {
            if let Err(Failure(why)) =
                block_in_place(|| self.client.delete(&format!("users/{}", segment(&name))))
            {
                left.push(format!("user {name} is still there: {why}"));
            }
        }
        if std::mem::take(&mut self.has_groups) {
            let path = format!("orbits/{}?force=true", GROUPS.0);
            if let Err(Failure(why)) = block_in_place(|| self.client.delete(&path)) {
                left.push(format!("range {} is still there: {why}", GROUPS.0));
            }
        }
        self.report.notes.extend(left);
    }
}

/// `udp:192.0.2.1:5060` of a host's listeners, as addresses.
pub fn addresses(listeners: &Value) -> Result<Vec<SocketAddr>, Failure> {
    let mut found = Vec::new();
    for listener in listeners.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(address) = listener.strip_prefix("udp:") {
            found.extend(resolve(address)?);
        }
    }
    if found.is_empty() {
        return Err(Failure(
            "the host has no UDP listener for the drill's phones: name one with --sip".to_owned(),
        ));
    }
    Ok(found)
}

/// `HOST:PORT` as an address.
pub fn resolve(address: &str) -> Result<Option<SocketAddr>, Failure> {
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| Failure(format!("{address}: no such address ({error})")))?;
    Ok(found.next())
}

impl Person {
    /// How long it waits for something.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Registers.
    pub async fn register(&self) -> Result<(), Refused> {
        self.phone.act(|core| core.register(REGISTERED_S));
        let told = self.phone.wait(self.patience, |core| match &core.registration {
            Registration::Asked => None,
            Registration::Done => Some(Ok(())),
            Registration::Refused(why) => Some(Err(why.clone())),
        });
        told.await.unwrap_or_else(|| Err(Refused::silence()))
    }

    /// Dials and waits until somebody answers, or until it is refused.
    pub async fn call(&self, number: &str) -> Result<CallId, Refused> {
        let call = self.phone.act(|core| core.dial(number));
        self.answered(call).await.map(|()| call)
    }

    /// Waits until a call of ours is answered, or refused.
    pub async fn answered(&self, call: CallId) -> Result<(), Refused> {
        let told = self.phone.wait(self.patience, |core| match core.call(call).state {
            State::Ringing => None,
            State::Up => Some(Ok(())),
            State::Over => Some(Err(core.call(call).refused.clone().unwrap_or_else(Refused::silence))),
        });
        told.await.unwrap_or_else(|| Err(Refused::silence()))
    }

    /// Waits until a call rings here.
    pub async fn rung(&self) -> Option<CallId> {
        self.phone.wait(self.patience, super::phone::Core::ringing).await
    }

    /// Waits until a call that rang here is up.
    pub async fn talks(&self) -> Option<CallId> {
        self.phone.wait(self.patience, super::phone::Core::talking).await
    }

    /// Whether a call is up, as far as this phone knows.
    pub fn is_up(&self, call: CallId) -> bool {
        self.phone.look(|core| core.call(call).state == State::Up)
    }

    /// Changes the direction of our media, and waits for the answer. Two changes that cross are tried again (RFC 3261 §14.1).
    pub async fn change(&self, call: CallId, direction: &'static str) -> Result<(), Refused> {
        let mut tries = 0..CROSSINGS_MAX;
        loop {
            self.phone.act(|core| core.change(call, direction));
            let told = self.phone.wait(self.patience, |core| core.call(call).changed.clone()).await;
            match told.unwrap_or_else(|| Err(Refused::silence())) {
                Err(why) if why.status == Status::REQUEST_PENDING && tries.next().is_some() => {
                    tokio::time::sleep(CROSSING).await;
                }
                told => return told,
            }
        }
    }

    /// Whether the other side has said that of its media.
    pub async fn hears(&self, call: CallId, direction: &str) -> bool {
        let heard = |core: &super::phone::Core| (core.call(call).heard == Some(direction)).then_some(());
        self.phone.wait(self.patience, heard).await.is_some()
    }

    /// Transfers the other party, and waits for what becomes of it: `SIP/2.0 200 …`.
    pub async fn refer(&self, call: CallId, to: &str) -> Result<String, String> {
        self.phone.act(|core| core.refer(call, to));
        self.referred(call).await
    }

    /// Waits for what becomes of a REFER.
    pub async fn referred(&self, call: CallId) -> Result<String, String> {
        match self.phone.wait(self.patience, |core| core.call(call).referred.clone()).await {
            Some(Ok(told)) if told.starts_with("SIP/2.0 2") => Ok(told),
            Some(Ok(told)) => Err(refusal_in(&told)),
            Some(Err(why)) => Err(why.to_string()),
            None => Err("no answer".to_owned()),
        }
    }

    /// Parks the other party: the orbit's number.
    pub async fn park(&self, call: CallId) -> Result<String, String> {
        self.refer(call, "park").await.map(|told| number_in(&told))
    }

    /// Waits until the other side has hung up; its Reason.
    pub async fn hung_up(&self, call: CallId) -> Option<String> {
        self.phone.wait(self.patience, |core| core.call(call).bye.clone()).await
    }

    /// Hangs up.
    pub fn hang_up(&self, call: CallId) {
        self.phone.act(|core| core.hang_up(call));
    }
}

/// The orbit in `Contact: <sip:8000@…>`.
fn number_in(told: &str) -> String {
    let after = told.split("<sip:").nth(1).unwrap_or_default();
    after.chars().take_while(|c| *c != '@').collect()
}

/// `480 …: the warning's text` of a sipfrag.
fn refusal_in(told: &str) -> String {
    let first = told.lines().next().unwrap_or_default().trim_start_matches("SIP/2.0 ");
    let warning = told.lines().find_map(|line| line.strip_prefix("Warning:"));
    let text = warning.and_then(|warning| warning.split('"').nth(1));
    match text {
        Some(text) => format!("{} {text}", first.split(' ').next().unwrap_or_default()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_notify_says_is_read() {
        let told = "SIP/2.0 200 OK\r\nContact: <sip:7001@example.test>\r\n";
        assert_eq!(number_in(told), "7001");
        let refused = "SIP/2.0 480 Temporarily Unavailable\r\nWarning: 399 fe1 \"35110: not now\"";
        assert_eq!(refusal_in(refused), "480 35110: not now");
        assert_eq!(refusal_in("SIP/2.0 404 Not Found"), "404 Not Found");
    }
}
