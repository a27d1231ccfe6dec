//! A CA for a cluster whose operators have none: it signs what the hosts show each other, and the members of their etcd.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use super::credentials::{certified_name, unix};
use crate::time::Utc;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the CA is good for: a new one must be brought to all hosts at once, so about never.
const AUTHORITY_LIFE_DAYS: u32 = 20 * 365;
/// How long what it signs is good for: renewed with any other yearly duty, with a year to spare.
const CERTIFICATE_LIFE_DAYS: u32 = 2 * 365;
/// What it is called, before a mark of its key: so two are told apart, and none needs to be parsed to be used again.
const NAME: &str = "Switchyard cluster CA";

/// A CA with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The CA's files are not what this program wrote.
    #[error("this CA was not made by `switchyard cluster certificates`, or its key is another's ({0})")]
    Foreign(String),
    /// The library refuses.
    #[error("no certificate could be made: {0}")]
    Refused(#[from] rcgen::Error),
}

impl Authority {
    /// A new CA.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create(now: Utc) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let params = authority(&key, now);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The CA of an earlier [`Authority::create`], from the texts of its files.
    ///
    /// # Errors
    /// When they are not a certificate of such a CA and its key.
    pub fn read(certificate: &str, key: &str, now: Utc) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(|error| AuthorityError::Foreign(error.to_string()))?;
        let issuer = Issuer::new(authority(&key, now), key);
        let authority = Self { issuer, certificate: certificate.to_owned() };
        let trial = authority.host("trial", now)?;
        authority.believes(&trial, now).map_err(AuthorityError::Foreign)?;
        Ok(authority)
    }

    /// The CA's certificate and key, as PEM.
    pub fn files(&self) -> Certified {
        Certified { certificate: self.certificate.clone(), key: self.issuer.key().serialize_pem() }
    }

    /// A certificate for a host, by which the others know it.
    ///
    /// # Errors
    /// When the name cannot be in a certificate.
    pub fn host(&self, name: &str, now: Utc) -> Result<Certified, AuthorityError> {
        self.certify(&certified_name(name), now)
    }

    /// A certificate for an etcd member at a numeric address or a DNS name.
    ///
    /// # Errors
    /// When the address cannot be in a certificate.
    pub fn member(&self, address: &str, now: Utc) -> Result<Certified, AuthorityError> {
        self.certify(address, now)
    }

    fn certify(&self, subject: &str, now: Utc) -> Result<Certified, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([subject.to_owned()])?;
        params.distinguished_name = named(subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        good_for(&mut params, now, CERTIFICATE_LIFE_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }

    /// Whether the CA's certificate vouches for what its key signed.
    fn believes(&self, certified: &Certified, now: Utc) -> Result<(), String> {
        let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(read(&self.certificate)?).map_err(|error| error.to_string())?;
        let own = read(&certified.certificate)?;
        let own = EndEntityCert::try_from(&own).map_err(|error| error.to_string())?;
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let at = unix(now);
        own.verify_for_usage(algorithms, &roots.roots, &[], at, KeyUsage::server_auth(), None, None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

fn authority(key: &KeyPair, now: Utc) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("{NAME} {}", mark(key)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    good_for(&mut params, now, AUTHORITY_LIFE_DAYS);
    params
}

/// The first bytes of the key's digest, in hexadecimal.
fn mark(key: &KeyPair) -> String {
    Sha256::digest(key.public_key_raw()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

/// From a day ago, for clocks that are behind.
fn good_for(params: &mut CertificateParams, now: Utc, days: u32) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}
