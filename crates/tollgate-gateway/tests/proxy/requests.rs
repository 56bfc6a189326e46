//! What an upstream is sent: path, host, and headers about the client.

use http::StatusCode;
use tollgate_gateway::{
    proxy::{FinalSlash, ForwardedHeaders, ProxyOptions},
    serve::{ServeOptions, TrustedProxies},
};

use super::support::{Gateway, Setup, Upstream, parts};

/// The head that the upstream got, in lower case.
async fn sent(gateway: &Gateway, path: &str, fields: &str) -> String {
    let response = gateway.get(path, fields).await;
    let (status, body) = parts(&response);
    assert_eq!(status, "HTTP/1.1 200 OK");
    body.to_lowercase()
}

fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix))
}

#[tokio::test]
async fn path_and_query_are_joined_behind_the_target() {
    for (base, listen_path, path, expected) in [
        ("", None, "/a/b?c=d", "/a/b?c=d"),
        ("", Some("/app/"), "/app/b?c=d", "/b?c=d"),
        ("/v2", Some("/app/"), "/app/b", "/v2/b"),
        ("/v2/", Some("/app/"), "/app/", "/v2"),
        ("/v2/?k=1", Some("/app/"), "/app/x?c=d", "/v2/x?k=1&c=d"),
        ("", Some("/app/"), "/app", "/"),
        ("", None, "/caf%C3%A9/%7e%61!'()*", "/caf%c3%a9/%7e%61!'()*"),
        ("", None, "/a!(b)~", "/a%21%28b%29~"),
        ("", Some("/t/{id}"), "/t/7/x", "/x"),
    ] {
        let upstream = Upstream::echo().await;
        let mut setup = Setup::default();
        setup.proxy.listen_path = listen_path.map(Into::into);
        let gateway = setup.start(&[&format!("{}{base}", upstream.url())]).await;
        let head = sent(&gateway, path, "").await;
        assert_eq!(
            head.lines().next(),
            Some(&*format!("get {expected} http/1.1")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_targets_final_slash_can_stay() {
    let upstream = Upstream::echo().await;
    let mut setup = Setup::default();
    setup.proxy.listen_path = Some("/app/".into());
    setup.proxy.final_slash = FinalSlash::Kept;
    let gateway = setup.start(&[&format!("{}/v2/", upstream.url())]).await;
    assert!(
        sent(&gateway, "/app/", "")
            .await
            .starts_with("get /v2/ http/1.1")
    );
}

#[tokio::test]
async fn the_host_is_the_targets_or_the_clients() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let head = sent(&gateway, "/", "").await;
    assert_eq!(line(&head, "host"), Some(&*upstream.addr.to_string()));
    let mut setup = Setup::default();
    setup.proxy.preserve_host = true;
    let gateway = setup.start(&[&upstream.url()]).await;
    assert_eq!(
        line(&sent(&gateway, "/", "").await, "host"),
        Some("gateway")
    );
}

#[tokio::test]
async fn attack_35_hop_by_hop_headers_end_here_and_ours_stay() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let head = sent(
        &gateway,
        "/",
        "Connection: X-Mine, X-Forwarded-For, Host\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nTE: trailers, gzip\r\nX-Kept: 2",
    )
    .await;
    assert_eq!(line(&head, "x-mine"), None);
    assert_eq!(line(&head, "keep-alive"), None);
    assert_eq!(line(&head, "proxy-authorization"), None);
    assert_eq!(line(&head, "connection"), None);
    assert_eq!(line(&head, "te"), Some("trailers"));
    assert_eq!(line(&head, "x-kept"), Some("2"));
    assert_eq!(line(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(line(&head, "via"), None);
}

#[tokio::test]
async fn names_are_written_as_tyk_writes_them() {
    let upstream = Upstream::echo().await;
    let response = Gateway::before(&upstream.url())
        .await
        .get("/", "x-mine: 1")
        .await;
    assert!(response.contains("X-Mine: 1"), "{response}");
    assert!(response.contains("Content-Length: "), "{response}");
}

#[tokio::test]
async fn attack_36_only_a_trusted_peer_names_the_client() {
    let all = ForwardedHeaders {
        x_forwarded_for: true,
        x_forwarded_proto: true,
        x_forwarded_host: true,
        x_real_ip: true,
        forwarded: true,
    };
    let claims = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /p";
    let ours = r#"for=127.0.0.1;host="gateway";proto=http"#;
    let trusted_forwarded = format!("for=6.6.6.6, {ours}");
    let table = [
        (true, "x-forwarded-for", Some("6.6.6.6, 7.7.7.7, 127.0.0.1")),
        (true, "x-forwarded-proto", Some("https")),
        (true, "x-forwarded-host", Some("other")),
        (true, "x-forwarded-prefix", Some("/p")),
        (true, "forwarded", Some(&*trusted_forwarded)),
        (true, "x-real-ip", Some("7.7.7.7")),
        (false, "x-forwarded-for", Some("127.0.0.1")),
        (false, "x-forwarded-proto", Some("http")),
        (false, "x-forwarded-host", Some("gateway")),
        (false, "x-forwarded-prefix", None),
        (false, "forwarded", Some(ours)),
        (false, "x-real-ip", Some("127.0.0.1")),
    ];
    let upstream = Upstream::echo().await;
    for (is_trusted, name, expected) in table {
        let proxies = if is_trusted {
            TrustedProxies::loopback()
        } else {
            TrustedProxies::none()
        };
        let setup = Setup {
            serve: ServeOptions {
                proxies,
                ..ServeOptions::default()
            },
            proxy: ProxyOptions {
                forwarded: all.clone(),
                ..ProxyOptions::default()
            },
            ..Setup::default()
        };
        let gateway = setup.start(&[&upstream.url()]).await;
        let head = sent(&gateway, "/", claims).await;
        assert_eq!(line(&head, name), expected, "trusted: {is_trusted}, {name}");
    }
}

#[tokio::test]
async fn responses_lose_what_ends_at_our_hop() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\nX-Kept: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let mut setup = Setup::default();
    setup.proxy.close_connections = true;
    let gateway = setup.start(&[&upstream.url()]).await;
    let response = gateway
        .exchange("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .to_lowercase();
    assert_eq!(line(&response, "x-mine"), None);
    assert_eq!(line(&response, "keep-alive"), None);
    assert_eq!(line(&response, "proxy-authenticate"), None);
    assert_eq!(line(&response, "connection"), Some("close"));
    assert_eq!(line(&response, "x-kept"), Some("2"));
    assert_eq!(response.matches("set-cookie: ").count(), 2);
}

#[tokio::test]
async fn a_bad_option_is_refused_by_name() {
    use tollgate_gateway::proxy::{
        ClientOptions, Proxy, ProxyOptionsError, Target, Targets, UpstreamClient,
    };
    let client: UpstreamClient<String> = UpstreamClient::new(&ClientOptions::default()).unwrap();
    let new = |url, options| {
        let targets = Targets::one(Target::parse(url).unwrap());
        Proxy::new(client.clone(), targets, options).map(|_| ())
    };
    let options = ProxyOptions {
        preserve_host: true,
        ..ProxyOptions::default()
    };
    assert_eq!(
        new("h2c://u", options.clone()),
        Err(ProxyOptionsError::HostOnHttp2)
    );
    assert_eq!(new("http://u", options), Ok(()));
    let options = ProxyOptions {
        bad_gateway: StatusCode::OK,
        ..ProxyOptions::default()
    };
    assert_eq!(new("http://u", options), Err(ProxyOptionsError::BadGateway));
}
