//! `drill park`: one call through all of Call Park.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::office::{Office, Person};
use super::report::Seen;
use crate::cli::Failure;

const NAME: &str = "Call Park";

/// Long enough for many packets of music, and for a stream that ends to have ended.
pub(super) const LISTEN: Duration = Duration::from_millis(400);

/// Packets of 20 ms in [`LISTEN`] that count as music: half of what there are, for a busy machine.
const PACKETS_MIN: u64 = 10;

/// The script.
pub async fn park(
    office: &mut Office<'_>,
    people: &mut Vec<Person>,
    hosts: &[SocketAddr],
) -> Result<(), Failure> {
    let hosts = hosts.iter().copied().cycle();
    for (name, host) in ["alice", "bob", "carol", "dave"].into_iter().zip(hosts) {
        let settings = json!({ "may_park": name != "dave" });
        people.push(office.hire(name, None, settings, host).await?);
    }
    let [alice, bob, carol, dave] = &people[..] else { return Ok(()) };
    let step = |step| (NAME, step, "");

    office.observe(step("register"), "four phones are registered", registers(&people[..])).await;
    let Some((ours, theirs)) = connect(office, step("call"), alice, bob).await else {
        return Err(Failure("without a call nothing can be parked".to_owned()));
    };
    let hold = holds((bob, theirs), (alice, ours));
    office.observe(step("hold"), "hold and resume reach the other phone", hold).await;
    let mut orbit = String::new();
    office
        .observe(step("park"), "an orbit is named, and the parker's call ends", async {
            match bob.park(theirs).await {
                Ok(number) => {
                    orbit.clone_from(&number);
                    match bob.hung_up(theirs).await {
                        Some(_) => Seen::good(format!("parked on {number}")),
                        None => Seen::bad(format!("parked on {number}, but the parker's call goes on")),
                    }
                }
                Err(why) => Seen::bad(why),
            }
        })
        .await;
    let pool = office.get(&format!("users/{}", bob.name))?["pool"].take();
    let waiting = office.waiting(pool.as_str().unwrap_or_default())?;
    let expected = format!("the parked caller {}", waiting.words());
    office.observe(step("music"), &expected, waiting.look(alice)).await;
    let listed = office.get("occupants")?;
    let is_there = listed.as_array().into_iter().flatten().any(|occupant| occupant["number"] == *orbit);
    let seen =
        if is_there { Seen::good("listed") } else { Seen::bad(format!("no call is listed in {orbit}")) };
    office.note(step("list"), "the orbit is listed", seen, Duration::ZERO);
    let mut fetched = None;
    office
        .observe(step("retrieve"), "whoever dials the orbit gets the call", async {
            match carol.call(&orbit).await {
                Ok(call) => {
                    fetched = Some(call);
                    Seen::good("connected")
                }
                Err(why) => Seen::bad(why.to_string()),
            }
        })
        .await;
    office.observe(step("no music"), "no music any more", silence(alice)).await;
    if let Some(call) = fetched {
        office.observe(step("hang up"), "the caller is told", ends((carol, call), (alice, ours))).await;
    }
    office
        .observe(step("too late"), "who comes late is told who was faster (486)", refused(carol, &orbit, 486))
        .await;
    if let Some((_, theirs)) = connect(office, step("call again"), alice, dave).await {
        office
            .observe(step("may not park"), "whoever may not park is refused (403)", async {
                match dave.park(theirs).await {
                    Ok(number) => Seen::bad(format!("parked on {number}")),
                    Err(why) if why.starts_with("403") => Seen::good(why),
                    Err(why) => Seen::bad(why),
                }
            })
            .await;
        let up = if dave.is_up(theirs) { Seen::good("up") } else { Seen::bad("ended") };
        office.note(step("goes on"), "the call stays up", up, Duration::ZERO);
    }
    Ok(())
}

/// Everybody registers.
pub(super) async fn registers(people: &[Person]) -> Seen {
    let asked = people.iter().map(|person| async move { (&person.name, person.register().await) });
    let told = futures_util::future::join_all(asked).await;
    let count = told.iter().filter(|(_, told)| told.is_ok()).count();
    match told.into_iter().find_map(|(name, told)| Some((name, told.err()?))) {
        None => Seen::good(format!("{count} registered")),
        Some((name, why)) => Seen::bad(format!("{count} of {} registered; {name}: {why}", people.len())),
    }
}

/// The one calls the other, who answers: the call as each of them has it.
pub(super) async fn connect(
    office: &mut Office<'_>,
    place: (&'static str, &str, &'static str),
    caller: &Person,
    callee: &Person,
) -> Option<(super::phone::CallId, super::phone::CallId)> {
    let mut calls = None;
    office
        .observe(place, "a call comes about", async {
            match talk(caller, callee).await {
                Ok(both) => {
                    calls = Some(both);
                    Seen::good("up")
                }
                Err(why) => Seen::bad(why),
            }
        })
        .await;
    calls
}

/// The same without a word; why not, if it does not come about.
pub(super) async fn talk(
    caller: &Person,
    callee: &Person,
) -> Result<(super::phone::CallId, super::phone::CallId), String> {
    let ours = caller.call(&callee.name).await.map_err(|why| why.to_string())?;
    let theirs = callee.talks().await.ok_or("the callee never had the call")?;
    Ok((ours, theirs))
}

/// One hangs up, and the other is told.
pub(super) async fn ends(
    (one, its): (&Person, super::phone::CallId),
    (other, their): (&Person, super::phone::CallId),
) -> Seen {
    one.hang_up(its);
    match other.hung_up(their).await {
        Some(_) => Seen::good("told"),
        None => Seen::bad("the caller's call goes on"),
    }
}

/// A call is up on both sides, and what one does with it reaches the other.
pub(super) async fn holds(
    (one, its): (&Person, super::phone::CallId),
    (other, their): (&Person, super::phone::CallId),
) -> Seen {
    if !one.is_up(its) || !other.is_up(their) {
        return Seen::bad("the call is gone");
    }
    for (direction, what) in [("sendonly", "hold"), ("sendrecv", "resume")] {
        if let Err(why) = one.change(its, direction).await {
            return Seen::bad(format!("up, but {what} is answered {why}"));
        }
        if !other.hears(their, direction).await {
            return Seen::bad(format!("up, but the other phone never hears of the {what}"));
        }
    }
    Seen::good("up, hold and resume work")
}

/// What somebody hears who waits in an orbit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Music on hold.
    Music,
    /// Nothing: the policy says `music_on_hold = false`.
    Silence,
}

impl Waiting {
    /// As an expectation goes on: `hears music`.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Waiting::Music => "hears music",
            Waiting::Silence => "hears nothing (music_on_hold = false)",
        }
    }

    /// Whether it is so.
    pub(super) async fn look(self, person: &Person) -> Seen {
        match self {
            Waiting::Music => music(person).await,
            Waiting::Silence => silence(person).await,
        }
    }
}

/// Music is heard.
async fn music(person: &Person) -> Seen {
    // It begins after an answer or two.
    let mut heard = 0;
    for _ in 0..5 {
        heard = person.phone.listen(LISTEN).await;
        if heard >= PACKETS_MIN {
            return Seen::good("music");
        }
    }
    Seen::bad(format!("{heard} packets with sound in {} ms", LISTEN.as_millis()))
}

/// Nothing is heard.
pub(super) async fn silence(person: &Person) -> Seen {
    let mut heard = 0;
    for _ in 0..5 {
        heard = person.phone.listen(LISTEN).await;
        if heard == 0 {
            return Seen::good("silence");
        }
    }
    Seen::bad(format!("{heard} packets with sound in {} ms", LISTEN.as_millis()))
}

/// Who dials this is refused with this status.
pub(super) async fn refused(person: &Person, number: &str, status: u16) -> Seen {
    match person.call(number).await {
        Ok(call) => {
            person.hang_up(call);
            Seen::bad("connected")
        }
        Err(why) if why.status.0 == status => Seen::good(why.to_string()),
        Err(why) => Seen::bad(why.to_string()),
    }
}
