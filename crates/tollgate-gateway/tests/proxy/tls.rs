//! TLS towards clients, and towards upstreams.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tollgate_gateway::{
    proxy::{
        ByHost, ClientOptions, Identity, KeyPin, ProxyError, ProxyErrorKind, ProxyOptions, Roots,
        UpstreamTls,
    },
    serve::{CertificateFiles, Listener, RequestBody, ServeOptions, ServerTls, Stop, serve},
    tls::TlsRules,
};
use tower::{ServiceExt, service_fn};

use super::support::{Setup, Upstream, proxy, within};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("tollgate-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority, and what it signed.
struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
    root: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let folder = Folder::new();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let root = folder.put("root.pem", &issuer.pem());
        Self {
            folder,
            issuer,
            root,
        }
    }

    fn sign(&self, file: &str, name: &str) -> CertificateFiles {
        self.sign_as(file, name, None)
    }

    /// The same with this common name.
    fn sign_as(&self, file: &str, name: &str, common: Option<&str>) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        CertificateFiles {
            host: None,
            certificates: self.folder.put(&format!("{file}.pem"), &certificate.pem()),
            key: self
                .folder
                .put(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    async fn connect(
        &self,
        addr: std::net::SocketAddr,
        name: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&self.root).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tcp = TcpStream::connect(addr).await.unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }
}

/// A server over TLS that says which version of HTTP it is spoken to in.
async fn upstream(authority: &Authority) -> (String, Stop) {
    upstream_with(authority.sign("upstream", "localhost")).await
}

async fn upstream_with(certificate: CertificateFiles) -> (String, Stop) {
    async fn version(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
        Ok(Response::new(format!("{:?}", request.version())))
    }
    let tls = ServerTls::from_files(&[certificate], &TlsRules::default()).unwrap();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap()
        .with_tls(tls);
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let stop = Stop::new();
    tokio::spawn(serve(
        listener,
        service_fn(version),
        ServeOptions::default(),
        stop.clone(),
    ));
    (url, stop)
}

async fn ask(
    url: &str,
    roots: Roots,
    options: ProxyOptions,
) -> (u16, String, Option<ProxyErrorKind>) {
    let tls = UpstreamTls {
        roots,
        ..UpstreamTls::default()
    };
    ask_by(url, tls, options).await
}

async fn ask_by(
    url: &str,
    tls: UpstreamTls,
    options: ProxyOptions,
) -> (u16, String, Option<ProxyErrorKind>) {
    let client = ClientOptions {
        tls,
        ..ClientOptions::default()
    };
    let request = Request::get("http://gateway/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = within(proxy(&client, options, &[url]).oneshot(request))
        .await
        .unwrap();
    let kind = response
        .extensions()
        .get::<ProxyError>()
        .map(ProxyError::kind);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), kind)
}

#[tokio::test]
async fn an_upstream_is_believed_by_the_authority_that_was_given() {
    let authority = Authority::new();
    let (url, _stop) = upstream(&authority).await;
    let ask = |roots, options| ask(&url, roots, options);
    let known = || Roots::Only(authority.root.clone());
    assert_eq!(
        ask(known(), ProxyOptions::default()).await,
        (200, "HTTP/2.0".into(), None)
    );
    let kept = ProxyOptions {
        preserve_host: true,
        ..ProxyOptions::default()
    };
    assert_eq!(ask(known(), kept).await, (200, "HTTP/1.1".into(), None));
    let with_system = Roots::SystemAnd(authority.root.clone());
    assert_eq!(ask(with_system, ProxyOptions::default()).await.0, 200);
}

#[tokio::test]
async fn an_upstream_that_nobody_vouches_for_is_not_asked() {
    let authority = Authority::new();
    let (url, _stop) = upstream(&authority).await;
    let (status, _, kind) = ask(&url, Roots::System, ProxyOptions::default()).await;
    assert_eq!((status, kind), (500, Some(ProxyErrorKind::Tls)));
    let other = Roots::Only(Authority::new().root.clone());
    // The folder of the other authority is gone by now, but was read before.
    drop(other);
    let by_address = url.replace("localhost", "127.0.0.1");
    let (status, _, kind) = ask(
        &by_address,
        Roots::Only(authority.root.clone()),
        ProxyOptions::default(),
    )
    .await;
    assert_eq!((status, kind), (500, Some(ProxyErrorKind::Tls)));
    let (status, ..) = ask(&url, Roots::UnverifiedDangerous, ProxyOptions::default()).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn common_names_are_compared_where_that_is_asked_for() {
    let authority = Authority::new();
    let tls = |roots, common_names| UpstreamTls {
        roots,
        common_names,
        ..UpstreamTls::default()
    };
    for (common, passes) in [
        (Some("localhost"), true),
        (Some("LocalHost"), true),
        (Some("localhost.test"), false),
        (Some("*"), false),
        (None, false),
    ] {
        let (url, _stop) = upstream_with(authority.sign_as("named", "localhost", common)).await;
        for roots in [
            Roots::Only(authority.root.clone()),
            Roots::UnverifiedDangerous,
        ] {
            let ask = |names| ask_by(&url, tls(roots.clone(), names), ProxyOptions::default());
            assert_eq!(ask(false).await.0, 200, "{common:?}");
            let (status, _, kind) = ask(true).await;
            let expected = match passes {
                true => (200, None),
                false => (500, Some(ProxyErrorKind::Tls)),
            };
            assert_eq!((status, kind), expected, "{common:?} {roots:?}");
        }
    }
    // A name in the common name alone is none.
    let other = authority.sign_as("other", "other.test", Some("localhost"));
    let (url, _stop) = upstream_with(other).await;
    let strict = tls(Roots::Only(authority.root.clone()), true);
    let (status, ..) = ask_by(&url, strict, ProxyOptions::default()).await;
    assert_eq!(status, 500);
}

#[tokio::test]
async fn a_file_that_holds_no_certificate_stops_the_client() {
    use tollgate_gateway::proxy::UpstreamClient;
    let folder = Folder::new();
    for path in [
        folder.put("empty.pem", ""),
        Path::new("/nowhere.pem").to_owned(),
    ] {
        let tls = UpstreamTls {
            roots: Roots::Only(path),
            ..UpstreamTls::default()
        };
        let options = ClientOptions {
            tls,
            ..ClientOptions::default()
        };
        assert!(UpstreamClient::<Full<Bytes>>::new(&options).is_err());
    }
}

async fn exchange(mut stream: TlsStream<TcpStream>) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    let _ = within(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn clients_choose_the_version_and_the_upstream_learns_of_tls() {
    let authority = Authority::new();
    let upstream = Upstream::echo().await;
    let mut setup = Setup {
        tls: Some(
            ServerTls::from_files(&[authority.sign("a", "a.test")], &TlsRules::default()).unwrap(),
        ),
        ..Setup::default()
    };
    setup.proxy.forwarded.x_forwarded_proto = true;
    let gateway = setup.start(&[&upstream.url()]).await;
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = authority
            .connect(gateway.addr, "a.test", alpn)
            .await
            .unwrap();
        let response = exchange(stream).await;
        assert!(response.contains("X-Forwarded-Proto: https"), "{response}");
    }
    let stream = authority
        .connect(gateway.addr, "a.test", &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://a.test/")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(
        within(client.send_request(request)).await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn a_client_gets_the_certificate_it_asks_for_and_new_ones_come_without_a_stop() {
    let authority = Authority::new();
    let (a, b) = (
        authority.sign("a", "a.test"),
        authority.sign("b", "*.b.test"),
    );
    let tls = ServerTls::from_files(&[a.clone(), b], &TlsRules::default()).unwrap();
    let setup = Setup {
        tls: Some(tls.clone()),
        ..Setup::default()
    };
    let upstream = Upstream::echo().await;
    let gateway = setup.start(&[&upstream.url()]).await;
    let fits = async |name| authority.connect(gateway.addr, name, &[]).await.is_ok();
    assert!(fits("a.test").await);
    assert!(fits("x.b.test").await);
    assert!(!fits("c.test").await); // It gets the first, and sees that it does not fit.
    tls.replace(&[authority.sign("c", "c.test")]).unwrap();
    assert!(fits("c.test").await);
    assert!(!fits("a.test").await);
    // What can not be used changes nothing.
    let wrong = CertificateFiles {
        key: authority.sign("d", "d.test").key,
        ..a
    };
    assert!(tls.replace(&[wrong]).is_err());
    assert!(tls.replace(&[]).is_err());
    assert!(fits("c.test").await);
}

#[tokio::test]
async fn attack_70_who_does_not_shake_hands_is_cut_off() {
    use super::support::Wire;
    use std::time::Duration;
    let authority = Authority::new();
    let mut setup = Setup {
        tls: Some(
            ServerTls::from_files(&[authority.sign("a", "a.test")], &TlsRules::default()).unwrap(),
        ),
        ..Setup::default()
    };
    setup.serve.handshake_timeout = Duration::from_millis(60);
    let gateway = setup.start(&["http://nobody.invalid"]).await;
    for first in ["", "\x16\x03", "GET / HTTP/1.1\r\n\r\n"] {
        let mut wire = Wire::connect(gateway.addr).await;
        wire.send(first).await;
        assert!(!wire.rest().await.contains("HTTP"));
    }
}

#[tokio::test]
async fn a_certificate_may_be_given_for_a_host_that_it_does_not_name() {
    let authority = Authority::new();
    let given = |file: &str, name: &str, host: &str| CertificateFiles {
        host: Some(host.into()),
        ..authority.sign(file, name)
    };
    let files = [
        given("a", "a.test", "b.test"),
        given("b", "b.test", "*.c.test"),
        given("c", "c.test", ""),
    ];
    let tls = ServerTls::from_files(&files, &TlsRules::default()).unwrap();
    let setup = Setup {
        tls: Some(tls),
        ..Setup::default()
    };
    let gateway = setup.start(&["http://nobody.invalid"]).await;
    let fits = async |name| authority.connect(gateway.addr, name, &[]).await.is_ok();
    assert!(!fits("b.test").await, "the first was given for it");
    assert!(!fits("x.c.test").await, "the second was given for it");
    assert!(fits("a.test").await);
    assert!(fits("c.test").await);
}

#[tokio::test]
async fn versions_and_suites_of_a_listener_are_those_that_were_chosen() {
    use rustls::{CipherSuite, ProtocolVersion};
    let authority = Authority::new();
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".to_owned();
    for (rules, version, expected) in [
        (TlsRules::new(0, 0, &[]), ProtocolVersion::TLSv1_3, None),
        (TlsRules::new(0, 771, &[]), ProtocolVersion::TLSv1_2, None),
        (
            TlsRules::new(0, 771, std::slice::from_ref(&suite)),
            ProtocolVersion::TLSv1_2,
            Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ),
    ] {
        let files = [authority.sign("a", "a.test")];
        let setup = Setup {
            tls: Some(ServerTls::from_files(&files, &rules.unwrap()).unwrap()),
            ..Setup::default()
        };
        let gateway = setup.start(&["http://nobody.invalid"]).await;
        let stream = authority
            .connect(gateway.addr, "a.test", &[])
            .await
            .unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(version));
        let spoken = connection
            .negotiated_cipher_suite()
            .map(|suite| suite.suite());
        assert!(expected.is_none() || expected == spoken, "{spoken:?}");
    }
}

/// An upstream over TLS that says whether it was shown a certificate that it believes.
async fn demanding(authority: &Authority) -> String {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority.root).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let believed = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let own = authority.sign("demanding", "localhost");
    let chain = CertificateDer::pem_file_iter(own.certificates).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(own.key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(believed.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let shown = stream.get_ref().1.peer_certificates().is_some();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await; // The whole request comes in one piece.
            let body = if shown { "known" } else { "unknown" };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}")
}

fn of_host<T>(host: &str, value: T) -> ByHost<T> {
    ByHost::layers([[(host.to_owned(), value)].into()])
}

#[tokio::test]
async fn an_upstream_is_shown_the_certificate_that_is_for_its_host() {
    let authority = Authority::new();
    let url = demanding(&authority).await;
    let own = authority.sign("own", "gateway.test");
    let identity = Identity::read(&own.certificates, &own.key).unwrap();
    for (host, known) in [
        ("localhost", "known"),
        ("*", "known"),
        (url.trim_start_matches("https://"), "known"),
        ("other.test", "unknown"),
    ] {
        let tls = UpstreamTls {
            roots: Roots::Only(authority.root.clone()),
            identities: of_host(host, identity.clone()),
            ..UpstreamTls::default()
        };
        let answer = ask_by(&url, tls, ProxyOptions::default()).await;
        assert_eq!(answer, (200, known.into(), None), "{host}");
    }
    let other = authority.sign("other", "other.test");
    assert!(Identity::read(&own.certificates, &other.key).is_err());
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn an_upstream_has_to_have_a_pinned_key() {
    let authority = Authority::new();
    let (url, _stop) = upstream(&authority).await;
    let own = std::fs::read_to_string(authority.folder.0.join("upstream.key")).unwrap();
    let own = KeyPair::from_pem(&own).unwrap().public_key_pem();
    let own = authority.folder.put("upstream.pub", &own);
    let others = KeyPair::generate().unwrap().public_key_pem();
    let others = authority.folder.put("other.pub", &others);
    let pin = |file: &Path| KeyPin::read(file.to_str().unwrap()).unwrap();
    let tls = |host: &str, pins: &[KeyPin], roots: Roots| UpstreamTls {
        roots,
        pins: of_host(host, pins.to_vec()),
        ..UpstreamTls::default()
    };
    let known = || Roots::Only(authority.root.clone());
    let failed = Some(ProxyErrorKind::Tls);
    for (tls, expected) in [
        (tls("localhost", &[pin(&others), pin(&own)], known()), None),
        (tls("localhost", &[pin(&others)], known()), failed),
        (tls("localhost", &[], known()), failed),
        (tls("elsewhere", &[pin(&others)], known()), None),
        (tls("*", &[pin(&own)], Roots::UnverifiedDangerous), None),
        (
            tls("*", &[pin(&others)], Roots::UnverifiedDangerous),
            failed,
        ),
        (tls("*", &[pin(&own)], Roots::System), failed),
    ] {
        let shown = format!("{tls:?}");
        let (_, _, kind) = ask_by(&url, tls, ProxyOptions::default()).await;
        assert_eq!(kind, expected, "{shown}");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_version_of_ours_is_not_asked() {
    let authority = Authority::new();
    let files = [authority.sign("upstream", "localhost")];
    let only_12 = TlsRules::new(0, 771, &[]).unwrap();
    let tls = ServerTls::from_files(&files, &only_12).unwrap();
    let setup = Setup {
        tls: Some(tls),
        ..Setup::default()
    };
    let echo = Upstream::echo().await;
    let upstream = setup.start(&[&echo.url()]).await;
    let url = format!("https://localhost:{}", upstream.addr.port());
    for (oldest, status) in [(771, 200), (772, 500)] {
        let tls = UpstreamTls {
            roots: Roots::Only(authority.root.clone()),
            rules: TlsRules::new(oldest, 0, &[]).unwrap(),
            ..UpstreamTls::default()
        };
        assert_eq!(ask_by(&url, tls, ProxyOptions::default()).await.0, status);
    }
}
