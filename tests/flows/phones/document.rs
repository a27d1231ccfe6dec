//! The table as `docs/phones.md`. `UPDATE_EXPECT=1` writes it.

use std::fmt::Write;

use expect_test::expect_file;

use super::ALL;
use super::table::{OrbitName, Phone};

const HEAD: &str = "# Phones

How well-known phones park, fetch, pick up and show lamps, and what to set. Instead of `7001`, `1002`, `*101` and `**` put
your own orbits, extensions, groups and pickup prefix; `DOMAIN` is your SIP domain.

This page is written from `tests/flows/phones/table.rs`. Each phone there has a test that sends, in simulated time, what the
phone sends, and looks at what becomes of the call and the lamps. Only where it says *tried* was the phone itself at
work; all else is from manuals and recordings of others, so a setting may be called something else in your firmware. Where
documents do not say how a phone orders the tags of a Replaces, or whether it adds `early-only`, all four ways are tested.

What holds for all of them:

* A key that subscribes to `dialog` gets a full document at once, after each refresh and after a restart of the host,
  and partial ones between. A full document names as terminated what was told before and is over; of somebody
  who is in no call it says so with one dialog that is terminated.
* The `entity` of a document is the address the phone subscribed to, letter for letter.
* Call-ID, tags and the other side are there only for who may see names (`lamps.names`,
  [policies/README.md](../policies/README.md)): by default the same pickup group. Others see the lamp, and dial.
* A pickup by Replaces goes by the same rights as one by dialling; an answered call is never taken by it.
* A REGISTER is answered 301 only where the policy says so ([`resiliency.redirect`](../policies/README.md#redirect)). What a
  phone makes of it stands below where it was tried; none is known that gets to where it is told.
";

fn watching(phone: &Phone) -> String {
    let Some(watches) = &phone.watches else { return "none".to_owned() };
    let mut text = format!("`Event: dialog`, {} s", watches.expires);
    match watches.accept {
        Some(accept) => write!(text, ", `Accept: {accept}`").unwrap(),
        None => text.push_str(", no Accept"),
    }
    if let Some(supported) = watches.supported {
        write!(text, ", `Supported: {supported}`").unwrap();
    }
    if watches.orbit == OrbitName::Parameter {
        text.push_str("; an orbit as `sip:park@DOMAIN;orbit=7001`");
    }
    text
}

fn list(items: impl Iterator<Item = &'static str>) -> String {
    items.collect::<Vec<_>>().join("; ")
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for phone in ALL {
        let status = phone.tried.map_or("from documents".to_owned(), |tried| format!("tried: {tried}"));
        write!(page, "\n## {}\n\n*{status}*\n\n| | |\n|---|---|\n", phone.name).unwrap();
        let rows = [
            ("lamps", watching(phone)),
            ("parks", list(phone.parks.iter().map(|park| park.text()))),
            ("fetches", list(phone.retrieves.iter().map(|retrieve| retrieve.text()))),
            ("picks up", list(phone.picks_up.iter().map(|pickup| pickup.text()))),
        ];
        for (what, how) in rows {
            writeln!(page, "| {what} | {how} |").unwrap();
        }
        if let Some(moved) = phone.moved {
            writeln!(page, "| told to register elsewhere | {moved} |").unwrap();
        }
        for (what, setting) in phone.settings {
            writeln!(page, "| set: {what} | {setting} |").unwrap();
        }
        write!(page, "\n{}\n\nSources: {}.\n", phone.needs, phone.sources.join("; ")).unwrap();
    }
    page
}

#[test]
fn the_page_for_readers_is_the_table() {
    expect_file!["../../../docs/phones.md"].assert_eq(&page());
}
