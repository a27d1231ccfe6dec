//! A phone's lamps: it subscribes to dialogs (RFC 4235) and believes what it is told, strictly.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use switchyard_host::sip::{Dialog, Draft, Message, Method, Name, Status};

use super::phone::{Phone, Wants};

/// One subscription of a phone.
#[derive(Debug, Default)]
pub struct Watch {
    pub uri: String,
    pub dialog: Option<Dialog>,
    /// How the last SUBSCRIBE was answered.
    pub status: Option<Status>,
    /// What that answer said: Expires, Min-Expires, Allow-Events, Retry-After.
    pub said: Vec<String>,
    /// The Subscription-State of the last NOTIFY.
    pub state: String,
    pub version: Option<u32>,
    /// The dialogs as the documents so far add up.
    pub lamps: BTreeMap<String, Lamp>,
    /// `full` or `partial`, one a document.
    pub documents: Vec<String>,
    /// Every state each dialog was ever said to be in, in order: `early`, `confirmed`, …
    pub history: Vec<String>,
    /// What the phone answers to NOTIFYs instead of 200; consumed from the front.
    pub refuse: Vec<Status>,
    /// Whom the last document is about.
    pub entity: String,
    asking: Asking,
    /// CSeq of the last NOTIFY: the next must be above (RFC 3261 §12.2.2).
    cseq: u32,
    call_id: String,
    tag: String,
    /// The tag of the one that notifies. A SUBSCRIBE that a restarted host hears again makes a second subscription, which
    /// this phone does not want (RFC 6665 §4.1.2.4).
    notifier: Option<String>,
}

/// How a phone asks.
#[derive(Clone, Debug)]
pub struct Asking {
    pub event: &'static str,
    pub accept: Option<&'static str>,
    pub supported: Option<&'static str>,
}

impl Default for Asking {
    fn default() -> Self {
        Self { event: "dialog", accept: Some("application/dialog-info+xml"), supported: None }
    }
}

/// One dialog of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lamp {
    pub state: String,
    pub direction: String,
    pub call_id: Option<String>,
    pub local_tag: Option<String>,
    pub remote_tag: Option<String>,
    pub local: String,
    /// Display name and URI.
    pub remote: Option<String>,
    /// Where requests for the other side go.
    pub remote_target: Option<String>,
    pub held: bool,
}

impl Lamp {
    /// The Replaces that takes this dialog's place, its own side first: that is whom the new call is for (RFC 3891 §3).
    /// `swapped`: as phones do that read the tags the other way round.
    pub fn replaces(&self, swapped: bool, early_only: bool) -> String {
        let mut tags = [self.local_tag.as_deref().unwrap(), self.remote_tag.as_deref().unwrap()];
        if swapped {
            tags.reverse();
        }
        let only = if early_only { ";early-only" } else { "" };
        format!("{};to-tag={};from-tag={}{only}", self.call_id.as_deref().unwrap(), tags[0], tags[1])
    }
}

impl Watch {
    /// Whether the phone believes that it has this subscription.
    pub fn is_live(&self) -> bool {
        self.dialog.is_some() && self.state.starts_with("active")
    }

    /// States and who is there, in the order of ids: `early <- "alice" sip:alice@example.test`.
    pub fn shows(&self) -> Vec<String> {
        let show = |lamp: &Lamp| {
            let arrow = if lamp.direction == "initiator" { "->" } else { "<-" };
            let held = if lamp.held { " (held)" } else { "" };
            format!("{} {arrow} {}{held}", lamp.state, lamp.remote.as_deref().unwrap_or("?"))
        };
        self.lamps.values().map(show).collect()
    }

    fn apply(&mut self, document: Document) {
        let full = document.state == "full";
        assert!(full || self.version.is_some(), "the first document must be full");
        if let Some(before) = self.version {
            if full {
                assert!(document.version > before, "version {} after {before}", document.version);
            } else {
                assert_eq!(document.version, before + 1, "a partial document is missing");
            }
        }
        self.version = Some(document.version);
        self.documents.push(document.state);
        self.entity = document.entity;
        // A full document says of each dialog that was told and is over that it is over, for phones that forget nothing
        // by themselves.
        let gone: Vec<String> =
            if full { std::mem::take(&mut self.lamps).into_keys().collect() } else { vec![] };
        for (id, lamp) in document.dialogs {
            let state = lamp.state.clone();
            if state != "terminated" {
                self.lamps.insert(id, lamp);
                self.history.push(state);
            } else if self.lamps.remove(&id).is_some() || gone.contains(&id) {
                self.history.push(state);
            }
        }
    }
}

impl Phone {
    /// Subscribes to the dialogs of `uri`; the number of the subscription.
    pub fn watch(&mut self, uri: &str, expires: u32) -> usize {
        self.watch_event(uri, expires, "dialog")
    }

    pub fn watch_event(&mut self, uri: &str, expires: u32, event: &'static str) -> usize {
        self.watch_as(uri, expires, Asking { event, ..Asking::default() })
    }

    /// Subscribes as that kind of phone does.
    pub fn watch_as(&mut self, uri: &str, expires: u32, asking: Asking) -> usize {
        let watch = self.watches.len();
        let (tag, call) = (self.fresh(), self.fresh());
        let entry = Watch {
            uri: uri.to_owned(),
            call_id: format!("w{call}@{}", self.name),
            tag: format!("w{tag}"),
            asking: asking.clone(),
            ..Watch::default()
        };
        let draft = self.subscription(Draft::request(Method::Subscribe, uri), expires, &asking);
        let draft = self.outside_any_dialog(draft, &entry);
        self.watches.push(entry);
        self.send(draft, Wants::Subscribe(watch));
        watch
    }

    fn outside_any_dialog(&self, mut draft: Draft, watch: &Watch) -> Draft {
        draft
            .add(Name::From, format!("<sip:{}@{}>;tag={}", self.user, self.domain(), watch.tag))
            .add(Name::To, format!("<{}>", watch.uri))
            .add(Name::CallId, &watch.call_id)
            .add(Name::CSeq, "1 SUBSCRIBE");
        draft
    }

    fn subscription(&self, mut draft: Draft, expires: u32, asking: &Asking) -> Draft {
        draft.add(Name::Contact, self.contact()).add(Name::Event, asking.event).add(Name::Expires, expires);
        for (name, value) in [(Name::Accept, asking.accept), (Name::Supported, asking.supported)] {
            if let Some(value) = value {
                draft.add(name, value);
            }
        }
        draft
    }

    /// Refreshes a subscription, or ends it with 0.
    pub fn watch_again(&mut self, watch: usize, expires: u32) {
        let Some(dialog) = self.watches[watch].dialog.as_mut() else { panic!("there is no subscription") };
        let draft = dialog.request(Method::Subscribe);
        let asking = self.watches[watch].asking.clone();
        let draft = self.subscription(draft, expires, &asking);
        self.send(draft, Wants::Subscribe(watch));
    }

    pub(super) fn on_subscribe_response(&mut self, watch: usize, request: &Message, response: &Message) {
        let flow = self.flow();
        let watch = &mut self.watches[watch];
        watch.status = response.status();
        watch.said = [Name::Expires, Name::MinExpires, Name::AllowEvents, Name::RetryAfter]
            .into_iter()
            .filter_map(|name| response.get(name).map(|value| format!("{name}: {value}")))
            .collect();
        if response.status() == Some(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST) {
            "terminated".clone_into(&mut watch.state);
        }
        if let Some(dialog) = watch.dialog.as_mut() {
            // The one with credentials was a request later.
            dialog.local_cseq = dialog.local_cseq.max(request.cseq().number);
        } else if response.status().is_some_and(Status::is_success)
            && watch.notifier.as_deref().is_none_or(|tag| response.to_tag() == Some(tag))
        {
            watch.dialog = Some(Dialog::uac(request, response, flow));
        }
    }

    /// A NOTIFY of a subscription of ours: what to answer, or `None` if it is none.
    pub(super) fn on_lamp(&mut self, request: &Message) -> Option<Status> {
        let mine = |watch: &&mut Watch| {
            watch.call_id == request.call_id() && request.to_tag() == Some(watch.tag.as_str())
        };
        let watch = self.watches.iter_mut().find(mine)?;
        if watch.notifier.get_or_insert(request.from_tag().to_owned()) != request.from_tag() {
            return Some(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
        }
        if !watch.refuse.is_empty() {
            return Some(watch.refuse.remove(0));
        }
        let cseq = request.cseq().number;
        if self.forgives && cseq <= watch.cseq {
            return Some(Status::SERVER_INTERNAL_ERROR);
        }
        assert!(cseq > watch.cseq, "NOTIFY {cseq} after {}", watch.cseq);
        watch.cseq = cseq;
        assert_eq!(request.content_type(), Some("application/dialog-info+xml"));
        watch.state = request.get(Name::SubscriptionState).unwrap_or_default().to_owned();
        let document = read(&String::from_utf8_lossy(&request.body()));
        if !self.forgives || watch.version.is_none_or(|version| document.version > version) {
            watch.apply(document);
        }
        Some(Status::OK)
    }
}

struct Document {
    version: u32,
    state: String,
    entity: String,
    dialogs: Vec<(String, Lamp)>,
}

/// Reads a document as a phone with a strict XML parser would.
fn read(text: &str) -> Document {
    let mut reader = Reader::from_str(text);
    let mut document =
        Document { version: 0, state: String::new(), entity: String::new(), dialogs: Vec::new() };
    let mut path: Vec<String> = Vec::new();
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("{error} in\n{text}"));
        match event {
            Event::Start(element) => {
                path.push(element.name().as_ref().to_owned());
                open(&mut document, &path, &element);
            }
            Event::Empty(element) => {
                path.push(element.name().as_ref().to_owned());
                open(&mut document, &path, &element);
                path.pop();
            }
            Event::End(_) => {
                path.pop();
            }
            Event::Text(content) => {
                let Some((_, lamp)) = document.dialogs.last_mut() else { continue };
                let content = content.to_string();
                match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["dialog-info", "dialog", "state"] => lamp.state = content,
                    ["dialog-info", "dialog", "local", "identity"] => lamp.local = content,
                    ["dialog-info", "dialog", "remote", "identity"] => {
                        let name = lamp.remote.take().unwrap_or_default();
                        lamp.remote = Some(format!("{name}{content}"));
                    }
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(path.is_empty(), "{text}");
    document
}

fn open(document: &mut Document, path: &[String], element: &BytesStart) {
    let attribute = |name: &str| {
        let found = element.attributes().map(Result::unwrap).find(|a| a.key.as_ref() == name)?;
        Some(quick_xml::escape::unescape(&found.value).unwrap().into_owned())
    };
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["dialog-info"] => {
            document.version = attribute("version").unwrap().parse().unwrap();
            document.state = attribute("state").unwrap();
            document.entity = attribute("entity").unwrap();
        }
        ["dialog-info", "dialog"] => {
            let lamp = Lamp {
                direction: attribute("direction").unwrap_or_default(),
                call_id: attribute("call-id"),
                local_tag: attribute("local-tag"),
                remote_tag: attribute("remote-tag"),
                ..Lamp::default()
            };
            document.dialogs.push((attribute("id").unwrap(), lamp));
        }
        ["dialog-info", "dialog", "remote", "identity"] => {
            let name = attribute("display").map(|name| format!("{name} ")).unwrap_or_default();
            document.dialogs.last_mut().unwrap().1.remote = Some(name);
        }
        ["dialog-info", "dialog", "remote", "target"] => {
            document.dialogs.last_mut().unwrap().1.remote_target = attribute("uri");
        }
        ["dialog-info", "dialog", "local", "target", "param"] => {
            let lamp = &mut document.dialogs.last_mut().unwrap().1;
            lamp.held |= attribute("pname").as_deref() == Some("+sip.rendering")
                && attribute("pval").as_deref() == Some("no");
        }
        _ => {}
    }
}
