//! `[cluster]`.

use super::*;

/// In the words of an error.
const ADDRESS: &str = "an address such as \"tls:10.0.0.1:5071\"";

impl Reader {
    /// `None` if the section cannot be used.
    pub(super) fn cluster(&mut self, section: &mut Section<'_, '_>) -> Option<Cluster> {
        let listen = section.required("listen", ADDRESS, words::link_address);
        let advertise = section.parsed("advertise", ADDRESS, |text| {
            let address = words::link_address(text)?;
            if address.ip().is_unspecified() || address.port() == 0 {
                return Err(format!("expected an address and port others can connect to, found {text:?}"));
            }
            Ok(address)
        });
        if let Some(listen) = &listen {
            let address = *listen.get_ref();
            let mark = Mark { key: section.key("listen"), span: listen.span(), text: address.to_string() };
            self.draft.link = Some(mark);
            if address.ip().is_unspecified() && !section.has("advertise") {
                let message = format!(
                    "{} is every address of this machine, so the other hosts must be told which: expected \
                     cluster.advertise = \"tls:ADDRESS:{}\"",
                    address.ip(),
                    address.port()
                );
                section.error(listen.span(), "listen", message);
            }
        }
        let mut file = |key, what: &str| {
            let path = section.required(key, what, text)?;
            self.draft.paths.push(Mark::of(section, key, &path));
            Some(self.folder.join(path.into_inner()))
        };
        let cert = file("cert", "the PEM file with this host's certificate");
        let key = file("key", "the PEM file with its key");
        let ca = file("ca", "the PEM file with who signs the hosts' certificates");
        Some(Cluster {
            listen: listen?.into_inner(),
            advertise: advertise.map(Spanned::into_inner),
            cert: cert?,
            key: key?,
            ca: ca?,
        })
    }
}
