//! The registrar: takes REGISTER, keeps bindings, tells where a user's phones are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::binding::{Binding, id_of, prefix};
use super::contacts::{self, Refusal, Wanted, Wish};
use super::digest::hex;
use crate::config;
use crate::directory::User;
use crate::net::{ConnectionId, Flow, HostName};
use crate::sip::{Draft, Message, Name, NameAddr, Status, Uri};
use crate::store::keys::binding_key;
use crate::store::{Change, Operation, Snapshot};
use crate::time::{Instant, Now};

/// What the registrar grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistrarConfig {
    /// The host part of our users' addresses. Addresses of record at an IP address count as well, for phones that
    /// know us by nothing else; an empty list takes any domain.
    pub domains: Vec<String>,
    /// The shortest registration; a shorter wish is answered 423.
    pub expires_min: Duration,
    /// What a phone gets that asks for nothing.
    pub expires_default: Duration,
    /// The longest; longer wishes are cut to it.
    pub expires_max: Duration,
    /// Bindings per user. A phone that comes with a new address after each restart leaves old ones behind, so a
    /// further one takes the place of the one refreshed longest ago instead of being refused.
    pub bindings_max: usize,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            expires_min: Duration::from_secs(60),
            expires_default: Duration::from_secs(3600),
            expires_max: Duration::from_secs(7200),
            bindings_max: 10,
        }
    }
}

impl From<&config::Sip> for RegistrarConfig {
    fn from(sip: &config::Sip) -> Self {
        let advertised = sip.advertise.iter().map(|advertise| advertise.host.clone());
        let limits = &sip.limits;
        Self {
            domains: std::iter::once(sip.domain.clone()).chain(advertised).collect(),
            expires_min: limits.register_min,
            expires_default: Self::default().expires_default.min(limits.register_max),
            expires_max: limits.register_max,
            bindings_max: limits.bindings_per_user,
        }
    }
}

/// A binding, and what is computed from it once.
#[derive(Clone, Debug)]
struct Entry {
    binding: Binding,
    uri: Uri,
    /// When to look whether it has expired.
    due: Instant,
}

/// Who is where. The only writer of `binding/` records.
#[derive(Clone, Debug)]
pub struct Registrar {
    config: RegistrarConfig,
    /// What `config.expires_max` is when nothing keeps it lower.
    longest: Duration,
    /// By user; each user's in the order of their last refresh.
    users: BTreeMap<String, Vec<Entry>>,
    /// By user, for addresses of record that use the extension.
    extensions: BTreeMap<String, String>,
    /// When to drop which binding, of whom.
    deadlines: BTreeSet<(Instant, String, String)>,
    /// Writes that the next [`on_timeout`](Registrar::on_timeout) hands out.
    unwritten: Vec<Operation>,
}

impl Registrar {
    /// A registrar without bindings.
    pub fn new(config: impl Into<RegistrarConfig>) -> Self {
        let config = config.into();
        Self {
            longest: config.expires_max,
            config,
            users: BTreeMap::new(),
            extensions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unwritten: Vec::new(),
        }
    }

    /// Takes up the bindings and extensions in `snapshot` after a restart.
    pub fn load(&mut self, snapshot: &Snapshot, now: Now) {
        self.load_users(snapshot);
        self.take_up(snapshot, now, |_| true);
    }

    /// Takes up the extensions in `snapshot`.
    pub fn load_users(&mut self, snapshot: &Snapshot) {
        for (key, record) in snapshot.under(&User::key("")) {
            self.apply(&Change { key: key.clone(), record: Some(record.clone()) });
        }
    }

    /// Takes up the bindings in `snapshot` of users who are `mine`. What has expired meanwhile goes with the next
    /// [`on_timeout`](Self::on_timeout); connections of the life before are gone.
    pub fn take_up(&mut self, snapshot: &Snapshot, now: Now, mine: impl Fn(&str) -> bool) {
        for (key, record) in snapshot.under(&prefix()) {
            let binding = serde_json::from_slice::<Binding>(&record.value).map_err(|error| error.to_string());
            let entry = binding.and_then(|mut binding| {
                binding.flow.connection = None;
                let uri = Uri::parse(&binding.contact).map_err(|error| error.to_string())?;
                if binding.key() != *key {
                    return Err("it names another user or id".to_owned());
                }
                Ok(Entry { due: now.instant_of(binding.expires), binding, uri })
            });
            match entry {
                Ok(entry) if !mine(&entry.binding.user) => {}
                Ok(entry) => {
                    let binding = &entry.binding;
                    self.deadlines.insert((entry.due, binding.user.clone(), binding.id.clone()));
                    self.users.entry(binding.user.clone()).or_default().push(entry);
                }
                Err(error) => tracing::error!(key, error, "a binding's record cannot be read; ignored"),
            }
        }
        for entries in self.users.values_mut() {
            entries.sort_by_key(|entry| entry.binding.refreshed);
        }
    }

    /// Follows a change of the store: extensions change, and a removed user's bindings go, with the next
    /// [`on_timeout`](Self::on_timeout) from the store as well.
    pub fn apply(&mut self, change: &Change) {
        let Some(name) = change.key.strip_prefix(&User::key("")) else { return };
        self.extensions.remove(name);
        let Some(record) = &change.record else { return self.remove_where(|binding| binding.user == name) };
        // A record that cannot be read is reported by the directory.
        if let Ok(User { extension: Some(extension), .. }) = serde_json::from_slice(&record.value) {
            self.extensions.insert(name.to_owned(), extension);
        }
    }

    /// Answers a REGISTER of `user`, who has proved to be that user, and says what to write to the store.
    ///
    /// All contacts are taken, or none (RFC 3261 §10.3 item 7). The 200 lists every binding of the user.
    pub fn register(
        &mut self,
        now: Now,
        user: &str,
        request: &Message,
        flow: Flow,
    ) -> (Draft, Vec<Operation>) {
        let (mut response, operations) = match self.update(now, user, request, flow) {
            Ok(operations) => (self.accepted(now, user, request), operations),
            Err(refusal) => (refusal.response(request), Vec::new()),
        };
        // A registrar keeps no dialog, so the same request may as well get the same tag.
        let tag = Sha256::digest(format!("{} {} {}", request.call_id(), request.from_tag(), request.cseq()));
        response.to_tag(&hex(&tag[..6]));
        (response, operations)
    }

    /// Whether a REGISTER says of a phone where it is, rather than asking, or taking one back.
    pub fn is_wanted(&self, request: &Message) -> bool {
        let wish = contacts::wish(request, &self.config);
        matches!(wish, Ok(Wish::Change(wanted)) if wanted.iter().any(|wanted| !wanted.expires.is_zero()))
    }

    fn update(
        &mut self,
        now: Now,
        user: &str,
        request: &Message,
        flow: Flow,
    ) -> Result<Vec<Operation>, Refusal> {
        self.check_address_of_record(user, request)?;
        let wish = contacts::wish(request, &self.config)?;
        let path = contacts::path(request)?;
        let mut entries = self.users.get(user).cloned().unwrap_or_default();
        entries.retain(|entry| entry.binding.expires > now.utc);
        match wish {
            Wish::Tell => {}
            Wish::Clear => {
                for entry in &entries {
                    in_order(&entry.binding, request)?;
                }
                entries.clear();
            }
            Wish::Change(wanted) => {
                let mut touched = BTreeSet::new();
                for wanted in &wanted {
                    let place = find(&entries, wanted, &touched);
                    if let Some(entry) = place.and_then(|place| entries.get(place)) {
                        // What this very request has just written is not out of order.
                        if !touched.contains(&entry.binding.id) {
                            in_order(&entry.binding, request)?;
                        }
                    }
                    if wanted.expires.is_zero() {
                        place.map(|place| entries.remove(place));
                        continue;
                    }
                    let id = match place {
                        Some(place) => entries.remove(place).binding.id,
                        None => new_id(&entries, wanted),
                    };
                    touched.insert(id.clone());
                    let binding = Binding {
                        user: user.to_owned(),
                        id,
                        contact: wanted.uri.to_string(),
                        display: wanted.display.clone(),
                        path: path.clone(),
                        instance: wanted.instance.clone(),
                        reg_id: wanted.reg_id,
                        q: wanted.q,
                        flow,
                        expires: now.utc + wanted.expires,
                        refreshed: now.utc,
                        call_id: request.call_id().to_owned(),
                        cseq: request.cseq().number,
                        methods: wanted.methods.clone(),
                        user_agent: request.get(Name::UserAgent).map(str::to_owned),
                    };
                    let due = now.instant + wanted.expires;
                    // Newest last, so that the first is the one to give way.
                    entries.push(Entry { binding, uri: wanted.uri.clone(), due });
                }
                let surplus = entries.len().saturating_sub(self.config.bindings_max.max(1));
                entries.drain(..surplus);
            }
        }
        Ok(self.replace(user, entries))
    }

    /// Users are registered under these domains from now on; under any if there are none.
    pub fn set_domains(&mut self, domains: Vec<String>) {
        self.config.domains = domains;
    }

    /// Grants no longer registrations than this from now on; none: what the configuration says.
    pub fn grant_at_most(&mut self, most: Option<Duration>) {
        let most = most.map_or(self.longest, |most| most.min(self.longest));
        self.config.expires_max = most.max(self.config.expires_min);
    }

    /// What the store is to hold of a binding.
    pub fn record(&self, user: &str, id: &str) -> Operation {
        let mut entries = self.users.get(user).into_iter().flatten();
        let known = entries.find(|entry| entry.binding.id == id).map(|entry| entry.binding.put());
        known.unwrap_or_else(|| Operation::Delete { key: binding_key(user, id) })
    }

    /// The address of record in To must be the user's own, by name or by extension (RFC 3261 §10.3 items 3 to 5).
    fn check_address_of_record(&self, user: &str, request: &Message) -> Result<(), Refusal> {
        let to = request.to_addr().ok_or(Refusal::Bad("To is no address"))?.uri;
        let here = |domain: &String| domain.eq_ignore_ascii_case(&to.host);
        if !to.is_sip()
            || !(self.config.domains.is_empty()
                || self.config.domains.iter().any(here)
                || to.host_ip().is_some())
        {
            return Err(Refusal::NotHere);
        }
        let name = to.user_unescaped().unwrap_or_default();
        let theirs = name.eq_ignore_ascii_case(user) || self.extensions.get(user) == Some(&name);
        if theirs { Ok(()) } else { Err(Refusal::NotYours) }
    }

    fn accepted(&self, now: Now, user: &str, request: &Message) -> Draft {
        let mut response = Draft::response(request, Status::OK);
        for entry in self.live(now, user) {
            response.add(Name::Contact, entry.binding.contact_value(now.utc));
        }
        if request.supports("path") {
            for value in request.list(Name::Path) {
                response.add(Name::Path, value);
            }
        }
        response.add(Name::Supported, "path, outbound");
        let outbound = |entry: &Entry| {
            entry.binding.is_outbound()
                && entry.binding.call_id == request.call_id()
                && entry.binding.cseq == request.cseq().number
        };
        // The phone must know that its flow is used, and keep it alive (RFC 5626 §6).
        if self.live(now, user).any(outbound) {
            response.add(Name::Require, "outbound");
        }
        response
    }

    fn live(&self, now: Now, user: &str) -> impl Iterator<Item = &Entry> {
        let entries = self.users.get(user).map_or(&[][..], Vec::as_slice).iter();
        entries.filter(move |entry| entry.binding.expires > now.utc)
    }

    /// The user's live bindings, those they prefer first, of equals the one refreshed last.
    pub fn bindings(&self, now: Now, user: &str) -> Vec<&Binding> {
        let mut bindings: Vec<&Binding> = self.live(now, user).map(|entry| &entry.binding).collect();
        bindings.reverse();
        bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
        bindings
    }

    /// The same by phone: the flows of one phone are ways to one bell, to be tried one after the other
    /// (RFC 5626 §7).
    pub fn phones(&self, now: Now, user: &str) -> Vec<Vec<&Binding>> {
        let mut phones: Vec<Vec<&Binding>> = Vec::new();
        for binding in self.bindings(now, user) {
            let same = |phone: &&mut Vec<&Binding>| {
                binding.is_outbound() && phone.first().is_some_and(|first| first.instance == binding.instance)
            };
            match phones.iter_mut().find(same) {
                Some(phone) => phone.push(binding),
                None => phones.push(vec![binding]),
            }
        }
        phones
    }

    /// Which of the user's phones sent a request: by `contact`, the value of its Contact field or the URI in it, by the
    /// flow it came on, by its instance-id, and last by the address it came from if one phone only is there.
    pub fn binding_for(&self, now: Now, user: &str, flow: &Flow, contact: Option<&str>) -> Option<&Binding> {
        // Without angle brackets the parameters of a URI would be taken for those of the field.
        let address = contact.and_then(|contact| {
            let bare = Uri::parse(contact).ok().map(NameAddr::new);
            bare.or_else(|| NameAddr::parse(contact).ok())
        });
        let uri = address.as_ref().map(|address| &address.uri);
        let instance = address.as_ref().and_then(|address| address.params.unquoted("+sip.instance"));
        let on_flow = |entry: &&Entry| entry.binding.is_on(flow);
        let by_uri = |entry: &&Entry| uri.is_some_and(|uri| uri.equals(&entry.uri));
        let by_instance = |entry: &&Entry| instance.is_some() && entry.binding.instance == instance;
        let near = |entry: &&Entry| {
            entry.binding.flow.protocol == flow.protocol && entry.binding.flow.remote.ip() == flow.remote.ip()
        };
        let mut there = self.live(now, user).filter(near);
        let alone = there.next().filter(|_| there.next().is_none());
        let entry = self
            .live(now, user)
            .find(|entry| by_uri(entry) && on_flow(entry))
            .or_else(|| self.live(now, user).find(by_uri))
            .or_else(|| self.live(now, user).find(by_instance))
            .or_else(|| self.live(now, user).find(on_flow))
            .or(alone);
        entry.map(|entry| &entry.binding)
    }

    /// Whether the phone with this id has said that it takes requests of this method: `MESSAGE`.
    pub fn allows(&self, user: &str, id: &str, method: &str) -> bool {
        let mut entries = self.users.get(user).into_iter().flatten();
        entries.any(|entry| entry.binding.id == id && entry.binding.allows(method))
    }

    /// The binding with this id.
    pub fn binding(&self, now: Now, user: &str, id: &str) -> Option<&Binding> {
        self.live(now, user).map(|entry| &entry.binding).find(|binding| binding.id == id)
    }

    /// All live bindings, by user.
    pub fn iter(&self, now: Now) -> impl Iterator<Item = &Binding> {
        let entries = self.users.values().flatten().map(|entry| &entry.binding);
        entries.filter(move |binding| binding.expires > now.utc)
    }

    /// Users with at least one binding.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// When the next binding expires; at once if something waits to be written.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.unwritten.is_empty() {
            return Some(Instant::ZERO);
        }
        self.deadlines.first().map(|(due, ..)| *due)
    }

    /// Drops what has expired, and says what to delete from the store; there may be more than fits one transaction.
    pub fn on_timeout(&mut self, now: Now) -> Vec<Operation> {
        let mut operations = std::mem::take(&mut self.unwritten);
        while let Some((due, user, id)) = self.deadlines.pop_first() {
            if due > now.instant {
                self.deadlines.insert((due, user, id));
                break;
            }
            let Some(entries) = self.users.get_mut(&user) else { continue };
            let Some(place) = entries.iter().position(|entry| entry.binding.id == id) else { continue };
            let entry = &mut entries[place];
            if entry.binding.expires > now.utc {
                // The wall clock was set back meanwhile: what was promised in its terms holds.
                entry.due = now.instant_of(entry.binding.expires);
                self.deadlines.insert((entry.due, user, id));
                continue;
            }
            operations.push(entries.remove(place).binding.delete());
            if entries.is_empty() {
                self.users.remove(&user);
            }
        }
        operations
    }

    /// A connection ended. Phones that speak outbound have said that they will register anew, so their bindings on it
    /// are gone, with the next [`on_timeout`](Self::on_timeout) from the store as well; others may still be reached at
    /// the address they gave.
    pub fn connection_closed(&mut self, edge: Option<HostName>, id: ConnectionId) {
        self.remove_where(|binding| binding.uses(edge, id) && binding.is_outbound());
        for entry in self.users.values_mut().flatten().filter(|entry| entry.binding.uses(edge, id)) {
            entry.binding.flow.connection = None;
        }
    }

    /// Another host has stopped, and all connections of its sockets with it.
    pub fn edge_gone(&mut self, edge: HostName) {
        let on_it = |binding: &Binding| binding.flow.edge == Some(edge) && binding.flow.connection.is_some();
        self.remove_where(|binding| on_it(binding) && binding.is_outbound());
        for entry in self.users.values_mut().flatten().filter(|entry| on_it(&entry.binding)) {
            entry.binding.flow.connection = None;
        }
    }

    /// Somebody else looks after these users from now on: their bindings are left to it, in the store.
    pub fn put_down(&mut self, theirs: impl Fn(&str) -> bool) {
        self.users.retain(|user, _| !theirs(user));
        self.deadlines.retain(|(_, user, _)| !theirs(user));
    }

    fn remove_where(&mut self, gone: impl Fn(&Binding) -> bool) {
        let names: Vec<String> = self
            .users
            .iter()
            .filter(|(_, entries)| entries.iter().any(|entry| gone(&entry.binding)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let mut entries = self.users.get(&name).cloned().unwrap_or_default();
            entries.retain(|entry| !gone(&entry.binding));
            let operations = self.replace(&name, entries);
            self.unwritten.extend(operations);
        }
    }

    /// Puts `entries` in the place of the user's bindings; the difference is what the store has to learn.
    fn replace(&mut self, user: &str, entries: Vec<Entry>) -> Vec<Operation> {
        let before = self.users.remove(user).unwrap_or_default();
        let mut operations = Vec::new();
        for old in &before {
            self.deadlines.remove(&(old.due, user.to_owned(), old.binding.id.clone()));
            if entries.iter().all(|new| new.binding.id != old.binding.id) {
                operations.push(old.binding.delete());
            }
        }
        for new in &entries {
            self.deadlines.insert((new.due, user.to_owned(), new.binding.id.clone()));
            if before.iter().all(|old| old.binding != new.binding) {
                operations.push(new.binding.put());
            }
        }
        if !entries.is_empty() {
            self.users.insert(user.to_owned(), entries);
        }
        operations
    }
}

/// The binding that a contact refreshes, replaces or removes: that of the same instance and flow where outbound is
/// used (RFC 5626 §6), else the one with the same address, else, for a phone that comes back with another address,
/// the one of the same instance, unless this request has just written that.
fn find(entries: &[Entry], wanted: &Wanted, touched: &BTreeSet<String>) -> Option<usize> {
    let same_instance = |entry: &Entry| {
        wanted.instance.is_some()
            && entry.binding.instance == wanted.instance
            && entry.binding.reg_id == wanted.reg_id
    };
    if wanted.reg_id.is_some() {
        return entries.iter().position(same_instance);
    }
    let plain = |entry: &Entry| !entry.binding.is_outbound();
    entries.iter().position(|entry| plain(entry) && entry.uri.equals(&wanted.uri)).or_else(|| {
        entries.iter().position(|entry| same_instance(entry) && !touched.contains(&entry.binding.id))
    })
}

fn new_id(entries: &[Entry], wanted: &Wanted) -> String {
    let contact = wanted.uri.to_string();
    let id = id_of(wanted.instance.as_deref(), wanted.reg_id, &contact);
    // A phone may list two addresses under one instance.
    if entries.iter().any(|entry| entry.binding.id == id) { id_of(None, None, &contact) } else { id }
}

/// Within one Call-ID, a REGISTER with a lower or equal CSeq is an old one that took its time (RFC 3261 §10.3 item 7).
fn in_order(binding: &Binding, request: &Message) -> Result<(), Refusal> {
    if binding.call_id == request.call_id() && request.cseq().number <= binding.cseq {
        return Err(Refusal::OutOfOrder);
    }
    Ok(())
}
