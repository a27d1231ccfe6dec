//! dialog-info documents (RFC 4235): the dialogs of whoever is watched, seen from there.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

/// The body's type, and what a watcher must accept.
pub const CONTENT_TYPE: &str = "application/dialog-info+xml";

/// Where a dialog stands (RFC 4235 §3.7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The watched phone has called and heard nothing yet.
    Trying,
    /// It rings.
    Early,
    /// Answered.
    Confirmed,
    /// Over; told once.
    Terminated,
}

impl State {
    /// The word in the document.
    pub const fn word(self) -> &'static str {
        match self {
            State::Trying => "trying",
            State::Early => "early",
            State::Confirmed => "confirmed",
            State::Terminated => "terminated",
        }
    }
}

/// One side of a dialog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant {
    /// The name shown.
    pub display: Option<String>,
    /// The address of record.
    pub uri: String,
    /// Where requests for them go: through the host, never to a phone's own address or past it to a gateway.
    pub target: String,
}

/// The dialog's name: what a Replaces needs (RFC 3891). Tags are the watched side's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Call-ID.
    pub call_id: String,
    /// The watched side's tag.
    pub local_tag: String,
    /// The other's, as soon as there is one.
    pub remote_tag: Option<String>,
}

/// One dialog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it stands.
    pub state: State,
    /// Whether the watched side has called.
    pub initiator: bool,
    /// Its name, for those who may know it.
    pub named: Option<Named>,
    /// The watched side.
    pub local: Participant,
    /// Whether the watched side holds the call (`+sip.rendering`, RFC 4235 §4.1.6.2).
    pub held: bool,
    /// The other side, for those who may know it.
    pub remote: Option<Participant>,
}

impl Entry {
    /// The same without who the other side is and how the dialog is called.
    pub fn anonymous(mut self) -> Self {
        self.remote = None;
        self.named = None;
        self
    }
}

/// What a full document says of somebody who is in no dialog. It could name none (§4.1), but the notifiers phones are
/// written against name one that is over, and some phones put out a lamp for nothing else.
const IDLE: &str = "idle";

/// The document. `full`: it names all dialogs there are; else those not named are as they were (§3.4).
pub fn document<'a>(
    entity: &str,
    version: u32,
    full: bool,
    dialogs: impl IntoIterator<Item = (&'a str, &'a Entry)>,
) -> String {
    let mut writer = Writer::new(Vec::new());
    // Writing into memory does not fail.
    let _ = write(&mut writer, entity, version, full, dialogs);
    String::from_utf8(writer.into_inner()).unwrap_or_default()
}

fn write<'a>(
    writer: &mut Writer<Vec<u8>>,
    entity: &str,
    version: u32,
    full: bool,
    dialogs: impl IntoIterator<Item = (&'a str, &'a Entry)>,
) -> io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer
        .create_element("dialog-info")
        .with_attribute(("xmlns", "urn:ietf:params:xml:ns:dialog-info"))
        .with_attribute(("version", version.to_string().as_str()))
        .with_attribute(("state", if full { "full" } else { "partial" }))
        .with_attribute(("entity", clean(entity).as_str()))
        .write_inner_content(|writer| {
            let mut none = true;
            for (id, entry) in dialogs {
                none = false;
                dialog(writer, id, entry)?;
            }
            if none {
                writer.create_element("dialog").with_attribute(("id", IDLE)).write_inner_content(
                    |writer| {
                        let over = BytesText::new(State::Terminated.word());
                        writer.create_element("state").write_text_content(over)?;
                        Ok(())
                    },
                )?;
            }
            Ok(())
        })?;
    Ok(())
}

fn dialog(writer: &mut Writer<Vec<u8>>, id: &str, entry: &Entry) -> io::Result<()> {
    let mut element = writer.create_element("dialog").with_attribute(("id", id));
    if let Some(named) = &entry.named {
        element = element
            .with_attribute(("call-id", clean(&named.call_id).as_str()))
            .with_attribute(("local-tag", clean(&named.local_tag).as_str()));
        if let Some(tag) = &named.remote_tag {
            element = element.with_attribute(("remote-tag", clean(tag).as_str()));
        }
    }
    element
        .with_attribute(("direction", if entry.initiator { "initiator" } else { "recipient" }))
        .write_inner_content(|writer| {
            writer.create_element("state").write_text_content(BytesText::new(entry.state.word()))?;
            participant(writer, "local", &entry.local, entry.held)?;
            entry.remote.iter().try_for_each(|remote| participant(writer, "remote", remote, false))
        })?;
    Ok(())
}

fn participant(writer: &mut Writer<Vec<u8>>, side: &str, who: &Participant, held: bool) -> io::Result<()> {
    let (uri, target) = (clean(&who.uri), clean(&who.target));
    writer.create_element(side).write_inner_content(|writer| {
        let mut identity = writer.create_element("identity");
        let display = who.display.as_deref().map(clean);
        if let Some(display) = &display {
            identity = identity.with_attribute(("display", display.as_str()));
        }
        identity.write_text_content(BytesText::new(&uri))?;
        let target = writer.create_element("target").with_attribute(("uri", target.as_str()));
        if !held {
            target.write_empty()?;
            return Ok(());
        }
        target.write_inner_content(|writer| {
            writer
                .create_element("param")
                .with_attribute(("pname", "+sip.rendering"))
                .with_attribute(("pval", "no"))
                .write_empty()?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

/// Without the control characters that XML 1.0 cannot carry, not even escaped (§2.2): one in a caller's name would make
/// the whole document unreadable.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn entry() -> Entry {
        Entry {
            state: State::Early,
            initiator: false,
            named: Some(Named {
                call_id: "a84b4c76e66710".to_owned(),
                local_tag: "phone".to_owned(),
                remote_tag: Some("host".to_owned()),
            }),
            local: Participant {
                display: Some("Bob".to_owned()),
                uri: "sip:bob@example.test".to_owned(),
                target: "sip:bob@example.test".to_owned(),
            },
            held: false,
            remote: Some(Participant {
                display: Some("<Alice> & \"Co\"\u{7}".to_owned()),
                uri: "sip:alice@elsewhere.test".to_owned(),
                target: "sip:alice@example.test".to_owned(),
            }),
        }
    }

    fn pretty(document: &str) -> String {
        document.replace("><", ">\n<")
    }

    #[test]
    fn a_ringing_phone_names_the_dialog_a_pickup_replaces() {
        let entry = entry();
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="3" state="partial" entity="sip:bob@example.test">
            <dialog id="7" call-id="a84b4c76e66710" local-tag="phone" remote-tag="host" direction="recipient">
            <state>early</state>
            <local>
            <identity display="Bob">sip:bob@example.test</identity>
            <target uri="sip:bob@example.test"/>
            </local>
            <remote>
            <identity display="&lt;Alice&gt; &amp; &quot;Co&quot;">sip:alice@elsewhere.test</identity>
            <target uri="sip:alice@example.test"/>
            </remote>
            </dialog>
            </dialog-info>"#]]
        .assert_eq(&pretty(&document("sip:bob@example.test", 3, false, [("7", &entry)])));
    }

    #[test]
    fn who_may_not_know_sees_that_there_is_a_call_and_no_more() {
        let entry = Entry { held: true, state: State::Confirmed, ..entry() }.anonymous();
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity="sip:bob@example.test">
            <dialog id="7" direction="recipient">
            <state>confirmed</state>
            <local>
            <identity display="Bob">sip:bob@example.test</identity>
            <target uri="sip:bob@example.test">
            <param pname="+sip.rendering" pval="no"/>
            </target>
            </local>
            </dialog>
            </dialog-info>"#]]
        .assert_eq(&pretty(&document("sip:bob@example.test", 0, true, [("7", &entry)])));
    }

    #[test]
    fn nobody_calls() {
        let text = document("sip:7001@example.test", 0, true, []);
        let over = "<dialog id=\"idle\"><state>terminated</state></dialog></dialog-info>";
        assert!(text.ends_with(&format!("entity=\"sip:7001@example.test\">{over}")), "{text}");
    }
}
