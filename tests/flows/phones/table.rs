//! Well-known phones as data: what each sends, what it needs, and how it is set. `docs/phones.md` is written from it.

/// One row.
pub struct Phone {
    pub name: &'static str,
    /// What was done with the phone itself; `None`: what is said here is from documents.
    pub tried: Option<&'static str>,
    /// Where what is said here is from.
    pub sources: &'static [&'static str],
    /// How its keys subscribe; `None`: it has no lamps.
    pub watches: Option<Watches>,
    pub parks: &'static [Park],
    pub retrieves: &'static [Retrieve],
    pub picks_up: &'static [Pickup],
    /// What it makes of a 301 to its REGISTER (RES-09); `None`: not known.
    pub moved: Option<&'static str>,
    /// What to set, and to what.
    pub settings: &'static [(&'static str, &'static str)],
    /// What it makes of what it is told, and what it needs for that.
    pub needs: &'static str,
}

/// How a phone subscribes.
pub struct Watches {
    pub expires: u32,
    pub accept: Option<&'static str>,
    pub supported: Option<&'static str>,
    /// How it names an orbit.
    pub orbit: OrbitName,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OrbitName {
    /// `sip:7001@DOMAIN`.
    Number,
    /// `sip:park@DOMAIN;orbit=7001`.
    Parameter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Park {
    /// REFER to the orbit, without asking it first.
    Blind,
    /// Hold, then REFER to `sip:park@DOMAIN;orbit=7001`.
    BlindWithParameter,
    /// Hold, call the orbit, hang up.
    HoldAndDial,
    /// Hold, call the orbit, REFER with Replaces.
    Attended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retrieve {
    /// Calls the orbit.
    Dial,
    /// Calls `sip:park@DOMAIN;orbit=7001`.
    DialWithParameter,
    /// INVITE with Replaces, made from the orbit's document.
    Replaces,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pickup {
    /// Calls `**1002`.
    Dial,
    /// INVITE with Replaces, made from the document of the phone that rings, to that phone's address. Tags in either
    /// order, with and without early-only: documents say neither, so all four are tried.
    Replaces,
    /// INVITE to the caller's address, with a Replaces that is a Call-ID and nothing else.
    CallId,
}

impl Park {
    pub fn text(self) -> &'static str {
        match self {
            Park::Blind => "blind transfer to `7001`",
            Park::BlindWithParameter => "hold, REFER to `sip:park@DOMAIN;orbit=7001`",
            Park::HoldAndDial => "hold and dial `7001`, hang up",
            Park::Attended => "hold and dial `7001`, attended transfer (REFER with Replaces)",
        }
    }
}

impl Retrieve {
    pub fn text(self) -> &'static str {
        match self {
            Retrieve::Dial => "dials `7001`",
            Retrieve::DialWithParameter => "dials `sip:park@DOMAIN;orbit=7001`",
            Retrieve::Replaces => "INVITE with Replaces from the orbit's lamp",
        }
    }
}

impl Pickup {
    pub fn text(self) -> &'static str {
        match self {
            Pickup::Dial => "dials `**1002`",
            Pickup::Replaces => "INVITE with Replaces from the lamp",
            Pickup::CallId => "INVITE to the caller, Replaces with the Call-ID alone",
        }
    }
}

const DIALOG_INFO: Option<&str> = Some("application/dialog-info+xml");

const USUAL: Watches =
    Watches { expires: 3600, accept: DIALOG_INFO, supported: None, orbit: OrbitName::Number };

pub const YEALINK: Phone = Phone {
    name: "Yealink T2, T3, T4, T5",
    tried: None,
    sources: &[
        "Administrator's Guide T2/T3/T4/T5/CP920 (Busy Lamp Field; Dialog Info Call Pickup; Call Park)",
    ],
    watches: Some(Watches { expires: 1800, ..USUAL }),
    parks: &[Park::Blind, Park::HoldAndDial],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Replaces, Pickup::Dial],
    moved: None,
    settings: &[
        ("pick up by key, with Replaces", "`account.X.dialoginfo_callpickup = 1`"),
        ("or by dialling", "`account.X.direct_pickup_code = **`"),
        ("pick up in the group", "`account.X.group_pickup_code = *101`"),
        (
            "a key in a call parks",
            "BLF key on `7001`, DSS key transfer mode \"blind\" (`transfer.dsskey_deal_type`)",
        ),
        (
            "soft key Park",
            "`features.call_park.park_mode` \"transfer\", `features.call_park.park_code = 7001`",
        ),
        (
            "subscription",
            "`account.X.blf.subscribe_period`: 1800 as delivered; below 60 is answered 423 with what will do",
        ),
    ],
    needs: "Call-ID and both tags for a pickup with Replaces; shows caller and callee if the document names them. \
            The key shows ringing, talking, held and parked apart.",
};

pub const POLY: Phone = Phone {
    name: "Poly (Polycom) SoundPoint IP, VVX",
    tried: None,
    sources: &[
        "Engineering Advisory 62475, Using Statically Configured Busy Lamp Field",
        "asterisk/asterisk issue 803 (what the document must hold)",
    ],
    watches: Some(USUAL),
    parks: &[Park::Blind],
    retrieves: &[Retrieve::Dial, Retrieve::Replaces],
    picks_up: &[Pickup::Replaces, Pickup::Dial],
    moved: None,
    settings: &[
        (
            "a colleague's key",
            "`attendant.resourceList.N.address=\"1002\"`, `attendant.resourceList.N.type=\"normal\"`",
        ),
        (
            "an orbit's key: in a call it parks, lit it fetches",
            "`attendant.resourceList.N.address=\"7001\"`, `attendant.resourceList.N.type=\"automata\"`",
        ),
        ("pick up by key, with Replaces", "`call.directedCallPickupMethod=\"native\"`"),
        (
            "or by dialling",
            "`call.directedCallPickupMethod=\"legacy\"`, `call.directedCallPickupString=\"**\"`",
        ),
    ],
    needs: "`call-id`, `local-tag`, `remote-tag` in the document, or a key that blinks picks nothing up.",
};

pub const SNOM: Phone = Phone {
    name: "Snom 3xx, 7xx, D7xx",
    tried: None,
    sources: &[
        "service.snom.com: HowTo Call Pickup",
        "service.snom.com: Function Key Types",
        "service.snom.com: Example of Cisco Call Parking",
    ],
    watches: Some(Watches { orbit: OrbitName::Parameter, ..USUAL }),
    parks: &[Park::Blind, Park::BlindWithParameter],
    retrieves: &[Retrieve::Dial, Retrieve::DialWithParameter],
    picks_up: &[Pickup::CallId, Pickup::Replaces, Pickup::Dial],
    moved: None,
    settings: &[
        (
            "a colleague's key",
            "`<fkey …>blf sip:1002@DOMAIN|**</fkey>`: what follows the bar is dialled before the number",
        ),
        ("show who calls whom", "`callpickup_dialoginfo = on`"),
        (
            "an orbit's key",
            "`<fkey …>orbit sip:7001@DOMAIN</fkey>`, or an XML definition that subscribes to `sip:park@DOMAIN;orbit=7001`",
        ),
        ("a key in a call transfers blindly", "`quick_transfer = blind`"),
    ],
    needs: "State early, direction recipient, `<local>` and `<remote>`, and the Call-ID; without both sides it is a \
            lamp only. An XML definition compares `entity` with the address it subscribed to, so documents name \
            what is watched as the watcher did.",
};

pub const CISCO: Phone = Phone {
    name: "Cisco 6800, 7800, 8800 with multiplatform firmware",
    tried: None,
    sources: &[
        "Cisco IP Phone Multiplatform Administration Guide (Busy Lamp Field; Call Park)",
        "service.snom.com: Example of Cisco Call Parking (what the phone sends)",
    ],
    watches: Some(Watches { orbit: OrbitName::Parameter, ..USUAL }),
    parks: &[Park::BlindWithParameter],
    retrieves: &[Retrieve::DialWithParameter, Retrieve::Replaces, Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: None,
    settings: &[
        ("a colleague's key", "`fnc=blf+sd+cp;sub=1002@$PROXY;ext=1002@$PROXY`"),
        ("what a blinking key dials", "Call Pickup Code `**`"),
        ("an orbit's key", "`fnc=prk;sub=park@$PROXY;nme=7001;orbit=7001`"),
    ],
    needs: "The park key is green when idle, and blinks red slowly while a call is parked. Star codes that ask for the \
            orbit in a second step (`*68`) are not there: park with the key, or by transfer.",
};

pub const GRANDSTREAM: Phone = Phone {
    name: "Grandstream GXP, GRP",
    tried: None,
    sources: &[
        "GRP Series Eventlist BLF Guide",
        "GXP configuration template (P1347, P6752)",
        "forums.grandstream.com 37775 (a SUBSCRIBE)",
    ],
    watches: Some(Watches {
        accept: Some("application/dialog-info+xml, multipart/related, application/rlmi+xml"),
        supported: Some("replaces, path, timer, eventlist"),
        ..USUAL
    }),
    parks: &[Park::Blind],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial, Pickup::Replaces],
    moved: None,
    settings: &[
        ("a colleague's key", "BLF, value `1002`"),
        ("what a blinking key dials", "BLF Call-pickup Prefix `**` (P1347), as delivered"),
        ("always dial instead of Replaces", "Force BLF Call-pickup by Prefix: yes (P6752)"),
        ("an orbit's key", "Monitored Call Park, value `7001`"),
    ],
    needs: "Asks for an event list (RFC 4662) as well as for the dialogs of one; the host tells one, which the phone accepts.",
};

pub const FANVIL: Phone = Phone {
    name: "Fanvil X",
    tried: None,
    sources: &[
        "X7 User Manual (9.1 BLF)",
        "ESI ePhone4x guide (same firmware: subtypes, pickup number, colours)",
    ],
    watches: Some(USUAL),
    parks: &[Park::Blind, Park::Attended],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: None,
    settings: &[
        ("a colleague's key", "Memory key, value `1002`, subtype BLF/BXFER, pickup number `**1002` in full"),
        ("an orbit's key", "Memory key, value `7001`, subtype BLF/BXFER (blind) or BLF/AXFER (attended)"),
    ],
    needs: "Green: idle; red: busy; blinking red: rings. No pickup number, no pickup.",
};

pub const MITEL: Phone = Phone {
    name: "Mitel (Aastra) 6700, 6800",
    tried: None,
    sources: &["6867i User Guide (BLF/Xfer)", "Aastra configuration templates (directed call pickup)"],
    watches: Some(USUAL),
    parks: &[Park::Blind],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: None,
    settings: &[
        (
            "a key that shows, calls, and in a call transfers at once",
            "`softkeyN type: blfxfer`, `softkeyN value: 7001`",
        ),
        ("what a blinking key dials", "`directed call pickup: 1`, `directed call pickup prefix: **`"),
    ],
    needs: "The state alone.",
};

pub const OBIHAI: Phone = Phone {
    name: "Obihai OBi1000 (Poly)",
    tried: None,
    sources: &["OBi1000 Administration Guide (BLF Operation: Directed Call Pickup)"],
    watches: Some(USUAL),
    parks: &[Park::Blind],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial, Pickup::Replaces],
    moved: None,
    settings: &[("pick up by key", "ITSP profile, directed call pickup: feature code `**`, or Replaces")],
    needs: "Call-ID and tags for Replaces.",
};

pub const ZOIPER: Phone = Phone {
    name: "Zoiper 5",
    tried: None,
    sources: &["forums.grandstream.com 37775 (its SUBSCRIBE)"],
    watches: Some(Watches { accept: None, ..USUAL }),
    parks: &[Park::Blind],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: None,
    settings: &[("orbit, pickup", "as contacts with the numbers `7001`, `**1002`")],
    needs: "Subscribes to `dialog`; whether it names what it accepts is not known, so the test names nothing.",
};

pub const PJSIP: Phone = Phone {
    name: "Softphones on PJSIP 2.15 and later",
    tried: None,
    sources: &[
        "docs.pjsip.org: Busy Lamp Field and Dialog Event",
        "pjsip/pjproject issue 4329 (its SUBSCRIBE)",
    ],
    watches: Some(Watches {
        expires: 600,
        supported: Some("replaces, 100rel, timer, siprec, norefersub, trickle-ice"),
        ..USUAL
    }),
    parks: &[Park::Blind, Park::Attended],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: None,
    settings: &[(
        "a buddy's lamp",
        "`subscribe_dlg_event` of the buddy, not `subscribe` (presence, answered 489)",
    )],
    needs: "Reads one dialog of each document. Older ones ask for presence, which is answered 489.",
};

pub const LINPHONE: Phone = Phone {
    name: "Linphone 5",
    tried: Some(
        "linphone-cli 5.1 of Debian: calls, attended transfer to `park` (`tests/process/softphones.rs`)",
    ),
    sources: &["the phone itself"],
    watches: None,
    parks: &[Park::Attended, Park::Blind],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: Some(
        "asks at the first Contact, does not answer the challenge it gets there, and tries no other: it is registered nowhere",
    ),
    settings: &[("orbit, pickup", "as contacts with the addresses `sip:7001@DOMAIN`, `sip:**1002@DOMAIN`")],
    needs: "Its contacts ask for presence, which is answered 489; it has no lamps for dialogs.",
};

pub const BARESIP: Phone = Phone {
    name: "baresip 1.0",
    tried: Some(
        "baresip 1.0.0 of Debian: blind transfer, retrieving, pickups (`tests/process/softphones.rs`, `pickups.rs`)",
    ),
    sources: &["the phone itself"],
    watches: None,
    parks: &[Park::Blind, Park::HoldAndDial],
    retrieves: &[Retrieve::Dial],
    picks_up: &[Pickup::Dial],
    moved: Some("counts it as a failure"),
    settings: &[("park", "in a call `t`, then `7001`; see `docs/phone.sh`")],
    needs: "No lamps; it cannot send Replaces.",
};
