//! `[store]`.

use super::*;
use crate::config::read::Span;

/// What a store can be in this program.
const STORES: &[(&str, StoreKind)] = &[
    ("embedded", StoreKind::Embedded),
    ("memory", StoreKind::Memory),
    #[cfg(feature = "etcd")]
    ("etcd", StoreKind::Etcd),
];

/// What outlives the process.
const PROTECTED: &[(&str, Protect)] = &[("calls", Protect::Calls), ("parked", Protect::Parked)];

/// `http://10.0.0.1:2379`: a scheme, a host, a port and nothing behind.
fn endpoint(text: &str) -> Result<String, String> {
    let expected = || format!("expected an address such as \"http://10.0.0.1:2379\", found {text:?}");
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(expected)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(expected)?;
    let fits =
        !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if fits { Ok(text.trim_end_matches('/').to_owned()) } else { Err(expected()) }
}

/// etcd itself grants nothing shorter.
const LEASE_SHORTEST: Duration = Duration::from_secs(2);
/// So long nobody may take a dead host's calls over.
const LEASE_LONGEST: Duration = Duration::from_secs(60);

impl Reader {
    /// What `[store]` holds for etcd only.
    const OF_ETCD: [&str; 5] = ["endpoints", "ca", "cert", "key", "lease"];

    pub(super) fn store(&mut self, section: &mut Section<'_, '_>) -> Store {
        let protect = section.word("protect", PROTECTED).unwrap_or_default();
        // Said rather than "unknown": whoever asks for it has read of it.
        let absent = cfg!(not(feature = "etcd"))
            && section.text("kind", "a kind of store").is_some_and(|kind| kind.get_ref() == "etcd");
        if absent {
            section.unavailable("kind", "this program was built without etcd; build it with --features etcd");
            for key in Self::OF_ETCD {
                section.ignore(key);
            }
            return Store { kind: StoreKind::Embedded, protect, etcd: Etcd::default() };
        }
        let kind = section.word("kind", STORES).unwrap_or(StoreKind::Embedded);
        if kind != StoreKind::Etcd {
            for key in Self::OF_ETCD {
                section.unexpected(key, "it belongs to kind = \"etcd\"; leave it out");
            }
            return Store { kind, protect, etcd: Etcd::default() };
        }
        let lease = section.duration("lease", LEASE_SHORTEST..=LEASE_LONGEST, Etcd::LEASE);
        let expected = "a list of addresses such as \"http://10.0.0.1:2379\"";
        let endpoints = match section.has("endpoints") {
            true => {
                if let Some(span) = section.empty_list("endpoints") {
                    section.error(span, "endpoints", format!("expected {expected}, found none"));
                }
                section.list("endpoints", expected, endpoint).map(inner).unwrap_or_default()
            }
            false => {
                section.required("endpoints", expected, endpoint).map(|_| Vec::new()).unwrap_or_default()
            }
        };
        let secure = endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        let mut file = |key| {
            let path = section.parsed(key, "a PEM file", text)?;
            self.draft.paths.push(Mark::of(section, key, &path));
            if !secure && !endpoints.is_empty() {
                section.error(path.span(), key, "it is used with https:// only, and no endpoint is one");
            }
            Some((path.span(), self.folder.join(path.into_inner())))
        };
        let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
        for (here, there, missing) in [(&cert, &key, "key"), (&key, &cert, "cert")] {
            if let (Some((span, _)), None) = (here, there) {
                section.error(span.clone(), missing, "missing: cert and key go together");
            }
        }
        let path = |file: Option<(Span, PathBuf)>| file.map(|(_, path)| path);
        let etcd = Etcd { endpoints, ca: path(ca), identity: path(cert).zip(path(key)), lease };
        Store { kind, protect, etcd }
    }
}
