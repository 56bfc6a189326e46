//! Hosts and TLS of the program's listener.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
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
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap())
    }

    /// Writes a certificate of a host, with its key. Returns the public key.
    pub(super) fn sign(&self, file: &Path, host: &str) -> String {
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

    pub(super) fn client(&self) -> Arc<ClientConfig> {
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

pub(super) fn folder(name: &str) -> PathBuf {
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
        ("through", json!({"proxy_url": "socks5://proxy"}), json!({})),
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

/// A proxy that makes tunnels for one user, and answers with the head of what it would send on.
fn forward_proxy(heads: Sender<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, heads) = (client.unwrap(), heads.clone());
            std::thread::spawn(move || by_proxy(client, &heads));
        }
    });
    port
}

fn by_proxy(mut client: TcpStream, heads: &Sender<String>) {
    let head = read_head(&mut client);
    let is_known = head
        .to_lowercase()
        .contains("\r\nproxy-authorization: basic yw5uomhpzgrlbg==");
    let _ = heads.send(head.clone()); // The test may have ended.
    let mut parts = head.split(' ');
    let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
    // Whoever asked may be gone by the time it is answered.
    if !is_known {
        let _ = client.write_all(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n");
    } else if method == "CONNECT" {
        let upstream = TcpStream::connect(target).unwrap();
        let _ = client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
        let (mut back, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut &upstream, &mut back));
        let _ = std::io::copy(&mut client, &mut to);
    } else {
        let length = head.len();
        let start = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}");
        let _ = client.write_all(start.as_bytes());
    }
}

#[test]
fn upstreams_are_reached_by_a_proxy() {
    let folder = folder("forward-files");
    let authority = Authority::new();
    let server = folder.join("server.pem");
    authority.sign(&server, "localhost");
    let (heads, seen) = channel();
    let port = forward_proxy(heads);
    let (known, unknown) = (
        format!("ann:hidden@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}"),
    );
    let tls = format!("localhost:{}", tls_upstream(&authority, &server));
    let apis = [
        ("plain", "http://upstream.invalid/v2".to_owned(), &known),
        ("tunnel", format!("https://{tls}/v2"), &known),
        ("denied", format!("https://{tls}/v2"), &unknown),
        ("strange", "http://upstream.invalid/".to_owned(), &unknown),
        ("clear", "h2c://upstream.invalid/".to_owned(), &known),
    ];
    let apis = apis.map(|(id, target, proxy)| {
        let mut api = api(id, &format!("/{id}/"), &target);
        api["use_keyless"] = json!(true);
        api["proxy"]["transport"] = json!({
            "proxy_url": format!("http://{proxy}"), "ssl_insecure_skip_verify": true});
        api
    });
    let gateway = Gateway::with("forward", &json!({}), &apis);

    let headers = [("proxy-authorization", "Basic bWluZQ==")];
    let answer = gateway
        .try_ask("GET", "/plain/x?y=1", &headers, "")
        .unwrap();
    assert_eq!(answer.status, 200);
    let sent = answer.body.to_lowercase();
    assert!(
        sent.starts_with("get http://upstream.invalid/v2/x?y=1 http/1.1\r\n"),
        "{sent}"
    );
    assert!(
        sent.contains("host: upstream.invalid\r\n") && !sent.contains("bwluzq"),
        "{sent}"
    );
    seen.recv().unwrap();

    let answer = gateway.ask("/tunnel/x", "");
    assert_eq!((answer.status, &*answer.body), (200, "unknown"));
    let asked = seen.recv().unwrap();
    assert!(
        asked.starts_with(&format!("CONNECT {tls} HTTP/1.1\r\n")),
        "{asked}"
    );
    assert!(!asked.contains("/v2"), "{asked}");

    for (path, status) in [("/denied/x", 500), ("/strange/x", 407), ("/clear/x", 503)] {
        let answer = gateway.ask(path, "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let log = gateway.log();
    assert!(!log.contains("hidden") && !log.contains("YW5u"), "{log}");
    fs::remove_dir_all(folder).unwrap();
}

/// Whether HTTP/2 is offered over TLS, and spoken without.
fn speaks_http2(name: &str, enabled: Option<bool>) -> (bool, bool) {
    let folder = folder(&format!("{name}-files"));
    let authority = Authority::new();
    let file = folder.join("own.pem");
    authority.sign(&file, "localhost");
    let mut options = json!({"use_ssl": true, "ssl_certificates": [file]});
    if let Some(enabled) = enabled {
        options["enable_http2"] = json!(enabled);
    }
    let settings = json!({"http_server_options": options});
    let gateway = Gateway::over(name, &settings, &[], Some(authority.client()));
    let mut client = ClientConfig::clone(&authority.client());
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let host = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(client), host).unwrap();
    session.complete_io(&mut tcp).unwrap();
    let over_tls = session.alpn_protocol() == Some(b"h2");
    drop(gateway);

    options["use_ssl"] = json!(false);
    let settings = json!({"http_server_options": options});
    let gateway = Gateway::with(&format!("{name}-clear"), &settings, &[]);
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    tcp.write_all(begin).unwrap();
    let mut first = [0; 9];
    // Who does not speak it answers with text, or not at all.
    let in_clear = tcp.read_exact(&mut first).is_ok() && first[3] == 4;
    fs::remove_dir_all(folder).unwrap();
    (over_tls, in_clear)
}

#[test]
fn http2_is_spoken_as_the_configuration_says() {
    assert_eq!(speaks_http2("http2-unsaid", None), (false, true));
    assert_eq!(speaks_http2("http2-on", Some(true)), (true, true));
    assert_eq!(speaks_http2("http2-off", Some(false)), (false, false));
}
