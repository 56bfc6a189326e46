//! TLS towards clients, with certificates that can be replaced.

use std::{fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::tls::TlsRules;

/// Where a certificate and its key are, in PEM.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificateFiles {
    /// The host that it is for, `*.example.com` too, whatever stands in it.
    pub host: Option<String>,
    /// The certificate, and those between it and the root.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can not be read as PEM.
    #[error("can not read certificates or key from {}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key are not usable together.
    #[error("{} can not be used", path.display())]
    Unusable {
        /// Which file of certificates.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// There is no certificate.
    #[error("no certificate was given")]
    None,
    /// The versions of TLS are not to be had.
    #[error("TLS can not be set up")]
    Setup(#[from] rustls::Error),
}

/// TLS for a listener. Clones share the certificates.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Serves these certificates: the first for the host that the client asks for, or else the first that
    /// holds its name, or else the first of all.
    ///
    /// # Errors
    ///
    /// Where a file can not be read, or a key does not fit its certificate.
    pub fn from_files(files: &[CertificateFiles], rules: &TlsRules) -> Result<Self, TlsError> {
        let provider = rules.provider();
        let loaded = load(files, &provider)?;
        let certificates = Arc::new(Certificates {
            loaded: ArcSwap::from_pointee(loaded),
            provider: provider.clone(),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rules.versions())?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificates,
        })
    }

    /// Offers HTTP/1.1 alone.
    #[must_use]
    pub fn without_http2(self) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            ..self
        }
    }

    /// Serves other certificates from the next handshake on.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files); the former ones stay then.
    pub fn replace(&self, files: &[CertificateFiles]) -> Result<(), TlsError> {
        let loaded = load(files, &self.certificates.provider)?;
        self.certificates.loaded.store(Arc::new(loaded));
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.certificates.fmt(f)
    }
}

struct Certificates {
    loaded: ArcSwap<Vec<Certificate>>, // Invariant: not empty.
    provider: Arc<CryptoProvider>,
}

struct Certificate {
    host: Option<String>,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Whether it was given for this host.
    fn is_of(&self, host: &str) -> bool {
        let Some(own) = &self.host else { return false };
        let parent = host.split_once('.').map(|(_, parent)| parent);
        own.eq_ignore_ascii_case(host)
            || own
                .strip_prefix("*.")
                .is_some_and(|own| parent.is_some_and(|parent| own.eq_ignore_ascii_case(parent)))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.loaded.load().len())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let asked = hello.server_name();
        let given = asked.and_then(|host| loaded.iter().find(|one| one.is_of(host)));
        let name = asked.and_then(|name| ServerName::try_from(name).ok());
        let named = || name.and_then(|name| loaded.iter().find(|one| is_for(&one.key, &name)));
        let found = given.or_else(named).or_else(|| loaded.first());
        found.map(|one| one.key.clone())
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|certificate| verify_server_name(&certificate, name))
        .is_ok()
}

fn load(
    files: &[CertificateFiles],
    provider: &CryptoProvider,
) -> Result<Vec<Certificate>, TlsError> {
    if files.is_empty() {
        return Err(TlsError::None);
    }
    files
        .iter()
        .map(|files| load_one(files, provider))
        .collect()
}

fn load_one(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
    let pem = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect)
        .map_err(pem(&files.certificates))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let key =
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Unusable {
            path: files.certificates.clone(),
            source,
        })?;
    Ok(Certificate {
        host: files.host.clone(),
        key: Arc::new(key),
    })
}
