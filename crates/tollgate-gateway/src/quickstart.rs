//! `tollgate quickstart`: a gateway to try, with an upstream of its own and a key.

use std::{convert::Infallible, fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::KeyScheme;
use tollgate_gateway::{
    load::{self, DefaultSecret, LoadOptions, Store},
    reference::Environment,
    serve::{Listener, RequestBody, ServeOptions, Stop, serve},
    sockets::ApiPorts,
};
use tower::{ServiceExt, service_fn};

use crate::{
    server::{Server, Setup},
    start,
};

/// What `quickstart` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where its files are written; a folder that is made anew where not given.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Writes files, starts a gateway on them, makes a key, and serves until a signal comes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    let own = || std::env::temp_dir().join(format!("tollgate-quickstart-{}", std::process::id()));
    let folder = arguments.dir.clone().unwrap_or_else(own);
    fs::create_dir_all(folder.join("apps")).with_context(|| format!("{}", folder.display()))?;
    let upstream = std::net::TcpListener::bind("127.0.0.1:0")?;
    upstream.set_nonblocking(true)?;
    let secret = KeyScheme::plain().generate(&"".into(), None)?;
    let secret = secret.expose();
    write(
        &folder,
        arguments.port,
        secret,
        upstream.local_addr()?.port(),
    )?;

    let options = LoadOptions {
        store: Store::Embedded,
        default_secret: DefaultSecret::Refused,
    };
    let environment = Environment::default();
    let (loaded, report) = load::load(&folder.join("tyk.conf"), &environment, &options);
    start::tell(&report);
    let Some(loaded) = loaded else {
        bail!("the files of the quickstart can not be used");
    };
    let conf = folder.join("tyk.conf");
    let data = crate::store_file(&conf);
    let setup = Setup {
        loaded: &loaded,
        conf: &conf,
        environment,
        options,
        api_ports: ApiPorts::Opened,
    };
    let port = arguments.port;
    start::with_server(setup, &data, |server| async move {
        let upstream = Listener::from(tokio::net::TcpListener::from_std(upstream)?);
        let answers = serve(
            upstream,
            service_fn(answer),
            ServeOptions::default(),
            Stop::new(),
        );
        tokio::spawn(answers);
        let key = make_key(&server, secret).await?;
        tell(port, &folder, secret, &key);
        server.serve(Duration::from_secs(5), true).await
    })?;
    Ok(0)
}

/// The upstream: tells what it got.
async fn answer(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let user = request
        .headers()
        .get("x-user")
        .and_then(|user| user.to_str().ok());
    let text = format!(
        "{} {} for {}\n",
        request.method(),
        request.uri().path(),
        user.unwrap_or("nobody")
    );
    Ok(Response::new(text))
}

fn write(folder: &std::path::Path, port: u16, secret: &str, upstream: u16) -> anyhow::Result<()> {
    let conf = json!({
        "listen_address": "127.0.0.1", "listen_port": port, "secret": secret, "hash_keys": true,
        "app_path": folder.join("apps"),
        "policies": {"policy_source": "file", "policy_record_name": folder.join("policies.json")},
        "http_server_options": {"enable_strict_routes": true, "enable_path_prefix_matching": true},
    });
    let orders = json!({
        "name": "Orders", "api_id": "orders", "org_id": "default", "active": true,
        "use_standard_auth": true,
        "version_data": {"not_versioned": true, "versions": {"Default": {
            "name": "Default", "global_headers": {"X-User": "$tyk_meta.user"}}}},
        "proxy": {
            "listen_path": "/orders/", "strip_listen_path": true,
            "target_url": format!("http://127.0.0.1:{upstream}/")},
    });
    let policies = json!({"gold": {
        "org_id": "default", "active": true, "rate": 5, "per": 10, "quota_max": 100,
        "quota_renewal_rate": 3600,
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}});
    let files = [
        ("tyk.conf", conf),
        ("apps/orders.json", orders),
        ("policies.json", policies),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, format!("{content:#}\n"))
            .with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

async fn make_key(server: &Server, secret: &str) -> anyhow::Result<String> {
    let session = json!({
        "org_id": "default", "alias": "joe", "apply_policies": ["gold"], "meta_data": {"user": "joe"}});
    let request = Request::post("/tyk/keys")
        .header("x-tyk-authorization", secret)
        .body(Body::from(session.to_string()))?;
    let Ok(response) = server.admin().router().oneshot(request).await;
    let body = response.into_body().collect().await?.to_bytes();
    let made: Value = serde_json::from_slice(&body)?;
    let key = made.get("key").and_then(Value::as_str);
    key.map(str::to_owned)
        .with_context(|| format!("no key was made: {made}"))
}

#[expect(clippy::print_stdout, reason = "it is for reading")]
fn tell(port: u16, folder: &std::path::Path, secret: &str, key: &str) {
    let url = format!("http://127.0.0.1:{port}");
    println!(
        "A gateway is on {url}, with files in {}.\n
A key passes, and brings its data along; without one nobody does:\n
  curl -i {url}/orders/7 -H 'authorization: {key}'
  curl -i {url}/orders/7\n
Over 5 requests in 10 seconds:\n
  for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{{http_code}}\\n' {url}/orders/7 -H 'authorization: {key}'; done\n
The control API makes keys, and says why a request passes or does not:\n
  curl {url}/tyk/keys -H 'x-tyk-authorization: {secret}' -d '{{\"org_id\": \"default\", \"apply_policies\": [\"gold\"]}}'
  curl {url}/tollgate/explain -H 'x-tyk-authorization: {secret}' -H 'content-type: application/json' -d '{{\"token\": \"{key}\", \"path\": \"/orders/7\"}}'\n
It serves until you press Ctrl-C.",
        folder.display(),
    );
}
