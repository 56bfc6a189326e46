//! Hosts and TLS of the program's listener.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;

use crate::{Gateway, api, read_head, upstream};

/// A certificate that signs others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap())
    }

    /// Writes a certificate of a host, with its key. Returns the public key.
    fn sign(&self, file: &Path, host: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(file, certificate.pem() + &key.serialize_pem()).unwrap();
        key.public_key_pem()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.0.der().to_vec()))
            .unwrap();
        Arc::new(roots)
    }

    fn client(&self) -> Arc<ClientConfig> {
        let roots = self.roots();
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

/// An upstream over TLS, which says whether it was shown a certificate of the authority.
fn tls_upstream(authority: &Authority, file: &Path) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider.clone());
    let chain = CertificateDer::pem_file_iter(file).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_file(file).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(session, tcp.unwrap());
            read_head(&mut stream);
            let is_known = stream.conn.peer_certificates().is_some();
            let body = if is_known { "known" } else { "unknown" };
            let length = body.len();
            // Who did not believe it is gone.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

#[test]
fn each_api_speaks_tls_with_its_upstreams_in_its_own_way() {
    let folder = folder("upstream-tls");
    let authority = Authority::new();
    let (server, own) = (folder.join("server.pem"), folder.join("own.pem"));
    let key = authority.sign(&server, "localhost");
    authority.sign(&own, "gateway.test");
    let pinned = folder.join("server.pub");
    fs::write(&pinned, key).unwrap();
    let target = format!("https://localhost:{}", tls_upstream(&authority, &server));
    let other = "0".repeat(64);
    let unverified = json!({"ssl_insecure_skip_verify": true});
    let ways = [
        ("checked", json!({}), json!({})),
        ("unchecked", unverified.clone(), json!({})),
        (
            "shown",
            unverified.clone(),
            json!({"upstream_certificates": {"localhost": own}}),
        ),
        (
            "kept",
            unverified.clone(),
            json!({
            "upstream_certificates": {"localhost": own}, "upstream_certificates_disabled": true}),
        ),
        (
            "elsewhere",
            unverified.clone(),
            json!({"upstream_certificates": {"*.test": own}}),
        ),
        (
            "pinned",
            unverified.clone(),
            json!({"pinned_public_keys": {"*": pinned}}),
        ),
        (
            "mispinned",
            unverified.clone(),
            json!({"pinned_public_keys": {"localhost": other}}),
        ),
        (
            "unpinned",
            unverified.clone(),
            json!({
            "pinned_public_keys": {"localhost": other}, "certificate_pinning_disabled": true}),
        ),
        ("old", json!({"ssl_max_version": 770}), json!({})),
        (
            "missing",
            json!({}),
            json!({"upstream_certificates": {"*": folder.join("none.pem")}}),
        ),
        ("through", json!({"proxy_url": "http://proxy"}), json!({})),
    ];
    let apis = ways.map(|(id, transport, members)| {
        let mut api = api(id, &format!("/{id}/"), &target);
        api["use_keyless"] = json!(true);
        api["proxy"]["transport"] = transport;
        for (name, value) in members.as_object().unwrap() {
            api[name] = value.clone();
        }
        api
    });
    let gateway = Gateway::with("upstream-tls-ways", &json!({}), &apis);
    for (id, status, body) in [
        ("checked", 500, ""), // The authority is nobody's.
        ("unchecked", 200, "unknown"),
        ("shown", 200, "known"),
        ("kept", 200, "unknown"),
        ("elsewhere", 200, "unknown"),
        ("pinned", 200, "unknown"),
        ("mispinned", 500, ""),
        ("unpinned", 200, "unknown"),
        ("old", 503, ""),
        ("missing", 503, ""),
        ("through", 503, ""),
    ] {
        let answer = gateway.ask(&format!("/{id}/x"), "");
        assert_eq!(answer.status, status, "{id}: {}", answer.body);
        assert!(
            status != 200 || answer.body == body,
            "{id}: {}",
            answer.body
        );
    }
    fs::remove_dir_all(folder).unwrap();
}
