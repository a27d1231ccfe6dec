//! What plugins ask for, applied when no plugin runs.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use switchyard_sdk::ext::call::{Answered, Ended, Music, Play, Played, Release, Ring};
use switchyard_sdk::types::{Code, LegId, Refusal};

use super::Engine;
use super::routing::{Destination, Errand, Purpose};
use super::timers::Timer;
use crate::call::{Done, Failed, Headers, Origin, Rejection, Ringing};
use crate::media::{Background, Playlist};
use crate::plugin::{Command, Verb, Waiter};
use crate::sip::{Name, Status, Uri};

impl Engine {
    pub(super) fn apply(&mut self, command: Command) {
        let now = self.core.now;
        let flow = command.flow;
        let waiter = |token| Waiter { instance: command.instance, token };
        match command.verb {
            Verb::Play(token, leg, play) => self.play(waiter(token), leg, &play),
            Verb::Join(token, a, b) => {
                if self.known(waiter(token), a) && self.known(waiter(token), b) {
                    self.calls.join(&mut self.core, Origin::Plugin(waiter(token)), a, b);
                }
            }
            Verb::Ring(token, ring) => self.ring(waiter(token), ring),
            Verb::Release(leg, release) => self.release(leg, release),
            Verb::Watch(token, leg) => {
                if self.calls.leg(leg).is_some() {
                    self.watches.entry(leg).or_default().push(waiter(token));
                } else {
                    let ended = Ended { by_party: true, reason: "it has ended already".to_owned() };
                    self.answer(waiter(token), Ok(&ended));
                }
            }
            Verb::Accept(accept) => self.accept(flow, &accept),
            Verb::Refuse(refusal) => self.refuse(flow, &refusal),
            Verb::Reserve(token, reserve) => match self.bars_park(&reserve) {
                Some(refusal) => self.bar(waiter(token), reserve.number.as_deref(), &refusal),
                None => self.orbits.reserve(now, waiter(token), flow, reserve),
            },
            Verb::Commit(token, commit) => {
                let leg = self.orbits.occupant(&commit.number).and_then(|occupant| occupant.leg);
                match leg.and_then(|leg| self.leg_facts(leg)) {
                    Some(facts) => self.orbits.commit(now, waiter(token), flow, commit, facts),
                    None => {
                        let refusal = Refusal::new(Code::LEG_GONE, "the call has ended");
                        self.answer::<Value>(waiter(token), Err((&refusal, 487)));
                    }
                }
            }
            Verb::Save(commit) => {
                let leg = self.orbits.occupant(&commit.number).and_then(|occupant| occupant.leg);
                let facts = leg.and_then(|leg| self.leg_facts(leg));
                self.orbits.save(now, flow, commit, facts);
            }
            Verb::Claim(token, claim) => match self.bars("retrieve", &claim.claimant) {
                Some(refusal) => self.bar(waiter(token), claim.number.as_deref(), &refusal),
                None => self.orbits.claim(now, waiter(token), flow, claim),
            },
            Verb::Claimed(token, number) => self.orbits.claimed(waiter(token), flow, &number),
            Verb::Settled(token, number) => self.orbits.settled(waiter(token), flow, &number),
            Verb::Free(number, outcome) => {
                self.orbits.free(now, flow, &number, outcome);
                self.clear_parker(&number);
            }
            Verb::Unclaim(number) => self.orbits.unclaim(now, flow, &number),
            Verb::List(token, query) => self.list_waiting(waiter(token), &query),
            Verb::Take(token, take) => self.take(waiter(token), take),
            Verb::Over(token, leg) => self.orbits.when_over(waiter(token), leg),
            Verb::Tell(tell) => self.tell_group(&tell),
            Verb::At(token, utc) => {
                let at = now.instant_of(utc);
                self.core.timers.set(Timer::Plugin(waiter(token)), at);
            }
            Verb::Withdraw(token) => {
                let waiter = waiter(token);
                self.core.timers.cancel(Timer::Plugin(waiter));
                self.watches.retain(|_, waiters| {
                    waiters.retain(|other| *other != waiter);
                    !waiters.is_empty()
                });
                self.orbits.withdraw(waiter);
                self.calls.withdraw(&mut self.core, Origin::Plugin(waiter));
            }
            Verb::FlowEnd(how, message) => self.flow_ended(flow, how, &message),
        }
    }

    /// Answers whoever waits in a plugin.
    pub(super) fn answer<T: Serialize>(&mut self, waiter: Waiter, result: Result<&T, (&Refusal, u16)>) {
        self.plugins.answer(self.core.now, waiter, result);
    }

    fn known(&mut self, waiter: Waiter, leg: LegId) -> bool {
        if self.calls.leg(leg).is_some() {
            return true;
        }
        let refusal = Refusal::new(Code::LEG_GONE, "the leg has ended");
        self.answer::<Value>(waiter, Err((&refusal, 487)));
        false
    }

    fn play(&mut self, waiter: Waiter, leg: LegId, play: &Play) {
        if self.known(waiter, leg) {
            self.calls.play(&mut self.core, Origin::Plugin(waiter), leg, playlist(play));
        }
    }

    fn ring(&mut self, waiter: Waiter, ring: Ring) {
        if !self.known(waiter, ring.leg) {
            return;
        }
        let Some(waiting) = self.calls.leg(ring.leg) else { return };
        let party = waiting.party.clone();
        let mut headers = Headers::presenting(&self.core, &party, ring.display.as_deref());
        if let Some(alert_info) = &ring.alert_info {
            headers.extra.push((Name::AlertInfo, alert_info.clone()));
        }
        if let Some(number) = &ring.claims {
            let to = ring.to.user.as_deref().or(ring.to.uri.as_deref());
            let detail = serde_json::json!({ "number": number, "to": to, "for_ms": ring.timeout_ms, "attempt": ring.attempt });
            let call_id = waiting.dialog.call_id.clone();
            self.core.event("orbit.recalling", None, Some(&call_id), detail);
        }
        let mut ringing = Ringing {
            headers,
            timeout: Some(Duration::from_millis(ring.timeout_ms)),
            claims: ring.claims,
            attempt: ring.attempt,
            ..Ringing::default()
        };
        let origin = Origin::Plugin(waiter);
        if let Some(name) = &ring.to.user {
            let Some(user) = self.directory.user(name).cloned() else {
                self.no_such_target(waiter, name);
                return;
            };
            let mut phones = self.phones_of(&user, ring.to.device.as_deref());
            // The device that parked first, alone; then the user's others, together.
            if ring.to.device.is_some() && phones.len() > 1 && phones[0].party.device == ring.to.device {
                ringing.groups.push_back(vec![phones.remove(0)]);
            }
            ringing.groups.push_back(phones);
        } else if let Some(uri) = ring.to.uri.as_deref().and_then(|uri| Uri::parse(uri).ok()) {
            // A plugin acts on behalf of the host's own users.
            let host = switchyard_sdk::types::Party::default();
            let (uri, history) = self.forwarded_at_once(&uri);
            ringing.headers.extra.extend(history);
            match self.destination(&uri, Errand::Feature, &host) {
                Ok(Destination::Phones(phones)) => ringing.groups.push_back(phones),
                Ok(Destination::Trunk { name, number }) => {
                    let ringing = Box::new(ringing);
                    self.resolve_trunk(&name, &number, Purpose::Ring { origin, leg: ring.leg, ringing });
                    return;
                }
                Err(rejection) => {
                    let text = rejection.reason.unwrap_or_else(|| rejection.status.to_string());
                    let refusal = Refusal::new(Code::GENERAL, text);
                    self.answer::<Value>(waiter, Err((&refusal, rejection.status.0)));
                    return;
                }
            }
        } else {
            self.no_such_target(waiter, ring.to.uri.as_deref().unwrap_or("nobody"));
            return;
        }
        self.calls.ring(&mut self.core, origin, ring.leg, ringing);
    }

    fn no_such_target(&mut self, waiter: Waiter, name: &str) {
        let refusal = Refusal::new(Code::GENERAL, format!("{name} cannot be rung"));
        self.answer::<Value>(waiter, Err((&refusal, 404)));
    }

    fn release(&mut self, leg: LegId, release: Release) {
        let status = Status(release.status.unwrap_or(480));
        let mut rejection = Rejection::new(status);
        rejection.reason = release.text;
        self.calls.release(&mut self.core, leg, &rejection);
    }

    /// An operation that a plugin asked for has ended.
    pub(super) fn command_finished(&mut self, waiter: Waiter, result: Result<Done, Failed>) {
        if self.takings.contains_key(&waiter) {
            self.taking_over(waiter, result);
            return;
        }
        if result.is_ok() {
            self.recalls.remove(&waiter);
        }
        match result {
            Ok(Done::Played { audible }) => self.answer(waiter, Ok(&Played { audible })),
            Ok(Done::Joined) => self.answer(waiter, Ok(&Value::Null)),
            Ok(Done::Answered { leg }) => {
                let party = self.calls.leg(leg).map(|leg| leg.party.clone()).unwrap_or_default();
                self.answer(waiter, Ok(&Answered { leg, party }));
            }
            Err(failed) => {
                // A recall that won its claim and then could not be connected gives the claim back.
                if let Some(number) = self.recalls.remove(&waiter) {
                    self.orbits.return_claim(self.core.now, &number);
                }
                let refusal = Refusal::new(failed.code, failed.text);
                self.answer::<Value>(waiter, Err((&refusal, failed.status)));
            }
        }
    }
}

/// What a stream plays for a command.
pub(super) fn playlist(play: &Play) -> Playlist {
    let prompts = match &play.say_number {
        Some(number) => {
            std::iter::once("parked-on".to_owned()).chain(number.chars().filter_map(prompt)).collect()
        }
        None => Vec::new(),
    };
    Playlist { prompts, then: background(&play.music) }
}

pub(super) fn background(music: &Music) -> Background {
    match music {
        Music::Off => Background::Silence,
        Music::Default => Background::Music(None),
        Music::File(name) => Background::Music(Some(name.clone())),
    }
}

/// The prompt that speaks one character of an orbit number.
fn prompt(character: char) -> Option<String> {
    match character {
        '0'..='9' => Some(format!("digits/{character}")),
        '*' => Some("digits/star".to_owned()),
        '#' => Some("digits/pound".to_owned()),
        _ => None,
    }
}
