//! Who a host is to the other hosts of its cluster, and how it knows them: by certificates the cluster's own CA signed.
//!
//! A host's certificate holds exactly one DNS name that ends in [`SUFFIX`]: `fe1.cluster` is the host `fe1`. So a
//! certificate which the same CA signed for something else, such as an etcd member, makes nobody a host.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use webpki::{EndEntityCert, KeyUsage};

use crate::config::Cluster;
use crate::net::HostName;
use crate::time::Utc;

/// What a host's name in its certificate ends in.
pub const SUFFIX: &str = ".cluster";

/// What is spoken inside TLS. Another version of it gets another name, so that no host misunderstands another.
const PROTOCOL: &[u8] = b"switchyard-link/1";

/// `fe1.cluster` for `fe1`.
pub fn certified_name(host: &str) -> String {
    format!("{host}{SUFFIX}")
}

/// What is wrong with a file of `[cluster]`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unfit {
    /// `cert`, `key` or `ca`.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
}

/// A host's certificate, its key, and whose certificates it believes.
pub struct Credentials {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// For how many days the certificate is still good, if that is not long.
    expiring: Option<u64>,
}

/// A certificate that ends so soon should be renewed.
const SOON: Duration = Duration::from_secs(30 * DAY_S);
const DAY_S: u64 = 24 * 3600;

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the files of `[cluster]` for the host `name`.
    ///
    /// # Errors
    /// All that is wrong with them, at least as far as the other hosts would notice.
    pub fn read(cluster: &Cluster, name: &str, now: Utc) -> Result<Credentials, Vec<Unfit>> {
        let files = Files::read(cluster)?;
        let mut wrong = Vec::new();
        if !files.belong_together() {
            wrong.push(unfit("key", &cluster.key, format!("is not the key of {}", cluster.cert.display())));
        }
        let expiring = match files.judge(name, now) {
            Ok(()) => files
                .judge(name, now + SOON)
                .err()
                .and_then(|why| why.expired)
                .map(|end| end.as_secs().saturating_sub(unix(now).as_secs()) / DAY_S),
            Err(why) => {
                wrong.push(unfit("cert", &cluster.cert, why.message));
                None
            }
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        files.credentials(expiring).map_err(|error| vec![unfit("cert", &cluster.cert, error.to_string())])
    }

    /// Without a look at what others will say.
    #[cfg(test)]
    pub(super) fn unjudged(cluster: &Cluster) -> Credentials {
        Files::read(cluster).unwrap().credentials(None).unwrap()
    }

    /// Says that the certificate should be renewed, if it should.
    pub fn warning(&self) -> Option<String> {
        let days = self.expiring?;
        Some(format!(
            "the certificate ends in {days} days; renew it (`switchyard cluster certificates`), then SIGHUP"
        ))
    }
}

fn unfit(key: &'static str, file: &Path, message: String) -> Unfit {
    Unfit { key, message: format!("{} {message}", file.display()) }
}

fn unreadable(key: &'static str, file: &Path, error: &pem::Error, what: &str) -> Unfit {
    let message = match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("holds no {what} in PEM"),
        error => format!("is no PEM file: {error}"),
    };
    unfit(key, file, message)
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(unreadable(key, file, &pem::Error::NoItemsFound, "certificate")),
        Ok(list) => Ok(list),
        Err(error) => Err(unreadable(key, file, &error, "certificate")),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Unfit> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable("key", file, &error, "private key"))
}

/// Whether a key is that of a certificate, as with those for the store.
///
/// # Errors
/// When it is another's, or one of the files cannot be used.
pub fn matching(cert: &Path, key_file: &Path) -> Result<(), Unfit> {
    let chain = certificates("cert", cert)?;
    let unusable = |error| unfit("key", key_file, format!("holds no usable key: {error}"));
    let signing = ring::default_provider().key_provider.load_private_key(key(key_file)?).map_err(unusable)?;
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) => Ok(()),
        Err(_) => Err(unfit("key", key_file, format!("is not the key of {}", cert.display()))),
    }
}

/// What the files of `[cluster]` hold.
struct Files {
    provider: Arc<CryptoProvider>,
    /// The host's own, and perhaps those between it and the CA's.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    signing: Arc<dyn SigningKey>,
    roots: Arc<RootCertStore>,
}

impl Files {
    fn read(cluster: &Cluster) -> Result<Files, Vec<Unfit>> {
        let provider = Arc::new(ring::default_provider());
        let (mut wrong, mut roots) = (Vec::new(), RootCertStore::empty());
        let chain = certificates("cert", &cluster.cert).map_err(|unfit| wrong.push(unfit));
        let added = certificates("ca", &cluster.ca).and_then(|list| {
            let unusable = |error| unfit("ca", &cluster.ca, format!("holds no usable CA: {error}"));
            list.into_iter().try_for_each(|authority| roots.add(authority).map_err(unusable))
        });
        let _ = added.map_err(|unfit| wrong.push(unfit));
        let key = key(&cluster.key).and_then(|key| {
            let signing = provider.key_provider.load_private_key(key.clone_key());
            let unusable = |error| unfit("key", &cluster.key, format!("holds no usable key: {error}"));
            Ok((key, signing.map_err(unusable)?))
        });
        match (chain, key.map_err(|unfit| wrong.push(unfit))) {
            (Ok(chain), Ok((key, signing))) if wrong.is_empty() => {
                Ok(Files { provider, chain, key, signing, roots: Arc::new(roots) })
            }
            _ => Err(wrong),
        }
    }

    fn belong_together(&self) -> bool {
        CertifiedKey::new(self.chain.clone(), Arc::clone(&self.signing)).keys_match().is_ok()
    }

    /// What the other hosts will do with this host's own certificate, in both directions.
    fn judge(&self, name: &str, at: Utc) -> Result<(), Distrusted> {
        let distrusted = |message: String| Distrusted { message, expired: None };
        let [own, between @ ..] = &*self.chain else { return Err(distrusted("is empty".to_owned())) };
        let certificate = EndEntityCert::try_from(own).map_err(|error| distrusted(error.to_string()))?;
        let (algorithms, anchors) = (self.provider.signature_verification_algorithms.all, &self.roots.roots);
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            let verified =
                certificate.verify_for_usage(algorithms, anchors, between, unix(at), usage, None, None);
            verified.map_err(|error| match error {
                webpki::Error::CertExpired { not_after, .. } => Distrusted {
                    message: "has expired, or who signed it has".to_owned(),
                    expired: Some(not_after),
                },
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                    distrusted("is not signed by the CA of cluster.ca".to_owned())
                }
                other => distrusted(format!("will not be believed: {other}")),
            })?;
        }
        match named(own) {
            Ok(named) if named.as_str() == name => Ok(()),
            Ok(named) => {
                Err(distrusted(format!("is that of the host {:?}, not of {name:?}", named.as_str())))
            }
            Err(Nameless(message)) => Err(distrusted(message)),
        }
    }

    fn credentials(self, expiring: Option<u64>) -> Result<Credentials, Box<dyn Error>> {
        let Files { provider, chain, key, roots, .. } = self;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Every connection proves anew who is there; they are few and live long.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Credentials { server: Arc::new(server), client: Arc::new(client), expiring })
    }
}

/// Why others would not believe a certificate.
struct Distrusted {
    message: String,
    /// When it ended, if that is why.
    expired: Option<UnixTime>,
}

/// The certificate of a peer names no host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nameless(String);

/// Which host a certificate, believed already, is of.
pub(super) fn named(certificate: &CertificateDer<'_>) -> Result<HostName, Nameless> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| Nameless(error.to_string()))?;
    let mut names = certificate.valid_dns_names().filter_map(|name| name.strip_suffix(SUFFIX));
    let (Some(host), None) = (names.next(), names.next()) else {
        return Err(Nameless(format!("must hold exactly one DNS name that ends in {SUFFIX}")));
    };
    let odd = || Nameless(format!("holds {host:?}, which is no name of a host"));
    // A wildcard is a name, too.
    if host.contains('*') { Err(odd()) } else { HostName::new(host).ok_or_else(odd) }
}

/// The name a peer's certificate must hold, as TLS wants it.
pub(super) fn expected(host: HostName) -> Option<ServerName<'static>> {
    ServerName::try_from(certified_name(host.as_str())).ok()
}

/// As TLS counts time.
pub(super) fn unix(at: Utc) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(at.0))
}
