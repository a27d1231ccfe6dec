//! Names of the header fields this host knows, in their long and compact forms.

use std::fmt;

macro_rules! names {
    ($($variant:ident $long:literal $($compact:literal)?),* $(,)?) => {
        /// A header field this host knows by name. Others are reached by their text.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Name { $(#[doc = $long] $variant,)* }

        impl Name {
            /// Every known name.
            pub const ALL: &[Name] = &[$(Name::$variant,)*];

            /// The long form, as we print it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Name::$variant => $long,)* }
            }

            /// The one-letter form, if there is one (RFC 3261 §7.3.3 and the RFC that defines the field).
            pub const fn compact(self) -> Option<char> {
                match self { $(Name::$variant => names!(@compact $($compact)?),)* }
            }
        }
    };
    (@compact $letter:literal) => { Some($letter) };
    (@compact) => { None };
}

names! {
    Accept "Accept",
    AcceptContact "Accept-Contact" 'a',
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AlertInfo "Alert-Info",
    Allow "Allow",
    AllowEvents "Allow-Events" 'u',
    AuthenticationInfo "Authentication-Info",
    Authorization "Authorization",
    CallId "Call-ID" 'i',
    CallInfo "Call-Info",
    Contact "Contact" 'm',
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" 'e',
    ContentLanguage "Content-Language",
    ContentLength "Content-Length" 'l',
    ContentType "Content-Type" 'c',
    CSeq "CSeq",
    Date "Date",
    Diversion "Diversion",
    ErrorInfo "Error-Info",
    Event "Event" 'o',
    Expires "Expires",
    FlowTimer "Flow-Timer",
    From "From" 'f',
    HistoryInfo "History-Info",
    Identity "Identity" 'y',
    InReplyTo "In-Reply-To",
    InfoPackage "Info-Package",
    Join "Join",
    MaxForwards "Max-Forwards",
    MimeVersion "MIME-Version",
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    Organization "Organization",
    PAssertedIdentity "P-Asserted-Identity",
    PServedUser "P-Served-User",
    PEarlyMedia "P-Early-Media",
    PPreferredIdentity "P-Preferred-Identity",
    Path "Path",
    Priority "Priority",
    Privacy "Privacy",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    ProxyRequire "Proxy-Require",
    RAck "RAck",
    Reason "Reason",
    RecordRoute "Record-Route",
    RecvInfo "Recv-Info",
    ReferSub "Refer-Sub",
    ReferTo "Refer-To" 'r',
    ReferredBy "Referred-By" 'b',
    RejectContact "Reject-Contact" 'j',
    RemotePartyId "Remote-Party-ID",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RequestDisposition "Request-Disposition" 'd',
    Require "Require",
    RetryAfter "Retry-After",
    Route "Route",
    RSeq "RSeq",
    Server "Server",
    ServiceRoute "Service-Route",
    SessionExpires "Session-Expires" 'x',
    SessionId "Session-ID",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Subject "Subject" 's',
    SubscriptionState "Subscription-State",
    Supported "Supported" 'k',
    TargetDialog "Target-Dialog",
    Timestamp "Timestamp",
    To "To" 't',
    Unsupported "Unsupported",
    UserAgent "User-Agent",
    Via "Via" 'v',
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
}

/// Longest known name; a longer one is unknown without a look.
const LONGEST: usize = 20;

/// Known names by length, so that a lookup compares only with names as long as the one at hand.
const BY_LENGTH: [&[Name]; LONGEST + 1] = {
    const fn count(length: usize) -> usize {
        let (mut found, mut i) = (0, 0);
        while i < Name::ALL.len() {
            if Name::ALL[i].as_str().len() == length {
                found += 1;
            }
            i += 1;
        }
        found
    }
    const fn pick<const N: usize>(length: usize) -> [Name; N] {
        let (mut out, mut n, mut i) = ([Name::Via; N], 0, 0);
        while i < Name::ALL.len() {
            if Name::ALL[i].as_str().len() == length {
                out[n] = Name::ALL[i];
                n += 1;
            }
            i += 1;
        }
        out
    }
    macro_rules! table {
        ($($length:literal)*) => { [$({ const OF: [Name; count($length)] = pick($length); &OF },)*] };
    }
    table!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
};

impl Name {
    /// Finds a name, long or compact, in any case (RFC 3261 §7.3.1).
    pub fn parse(name: &str) -> Option<Name> {
        Self::from_bytes(name.as_bytes())
    }

    pub(super) fn from_bytes(name: &[u8]) -> Option<Name> {
        if let [letter] = name {
            return Self::from_compact(letter.to_ascii_lowercase());
        }
        let first = name.first()? | 0x20;
        BY_LENGTH.get(name.len())?.iter().copied().find(|known| {
            let known = known.as_str().as_bytes();
            known[0] | 0x20 == first && known.eq_ignore_ascii_case(name)
        })
    }

    const fn from_compact(letter: u8) -> Option<Name> {
        Some(match letter {
            b'a' => Name::AcceptContact,
            b'b' => Name::ReferredBy,
            b'c' => Name::ContentType,
            b'd' => Name::RequestDisposition,
            b'e' => Name::ContentEncoding,
            b'f' => Name::From,
            b'i' => Name::CallId,
            b'j' => Name::RejectContact,
            b'k' => Name::Supported,
            b'l' => Name::ContentLength,
            b'm' => Name::Contact,
            b'o' => Name::Event,
            b'r' => Name::ReferTo,
            b's' => Name::Subject,
            b't' => Name::To,
            b'u' => Name::AllowEvents,
            b'v' => Name::Via,
            b'x' => Name::SessionExpires,
            b'y' => Name::Identity,
            _ => return None,
        })
    }

    /// A bit of its own for each name, for sets.
    pub(super) const fn bit(self) -> u128 {
        1 << self as u8
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_in_its_compact_form() {
        for name in Name::ALL {
            assert_eq!(Name::parse(name.as_str()), Some(*name));
            assert_eq!(Name::parse(&name.as_str().to_uppercase()), Some(*name));
            if let Some(letter) = name.compact() {
                assert_eq!(Name::parse(&letter.to_string()), Some(*name));
                assert_eq!(Name::parse(&letter.to_uppercase().to_string()), Some(*name));
            }
        }
    }

    #[test]
    fn compact_letters_are_those_of_the_table() {
        for letter in b'a'..=b'z' {
            let name = Name::from_compact(letter);
            assert_eq!(name.and_then(Name::compact), name.map(|_| char::from(letter)));
        }
    }

    #[test]
    fn unknown_names_are_not_guessed() {
        for name in ["", "q", "Vias", "X-Anything", "Fron", "A-name-much-longer-than-any-known-one"] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_tables_hold_every_name() {
        assert_eq!(Name::ALL.iter().map(|name| name.as_str().len()).max(), Some(LONGEST));
        assert!(Name::ALL.len() < 128, "Name::bit needs a wider set");
    }
}
