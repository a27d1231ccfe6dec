//! The people of the drill, and what they try again and again.

use serde_json::json;

use super::{
    BEFORE, HOME, NATIVES, NEW, OVER, PARK, PARKED, PICKUP, Pair, RETRIEVED, RINGING, Sites, Walk, holds,
    pick,
};
use crate::cli::Failure;
use crate::drill::office::{GROUPS, Office, Person};
use crate::drill::phone::{CallId, Refused, State};
use crate::drill::report::Seen;

/// Users of the pool that is lost, in the order of [`Cast::of`].
const POOL: [&str; 9] = ["anna", "bert", "cora", "dora", "emil", "fred", "gita", "hugo", "ida"];

/// Users of its backup.
const BACKUP: [&str; 5] = ["nina", "olga", "paul", "quin", "rosa"];

/// Everybody.
#[derive(Clone, Copy)]
pub(super) struct Cast<'p> {
    pub all: &'p [Person],
    /// Talks with Bert all the time.
    pub anna: &'p Person,
    /// Parks her where that is possible.
    pub bert: &'p Person,
    /// Is parked …
    cora: &'p Person,
    /// … by her.
    dora: &'p Person,
    /// Was parked …
    emil: &'p Person,
    /// … by him …
    fred: &'p Person,
    /// … and retrieved by her.
    gita: &'p Person,
    /// His phone rings and rings.
    hugo: &'p Person,
    /// Picks up for him.
    pub ida: &'p Person,
    /// Calls him, from the backup.
    nina: &'p Person,
    /// Picks up for him, from the backup.
    pub olga: &'p Person,
    paul: &'p Person,
    quin: &'p Person,
    rosa: &'p Person,
}

/// A call of two phones.
#[derive(Clone, Copy)]
pub(super) struct Talk<'p> {
    pub one: (&'p Person, CallId),
    pub other: (&'p Person, CallId),
}

impl Talk<'_> {
    pub fn is_up(&self) -> bool {
        self.one.0.is_up(self.one.1) && self.other.0.is_up(self.other.1)
    }

    pub async fn holds(self) -> Seen {
        holds(self.other, self.one).await
    }
}

impl<'p> Cast<'p> {
    pub async fn hire(
        office: &mut Office<'_>,
        people: &mut Vec<Person>,
        pair: &Pair,
        sites: &Sites,
    ) -> Result<(), Failure> {
        let group = |number| json!({ "pickup_group": number });
        let of_pool = POOL.iter().map(|name| (name, pair.pool.as_str(), &sites.home));
        let of_backup = BACKUP.iter().map(|name| (name, sites.backup_name.as_str(), &sites.backup));
        for (index, (name, pool, hosts)) in of_pool.chain(of_backup).enumerate() {
            let settings = match *name {
                "hugo" | "ida" => group(GROUPS.1),
                "fred" => group(GROUPS.2),
                _ => json!({}),
            };
            let host = hosts[index % hosts.len()];
            let person = office.hire(name, Some(pool), settings, host).await?;
            person.phone.act(|core| {
                core.talk_to(pick(hosts, &person));
                core.answers = *name != "hugo";
            });
            people.push(person);
        }
        Ok(())
    }

    pub fn of(all: &'p [Person]) -> Option<Self> {
        let [anna, bert, cora, dora, emil, fred, gita, hugo, ida, nina, olga, paul, quin, rosa] = all else {
            return None;
        };
        Some(Self { all, anna, bert, cora, dora, emil, fred, gita, hugo, ida, nina, olga, paul, quin, rosa })
    }

    pub fn of_the_pool(self) -> &'p [Person] {
        &self.all[..POOL.len()]
    }

    /// Gita calls Fred and transfers him to Dora.
    pub async fn transfers(self) -> Seen {
        let call = match self.gita.call(&self.fred.name).await {
            Ok(call) => call,
            Err(why) => return Seen::bad(format!("a new call is answered {why}")),
        };
        match self.gita.refer(call, &self.dora.name).await {
            Ok(_) => {}
            Err(why) => {
                self.gita.hang_up(call);
                return Seen::bad(format!("a new call comes about, its transfer is answered {why}"));
            }
        }
        let Some(transferred) = self.dora.talks().await else {
            return Seen::bad("the transferred call never arrives");
        };
        self.dora.hang_up(transferred);
        Seen::good("a new call, and its transfer")
    }
}

/// A park that is to be refused.
pub(super) fn not_parked(outcome: Result<String, String>) -> Seen {
    match outcome {
        Ok(number) => Seen::bad(format!("parked on {number}")),
        Err(why) if why == "no answer" => Seen::bad("nobody answers the park"),
        Err(why) => Seen::good(format!("park refused: {why}")),
    }
}

/// A pickup that is to be refused.
pub(super) async fn not_picked(picker: &Person, number: &str) -> Seen {
    match picker.call(number).await {
        Ok(call) => {
            picker.hang_up(call);
            Seen::bad(format!("{} gets it", picker.name))
        }
        Err(why) if why.status.0 == 408 => Seen::bad(format!("{}: {why}", picker.name)),
        Err(why) => Seen::good(format!("{}: {why}", picker.name)),
    }
}

type Place<'n> = (&'static str, &'n str, &'static str);

impl<'w> Walk<'w, '_> {
    /// A call without which there is nothing to observe.
    pub(super) async fn talk(&self, caller: &'w Person, callee: &'w Person) -> Result<Talk<'w>, Failure> {
        match crate::drill::park::talk(caller, callee).await {
            Ok((ours, theirs)) => Ok(Talk { one: (caller, ours), other: (callee, theirs) }),
            Err(why) => Err(Failure(format!("no call from {} to {}: {why}", caller.name, callee.name))),
        }
    }

    /// Dora parks Cora: her call, and the orbit.
    pub(super) async fn park_one(
        &mut self,
        place: Place<'_>,
        pool: &str,
    ) -> Result<(Talk<'w>, String), Failure> {
        let (cora, dora) = (self.cast.cora, self.cast.dora);
        let talk = self.talk(cora, dora).await?;
        let waiting = self.sites.waiting(pool);
        let begun = self.office.now();
        let outcome = dora.park(talk.other.1).await;
        let seen = match &outcome {
            Ok(number) => self.in_orbit_of(number, pool)?.and(waiting.look(cora).await),
            Err(why) => Seen::bad(why.clone()),
        };
        let took = self.office.now() - begun;
        let expected = format!("parked in an orbit of {pool}, {}", waiting.words());
        self.office.note(place, &expected, seen, took);
        Ok((talk, outcome.unwrap_or_default()))
    }

    fn in_orbit_of(&self, number: &str, pool: &str) -> Result<Seen, Failure> {
        Ok(match self.office.pool_of(number)? {
            Some(found) if found == pool => Seen::good(format!("parked on {number} ({pool})")),
            Some(found) => Seen::bad(format!("parked on {number}, which is {found}'s")),
            None => Seen::bad(format!("parked on {number:?}, which is in no range")),
        })
    }

    /// Fred parks Emil, and Gita retrieves him.
    pub(super) async fn retrieve_one(&mut self) -> Result<Talk<'w>, Failure> {
        let (emil, fred, gita) = (self.cast.emil, self.cast.fred, self.cast.gita);
        let place = (PARK, RETRIEVED, BEFORE);
        let talk = self.talk(emil, fred).await?;
        let number = fred.park(talk.other.1).await.map_err(|why| Failure(format!("no park: {why}")))?;
        let begun = self.office.now();
        let call = gita.call(&number).await.map_err(|why| Failure(format!("no retrieval: {why}")))?;
        let talk = Talk { one: talk.one, other: (gita, call) };
        let seen = talk.holds().await;
        let took = self.office.now() - begun;
        self.office.note(place, "retrieved", seen, took);
        Ok(talk)
    }

    /// Bert parks Anna where that is to be possible again, and fetches her.
    pub(super) async fn park_and_fetch<'t>(
        &mut self,
        place: Place<'_>,
        talk: Talk<'t>,
        pool: &str,
    ) -> Result<Talk<'t>, Failure> {
        let begun = self.office.now();
        let (bert, call) = talk.other;
        let (mut seen, mut after) = (talk.holds().await, talk);
        if talk.is_up() {
            seen = match bert.park(call).await {
                Err(why) => seen.and(Seen::bad(format!("park: {why}"))),
                Ok(number) => {
                    let parked = self.in_orbit_of(&number, pool)?;
                    match bert.call(&number).await {
                        Ok(fetched) => {
                            after = Talk { one: talk.one, other: (bert, fetched) };
                            seen.and(parked).and(Seen::good("retrieved"))
                        }
                        Err(why) => seen.and(parked).and(Seen::bad(format!("retrieval: {why}"))),
                    }
                }
            };
        }
        let took = self.office.now() - begun;
        let expected = format!("hold, park in an orbit of {pool}, retrieve");
        self.office.note(place, &expected, seen, took);
        Ok(after)
    }

    /// Dora fetches Cora from where she waits, and they hang up.
    pub(super) async fn fetch_parked(&mut self, place: Place<'_>, parked: Talk<'_>, number: &str) {
        let (cora, call) = parked.one;
        let dora = self.cast.dora;
        let look = async {
            if !cora.is_up(call) {
                return Seen::bad("the parked caller is gone");
            }
            match dora.call(number).await {
                Ok(fetched) => {
                    let seen = holds((dora, fetched), (cora, call)).await;
                    dora.hang_up(fetched);
                    seen
                }
                Err(why) => Seen::bad(why.to_string()),
            }
        };
        self.office.observe(place, "still there, and can be retrieved", look).await;
    }

    pub(super) async fn stays_parked(&mut self, parked: Talk<'_>) -> Seen {
        let (cora, call) = parked.one;
        let waiting = self.sites.backup_waits;
        if cora.is_up(call) { waiting.look(cora).await } else { Seen::bad("the parked caller is gone") }
    }

    /// A planned failover waits for the call that is parked; somebody who is not concerned fetches it.
    pub(super) async fn drained(&mut self, parked: Talk<'_>, number: &str) {
        let (cora, call) = parked.one;
        let (rosa, waiting) = (self.cast.rosa, self.sites.home_waits);
        let look = async {
            if !cora.is_up(call) {
                return Seen::bad("the parked caller is gone");
            }
            let heard = waiting.look(cora).await;
            match rosa.call(number).await {
                Ok(fetched) => {
                    rosa.hang_up(fetched);
                    heard.and(Seen::good("retrieved by a user of the backup"))
                }
                Err(why) => heard.and(Seen::bad(why.to_string())),
            }
        };
        self.office.observe((PARK, PARKED, OVER), "waits until fetched, for drain_time at most", look).await;
    }

    /// After a loss there is no parked call left, unless it is rescued.
    pub(super) async fn none_parked(&mut self, parked: Talk<'_>, number: &str, rescued: bool) {
        let (cora, call) = parked.one;
        let rosa = self.cast.rosa;
        if rescued {
            let look = async {
                match rosa.call(number).await {
                    Ok(fetched) => {
                        let seen = holds((rosa, fetched), (cora, call)).await;
                        rosa.hang_up(fetched);
                        seen
                    }
                    Err(why) => Seen::bad(why.to_string()),
                }
            };
            self.office.observe((PARK, PARKED, OVER), "can be retrieved at the backup (rescue)", look).await;
            return;
        }
        let look = async {
            match rosa.call(number).await {
                Ok(fetched) => {
                    rosa.hang_up(fetched);
                    Seen::bad("somebody was there")
                }
                Err(why) => Seen::good(format!("nobody in {number}: {why}")),
            }
        };
        self.office.observe((PARK, PARKED, OVER), "no call in this state", look).await;
    }

    /// Nina calls Hugo, whose phone rings on: her call and his.
    pub(super) async fn ring(&mut self, place: Place<'_>) -> Option<(CallId, CallId)> {
        let (nina, hugo) = (self.cast.nina, self.cast.hugo);
        let ours = nina.phone.act(|core| core.dial(&hugo.name));
        let theirs = hugo.rung().await;
        if theirs.is_none() {
            let seen = Seen::bad("the phone does not ring");
            self.office.note(place, "the callee's phone rings", seen, hugo.patience());
        }
        theirs.map(|theirs| (ours, theirs))
    }

    /// Nina calls Hugo, and somebody picks it up.
    pub(super) async fn pick(&mut self, place: Place<'_>, picker: &'w Person) -> Result<Talk<'w>, Failure> {
        let nina = self.cast.nina;
        let (ours, _) = self.ring(place).await.ok_or_else(|| Failure("no phone rings".to_owned()))?;
        let begun = self.office.now();
        let mut talk = None;
        let seen = match picker.call(GROUPS.1).await {
            Err(why) => Seen::bad(format!("{}: {why}", picker.name)),
            Ok(call) => match nina.answered(ours).await {
                Err(why) => Seen::bad(format!("the caller is told {why}")),
                Ok(()) => {
                    talk = Some(Talk { one: (nina, ours), other: (picker, call) });
                    Seen::good(format!("{} has it", picker.name))
                }
            },
        };
        if talk.is_none() {
            nina.hang_up(ours);
        }
        let took = self.office.now() - begun;
        self.office.note(place, "picked up", seen, took);
        talk.ok_or_else(|| Failure(format!("{} cannot pick up", picker.name)))
    }

    /// New calls are picked up, by users of the pool and by others.
    pub(super) async fn pick_and_hang_up(&mut self, column: &'static str) -> Result<(), Failure> {
        for picker in [self.cast.olga, self.cast.ida] {
            // That it fails is noted.
            if let Ok(talk) = self.pick((PICKUP, NEW, column), picker).await {
                talk.other.0.hang_up(talk.other.1);
                self.gone(talk.one).await;
            }
        }
        Ok(())
    }

    /// Nina gives up, and Hugo's phone is silent.
    pub(super) async fn give_up(&mut self, queued: Option<(CallId, CallId)>) {
        if let Some((ours, theirs)) = queued {
            self.cast.nina.hang_up(ours);
            self.gone((self.cast.hugo, theirs)).await;
        }
    }

    /// Quin calls Fred, whose phone rings, and Rosa tries to pick it up: what came of that, if it rang.
    pub(super) async fn new_call(&self) -> Option<Result<(), Refused>> {
        let Cast { fred, quin, rosa, .. } = self.cast;
        fred.phone.act(|core| core.answers = false);
        let ours = quin.phone.act(|core| core.dial(&fred.name));
        let theirs = fred.rung().await;
        let outcome = match theirs {
            Some(_) => Some(rosa.call(GROUPS.2).await.map(|taken| rosa.hang_up(taken))),
            None => None,
        };
        quin.hang_up(ours);
        fred.phone.act(|core| core.answers = true);
        if let Some(theirs) = theirs {
            self.gone((fred, theirs)).await;
        }
        outcome
    }

    async fn gone(&self, (person, call): (&Person, CallId)) {
        let is_over = |core: &crate::drill::phone::Core| (core.call(call).state == State::Over).then_some(());
        let _ = person.phone.wait(person.patience(), is_over).await;
    }

    /// What nobody may pick up its callee may still answer.
    pub(super) async fn answered_at_home(&mut self, queued: Option<(CallId, CallId)>) {
        let (nina, hugo) = (self.cast.nina, self.cast.hugo);
        let Some((ours, theirs)) = queued else { return };
        let look = async {
            if hugo.phone.look(|core| core.call(theirs).state) != State::Ringing {
                return Seen::bad("it does not ring any more");
            }
            hugo.phone.act(|core| core.answer(theirs));
            let told = nina.answered(ours).await;
            nina.hang_up(ours);
            match told {
                Ok(()) => Seen::good("connected"),
                Err(why) => Seen::bad(why.to_string()),
            }
        };
        self.office.observe((PICKUP, RINGING, HOME), "the callee may still answer", look).await;
        self.gone((hugo, theirs)).await;
    }

    /// Users of the backup notice nothing: Paul parks Quin, and Rosa retrieves him.
    pub(super) async fn natives(&mut self, column: &'static str) -> Result<(), Failure> {
        let (paul, quin, rosa) = (self.cast.paul, self.cast.quin, self.cast.rosa);
        let begun = self.office.now();
        let seen = match quin.call(&paul.name).await {
            Err(why) => Seen::bad(format!("a call is answered {why}")),
            Ok(ours) => {
                let parked = match paul.talks().await {
                    None => Err("the callee never had the call".to_owned()),
                    Some(theirs) => paul.park(theirs).await,
                };
                let seen = match parked {
                    Err(why) => Seen::bad(format!("park: {why}")),
                    Ok(number) => {
                        let parked = self.in_orbit_of(&number, &self.sites.backup_name)?;
                        match rosa.call(&number).await {
                            Ok(fetched) => {
                                let seen = holds((rosa, fetched), (quin, ours)).await;
                                rosa.hang_up(fetched);
                                parked.and(seen)
                            }
                            Err(why) => parked.and(Seen::bad(format!("retrieval: {why}"))),
                        }
                    }
                };
                quin.hang_up(ours);
                seen
            }
        };
        let took = self.office.now() - begun;
        self.office.note((NATIVES, "park and retrieve", column), "works as ever", seen, took);
        Ok(())
    }
}
