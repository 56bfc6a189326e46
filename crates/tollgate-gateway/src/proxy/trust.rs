//! TLS towards upstreams: whom they have to be, who we are to them, and what is spoken.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
        pem::PemObject,
    },
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{client::ClientError, unverified};
use crate::tls::TlsRules;

/// TLS towards upstreams.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct UpstreamTls {
    /// Whom to believe.
    pub roots: Roots,
    /// Versions and cipher suites.
    pub rules: TlsRules,
    /// Certificates of our own, for upstreams that ask for one.
    pub identities: ByHost<Identity>,
    /// Public keys that upstreams must have besides, any one of them.
    pub pins: ByHost<Vec<KeyPin>>,
    /// Whether the common name of an upstream's certificate must be its host besides, whatever other names it
    /// has.
    pub common_names: bool,
}

impl UpstreamTls {
    /// What settings of this kind ask for: the authorities that are believed, and our certificate with its key, in PEM
    /// files. An empty name is none.
    ///
    /// # Errors
    ///
    /// Where certificate or key can not be read, or do not fit.
    pub(crate) fn of_files(
        is_unverified: bool,
        authorities: &str,
        certificate: &str,
        key: &str,
    ) -> Result<Self, ClientError> {
        let roots = match (is_unverified, authorities) {
            (true, _) => Roots::UnverifiedDangerous,
            (false, "") => Roots::System,
            (false, file) => Roots::Only(file.into()),
        };
        let mut identities = BTreeMap::new();
        if !certificate.is_empty() {
            let identity = Identity::read(certificate.as_ref(), key.as_ref())?;
            identities.insert("*".to_owned(), identity);
        }
        Ok(Self {
            roots,
            identities: ByHost::layers([identities]),
            ..Self::default()
        })
    }
}

/// Which certificates of upstreams are believed.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Roots {
    /// Those that the system believes.
    #[default]
    System,
    /// Those that the system believes, and those in a PEM file.
    SystemAnd(PathBuf),
    /// Those in a PEM file.
    Only(PathBuf),
    /// None is looked at: anybody can stand in for the upstream.
    UnverifiedDangerous,
}

/// Something that upstreams have by their host, in layers of which the first that knows the host counts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ByHost<T>(Vec<BTreeMap<String, T>>);

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByHost<T> {
    /// Layers of hosts in small letters: `a.example:8443`, `a.example`, `*.example` for one label more, and
    /// `*` for all.
    pub fn layers(layers: impl IntoIterator<Item = BTreeMap<String, T>>) -> Self {
        let is_used = |layer: &BTreeMap<String, T>| !layer.is_empty();
        Self(layers.into_iter().filter(is_used).collect())
    }

    fn find(&self, host: &str, port: u16) -> Option<&T> {
        let with_port = format!("{host}:{port}");
        let parent = host
            .split_once('.')
            .map(|(_, parent)| format!("*.{parent}"));
        let names = [
            Some(with_port.as_str()),
            Some(host),
            parent.as_deref(),
            Some("*"),
        ];
        let names = || names.into_iter().flatten();
        let mut layers = self.0.iter();
        layers.find_map(|layer| names().find_map(|name| layer.get(name)))
    }
}

/// A certificate of our own, with its key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    digest: [u8; 32], // Of all of it: identities that are equal are the same.
}

impl Identity {
    /// Reads PEM files: the certificate with those between it and the root, and the key.
    ///
    /// # Errors
    ///
    /// Where a file can not be read, or the key does not fit the certificate.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, ClientError> {
        let chain = read_certificates(certificates)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem_error(key))?;
        let mut digest = Sha256::new();
        chain
            .iter()
            .for_each(|certificate| digest.update(certificate));
        digest.update(key.secret_der());
        let provider = rustls::crypto::ring::default_provider();
        Ok(Self {
            key: Arc::new(CertifiedKey::from_der(chain, key, &provider)?),
            digest: digest.finalize().into(),
        })
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.key.cert.len())
    }
}

/// The SHA-256 of a public key, as it stands in certificates.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyPin([u8; 32]);

impl KeyPin {
    /// Takes 64 hexadecimal digits as what they say, and anything else as the name of a PEM file that
    /// holds a public key.
    ///
    /// # Errors
    ///
    /// Where the file can not be read.
    pub fn read(text: &str) -> Result<Self, ClientError> {
        if let Some(digest) = from_hex(text) {
            return Ok(Self(digest));
        }
        let path = Path::new(text);
        let key = SubjectPublicKeyInfoDer::from_pem_file(path).map_err(pem_error(path))?;
        Ok(Self::of(&key))
    }

    fn of(key: &SubjectPublicKeyInfoDer<'_>) -> Self {
        Self(Sha256::digest(key).into())
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<_> = text
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// How TLS is spoken with each host, in some protocols.
pub(super) struct Sessions {
    settings: UpstreamTls,
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
    protocols: Vec<Vec<u8>>,
    /// With hosts that nothing special is known of.
    plain: Arc<ClientConfig>,
    /// With others; as many as the definitions name.
    special: Mutex<HashMap<(String, u16), Arc<ClientConfig>>>,
}

#[derive(Clone)]
pub(super) enum Verifier {
    Roots(Arc<RootCertStore>),
    Nobody,
}

impl Verifier {
    pub(super) fn of(roots: &Roots) -> Result<Self, ClientError> {
        Ok(match roots {
            Roots::UnverifiedDangerous => Self::Nobody,
            roots => Self::Roots(Arc::new(root_store(roots)?)),
        })
    }
}

impl Sessions {
    pub(super) fn new(
        settings: &UpstreamTls,
        verifier: Verifier,
        protocols: &[&[u8]],
    ) -> Result<Self, ClientError> {
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        let provider = settings.rules.provider();
        let plain = config(settings, &provider, &verifier, (None, None), &protocols)?;
        Ok(Self {
            settings: settings.clone(),
            provider,
            verifier,
            protocols,
            plain: Arc::new(plain),
            special: Mutex::default(),
        })
    }

    /// How TLS is spoken with this host.
    pub(super) fn with(&self, host: &str, port: u16) -> Result<Arc<ClientConfig>, ClientError> {
        let host = host.to_ascii_lowercase();
        let host = host.as_str();
        let identity = self.settings.identities.find(host, port);
        let pins = self.settings.pins.find(host, port);
        if identity.is_none() && pins.is_none() {
            return Ok(self.plain.clone());
        }
        let mut special = self.special.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (host.to_owned(), port);
        if let Some(known) = special.get(&place) {
            return Ok(known.clone());
        }
        let own = (identity, pins);
        let (provider, verifier) = (&self.provider, &self.verifier);
        let made = config(&self.settings, provider, verifier, own, &self.protocols)?;
        let made = Arc::new(made);
        special.insert(place, made.clone());
        Ok(made)
    }
}

fn config(
    settings: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
    verifier: &Verifier,
    (identity, pins): (Option<&Identity>, Option<&Vec<KeyPin>>),
    protocols: &[Vec<u8>],
) -> Result<ClientConfig, ClientError> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(settings.rules.versions())?;
    let is_plain = pins.is_none() && !settings.common_names;
    let builder = match (verifier, is_plain) {
        (Verifier::Roots(roots), true) => builder.with_root_certificates(roots.clone()),
        (Verifier::Nobody, true) => builder
            .dangerous()
            .with_custom_certificate_verifier(unverified::verifier(provider)),
        (verifier, false) => {
            let inner: Arc<dyn ServerCertVerifier> = match verifier {
                Verifier::Nobody => unverified::verifier(provider),
                Verifier::Roots(roots) => {
                    let verifier = WebPkiServerVerifier::builder_with_provider(
                        roots.clone(),
                        provider.clone(),
                    );
                    verifier.build().map_err(|_| ClientError::NoRoots(None))?
                }
            };
            let strict = Strict {
                inner,
                pins: pins.cloned(),
                common_names: settings.common_names,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(strict))
        }
    };
    let mut config = match identity {
        Some(identity) => {
            let resolver = SingleCertAndKey::from(identity.key.clone());
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

fn root_store(roots: &Roots) -> Result<RootCertStore, ClientError> {
    let mut store = RootCertStore::empty();
    let mut problem = None;
    if matches!(roots, Roots::System | Roots::SystemAnd(_)) {
        let found = rustls_native_certs::load_native_certs();
        problem = found.errors.into_iter().next().map(io::Error::other);
        store.add_parsable_certificates(found.certs);
    }
    if let Roots::SystemAnd(path) | Roots::Only(path) = roots {
        for certificate in read_certificates(path)? {
            store.add(certificate)?;
        }
        if store.is_empty() {
            return Err(ClientError::NoRoots(problem));
        }
    }
    // Without any on the system, plain HTTP still works, and TLS fails where it is asked for.
    Ok(store)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(pem_error(path))
}

fn pem_error(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> ClientError {
    let path = path.to_owned();
    move |source| ClientError::Pem { path, source }
}

/// Believes whom another believes, if the key is one of a few, and the common name is the host.
#[derive(Debug)]
struct Strict {
    inner: Arc<dyn ServerCertVerifier>,
    pins: Option<Vec<KeyPin>>,
    common_names: bool,
}

/// Whether the certificate has this host as its only common name.
fn is_named(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return false;
    };
    let host = host.to_str();
    name.as_str()
        .is_ok_and(|name| name.eq_ignore_ascii_case(&host))
}

impl ServerCertVerifier for Strict {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let inner = &self.inner;
        let verified = inner.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
        // The key of the certificate itself, whose owner the handshake proves: others can be shown by anybody.
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let is_pinned = |pins: &Vec<KeyPin>| pins.contains(&KeyPin::of(&key));
        if !self.pins.as_ref().is_none_or(is_pinned) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        if self.common_names && !is_named(certificate, name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(hosts: &[&str], mark: &str) -> BTreeMap<String, String> {
        let entry = |host: &&str| ((*host).to_owned(), format!("{mark}{host}"));
        hosts.iter().map(entry).collect()
    }

    #[track_caller]
    fn check(host: &str, port: u16, expected: Option<&str>) {
        let hosts = ByHost::layers([
            layer(&["a.test:1", "a.test", "*.b.test"], "1 "),
            BTreeMap::new(),
            layer(&["a.test:2", "c.test", "*"], "2 "),
        ]);
        let found = hosts.find(host, port).map(String::as_str);
        assert_eq!(found, expected, "{host} {port}");
    }

    #[test]
    fn the_first_layer_counts_and_in_it_what_says_most() {
        check("a.test", 1, Some("1 a.test:1"));
        check("a.test", 2, Some("1 a.test"));
        check("x.b.test", 443, Some("1 *.b.test"));
        check("x.y.b.test", 443, Some("2 *"));
        check("b.test", 443, Some("2 *"));
        check("c.test", 443, Some("2 c.test"));
        check("localhost", 443, Some("2 *"));
        assert_eq!(ByHost::<u8>::default().find("a", 443), None);
    }

    #[test]
    fn a_pin_is_64_digits() {
        assert_eq!(from_hex(&"aF".repeat(32)), Some([0xAF; 32]));
        assert_eq!(from_hex(&"a".repeat(63)), None);
        assert_eq!(from_hex(&"g".repeat(64)), None);
        assert_eq!(from_hex(""), None);
        assert!(KeyPin::read("/nowhere.pem").is_err());
    }
}
