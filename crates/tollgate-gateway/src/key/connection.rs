//! The control API that is asked: that of a running gateway, or one over the store's file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{Router, body::Body};
use bytes::Bytes;
use clap::{CommandFactory, error::ErrorKind};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use tollgate_core::Secret;
use tollgate_gateway::{
    config::Config,
    load::{self, DefaultSecret, LoadOptions, Store},
    problem::Severity,
    proxy::{ClientOptions, Roots, UpstreamClient, UpstreamTls},
    reference::Environment,
    sockets::ApiPorts,
    tls::is_readable_on_the_way,
};
use tower::ServiceExt;

use super::output;
use crate::{CommandLine, server::Setup, start};

/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where keys are, and who asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Where keys are")]
pub(super) struct Reach {
    /// The gateway, as `http://127.0.0.1:8080`; where not given, TOLLGATE_URL, or what --conf says.
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The secret of its control API. Other users of the machine can read it here: better are
    /// --secret-file, TOLLGATE_SECRET, and --conf.
    #[arg(long, global = true, value_name = "SECRET")]
    secret: Option<Secret>,
    /// A file that holds the secret, and nothing else.
    #[arg(long, global = true, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The gateway's configuration: says address and secret.
    #[arg(long, global = true, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Asks no gateway, and works on the file of the embedded store while none runs; needs --conf.
    #[arg(long, global = true)]
    offline: bool,
    /// The file of the store, where it is not beside the configuration; implies --offline.
    #[arg(long, global = true, value_name = "FILE")]
    store_file: Option<PathBuf>,
    /// Certificates of authorities to believe, as PEM, besides those of the system.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Who answers.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    secret: HeaderValue,
    answers: Answers,
}

enum Answers {
    Remote {
        client: Box<UpstreamClient<Full<Bytes>>>,
        base: String, // Without a slash at its end.
        host: HeaderValue,
    },
    Local(Router),
}

/// What was answered.
pub(super) struct Reply {
    pub(super) status: u16,
    body: Bytes,
}

impl Reach {
    /// Does the work with a connection.
    pub(super) fn connected<T, F>(
        self,
        environment: Environment,
        makes_keys: bool,
        work: impl FnOnce(Connection) -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let is_offline = self.offline || self.store_file.is_some();
        match (&self.conf, is_offline) {
            (None, true) => usage("--offline and --store-file need --conf FILE"),
            (Some(_), true) if self.url.is_some() => {
                usage("--url is a gateway that runs, --offline is for where none does")
            }
            (Some(conf), true) => self.offline(conf, environment, makes_keys, work),
            (_, false) => self.online(&environment, work),
        }
    }

    fn online<T, F>(
        &self,
        environment: &Environment,
        work: impl FnOnce(Connection) -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let config = self.conf.as_deref().map(|conf| read(conf, environment));
        let config = config.transpose()?;
        let given = self.url.clone().or_else(|| variable("TOLLGATE_URL"));
        let configured = || config.as_ref().map(address_of);
        let Some(url) = given.or_else(configured) else {
            usage("which gateway? --url, TOLLGATE_URL or --conf say where it is")
        };
        let secret = self.secret()?;
        let secret = secret.or_else(|| config.as_ref().map(|config| config.secret.clone()));
        let Some(secret) = secret else {
            usage("the control API wants a secret: TOLLGATE_SECRET, --secret-file or --conf")
        };
        let host = config.map(|config| config.control_api_hostname);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let answers = self.remote(&url, host.as_deref().unwrap_or_default())?;
            work(Connection::new(&secret, answers)?).await
        })
    }

    fn remote(&self, url: &str, host: &str) -> anyhow::Result<Answers> {
        let url = url.trim_end_matches('/');
        let uri: Uri = url.parse().with_context(|| format!("--url {url}"))?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) => authority,
            _ => bail!("--url {url}: expected http://host:port, or https://…"),
        };
        if is_readable_on_the_way(&uri) {
            output::complain("the secret travels in clear text: the gateway's url is no https")?;
        }
        let roots = self.ca_file.clone().map_or(Roots::System, Roots::SystemAnd);
        let options = ClientOptions {
            connect_timeout: Duration::from_secs(10),
            tls: UpstreamTls {
                roots,
                ..UpstreamTls::default()
            },
            ..ClientOptions::default()
        };
        let host = if host.is_empty() {
            authority.as_str()
        } else {
            host
        };
        Ok(Answers::Remote {
            client: Box::new(UpstreamClient::new(&options)?),
            base: url.to_owned(),
            host: host.parse().context("the host of the gateway")?,
        })
    }

    fn offline<T, F>(
        &self,
        conf: &Path,
        environment: Environment,
        makes_keys: bool,
        work: impl FnOnce(Connection) -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let (loaded, report) = load::load(conf, &environment, &OPTIONS);
        let Some(loaded) = loaded else {
            start::tell(&report);
            bail!("the configuration can not be used");
        };
        if loaded.config.storage.is_some() && self.store_file.is_none() {
            let address = address_of(&loaded.config);
            bail!(
                "{}: the keys are in the Redis of `storage`: ask a gateway, --url {address}, or name a file, --store-file",
                conf.display()
            );
        }
        let secret = loaded.config.secret.clone();
        if secret.expose().is_empty() {
            bail!(
                "{}: `secret` is empty, so nobody may make keys",
                conf.display()
            );
        }
        let file = self.store_file.clone();
        let file = file.unwrap_or_else(|| crate::store_file(conf));
        if !makes_keys && !file.exists() {
            bail!("{}: there is no such store", file.display());
        }
        let address = address_of(&loaded.config);
        let setup = Setup {
            loaded: &loaded,
            conf,
            environment,
            options: OPTIONS,
            api_ports: ApiPorts::LeftAlone,
        };
        start::with_server(setup, &file, |server| async move {
            let router = server.admin().router();
            work(Connection::new(&secret, Answers::Local(router))?).await
        })
        .map_err(
            |err| {
                match err.downcast_ref::<tollgate_core::StoreError>() {
            Some(_) if err.to_string() == file.display().to_string() => err.context(format!(
                "the store can not be opened; where a gateway runs on it, ask that: --url {address}"
            )),
            _ => err,
        }
            },
        )
    }

    /// The secret that was given, if one was.
    fn secret(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(file) = &self.secret_file {
            let text = if file == Path::new("-") {
                io::read_to_string(io::stdin().lock())
            } else {
                fs::read_to_string(file)
            };
            let text = text.with_context(|| format!("{}", file.display()))?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).into()));
        }
        if self.secret.is_some() {
            output::complain("--secret can be read by every user of this machine")?;
        }
        let own = || variable("TOLLGATE_SECRET").map(Secret::from);
        Ok(self.secret.clone().or_else(own))
    }
}

/// Keys are made by whatever configuration serves them; Redis is not asked.
const OPTIONS: LoadOptions = LoadOptions {
    store: Store::Embedded,
    default_secret: DefaultSecret::Allowed,
};

fn read(conf: &Path, environment: &Environment) -> anyhow::Result<Config> {
    let (config, report) = Config::load(conf, environment, &OPTIONS);
    config.with_context(|| {
        let mut errors = report.of(Severity::Error).map(ToString::to_string);
        errors.next().unwrap_or_else(|| conf.display().to_string())
    })
}

/// Where a gateway of this configuration listens, seen from its own machine.
fn address_of(config: &Config) -> String {
    let host = match config.listen_address.as_str() {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "[::1]",
        address => address,
    };
    let port = match config.control_api_port {
        0 => config.port(),
        port => port,
    };
    let scheme = if config.http_server_options.use_ssl {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{host}:{port}")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Ends as the parser of the command line does.
fn usage(message: &str) -> ! {
    let kind = ErrorKind::MissingRequiredArgument;
    CommandLine::command().error(kind, message).exit()
}

impl Connection {
    fn new(secret: &Secret, answers: Answers) -> anyhow::Result<Self> {
        let secret = HeaderValue::from_str(secret.expose());
        let mut secret = secret
            .ok()
            .context("the secret can not stand in a header")?;
        secret.set_sensitive(true);
        Ok(Self(Arc::new(Inner { secret, answers })))
    }

    /// Asks one question.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Reply> {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        self.ask_text(method, path, body).await
    }

    /// The same, with a body that is JSON already.
    pub(super) async fn ask_text(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Reply> {
        let asked = tokio::time::timeout(PATIENCE, self.answer(method, path, body));
        asked
            .await
            .unwrap_or_else(|_| bail!("no answer came within {PATIENCE:?}"))
    }

    async fn answer(&self, method: &str, path: &str, body: Bytes) -> anyhow::Result<Reply> {
        let request = Request::builder()
            .method(method)
            .header("x-tyk-authorization", self.0.secret.clone())
            .header(header::CONTENT_TYPE, "application/json");
        let (status, body) = match &self.0.answers {
            Answers::Local(router) => {
                let request = request.uri(path).body(Body::from(body))?;
                let Ok(response) = router.clone().oneshot(request).await;
                let (head, body) = response.into_parts();
                (head.status, Limited::new(body, LONGEST).collect().await)
            }
            Answers::Remote { client, base, host } => {
                let request = request
                    .uri(format!("{base}{path}"))
                    .header(header::HOST, host.clone())
                    .body(Full::new(body))?;
                let sent = client.send(request).await;
                let response = sent.with_context(|| format!("no gateway answers at {base}"))?;
                let (head, body) = response.into_parts();
                (head.status, Limited::new(body, LONGEST).collect().await)
            }
        };
        let body = body
            .map_err(anyhow::Error::from_boxed)
            .context("the answer")?;
        Ok(Reply {
            status: status.as_u16(),
            body: body.to_bytes(),
        })
    }
}

impl Reply {
    /// The body of what was done, or why it was not.
    pub(super) fn done(&self) -> Result<&Bytes, String> {
        if (200..300).contains(&self.status) {
            return Ok(&self.body);
        }
        let told: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let reason = told.get("detail").or_else(|| told.get("message"));
        let reason = reason.and_then(Value::as_str).map(str::to_owned);
        Err(reason.unwrap_or_else(|| format!("the gateway answers {}", self.status)))
    }

    /// The same, read as JSON.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        let body = self.done().map_err(anyhow::Error::msg)?;
        serde_json::from_slice(body).context("the answer is no JSON: is this a gateway?")
    }
}
