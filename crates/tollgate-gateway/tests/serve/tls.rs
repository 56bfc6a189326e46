//! Hosts and TLS of the program's listener.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde_json::json;

use crate::{Gateway, api, upstream};

/// A certificate that signs others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap())
    }

    /// Writes a certificate of a host, with its key.
    fn sign(&self, file: &Path, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(file, certificate.pem() + &key.serialize_pem()).unwrap();
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.0.der().to_vec()))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tollgate-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn certificates_are_read_anew_on_a_signal() {
    let folder = folder("certificates");
    let file = folder.join("own.pem");
    let (old, new) = (Authority::new(), Authority::new());
    old.sign(&file, "localhost");
    let settings = json!({"http_server_options": {
        "use_ssl": true, "ssl_certificates": [file], "min_version": 772}});
    let mut open = api(
        "open",
        "/open/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    open["use_keyless"] = json!(true);
    let mut gateway = Gateway::over("tls", &settings, &[open], Some(old.client()));
    assert_eq!(gateway.ask("/open/x", "").status, 200);

    let hang_up = |gateway: &Gateway| {
        let id = gateway.program.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status();
        assert!(sent.unwrap().success());
    };
    fs::write(&file, "no certificate").unwrap();
    hang_up(&gateway);
    assert_eq!(gateway.ask("/open/x", "").status, 200, "the old one stays");
    new.sign(&file, "localhost");
    hang_up(&gateway);
    let start = Instant::now();
    gateway.tls = Some(new.client());
    while gateway.try_ask("GET", "/open/x", &[], "").is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it stays the old one"
        );
        std::thread::sleep(Duration::from_millis(10)); // Between two looks at the condition.
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_host_of_the_configuration_is_the_only_one() {
    let mut open = api(
        "open",
        "/open/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    open["use_keyless"] = json!(true);
    let mut own = open.clone();
    own["api_id"] = json!("own");
    own["domain"] = json!("own.test");
    let settings = json!({"hostname": "Only.test", "enable_custom_domains": true});
    let gateway = Gateway::with("hostname", &settings, &[open, own]);
    for (host, status) in [
        ("only.test", 200),
        ("ONLY.TEST:80", 200),
        ("own.test", 200),
        ("localhost", 404),
        ("x.only.test", 404),
    ] {
        let answer = gateway
            .try_ask("GET", "/open/x", &[("host", host)], "")
            .unwrap();
        assert_eq!(answer.status, status, "{host}: {}", answer.body);
    }
}
