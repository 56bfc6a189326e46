//! A snapshot in force, and how it is replaced by another.
//!
//! A [`Gateway`] holds one [`Snapshot`]: every API composed, every policy read, looked at as a whole. A
//! request takes the snapshot that is in force when it comes and keeps it to its end; a reload makes a
//! new one and puts it in its place, or leaves the old one where something is wrong.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use http::{
    Request, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
    uri::Authority,
};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tollgate::{
    ApiId, KeyScheme, Rejection, Session, SharedStore,
    access::clean_target,
    clock::UnixSeconds,
    explain::Explanation,
    policy::{Policy, PolicySet},
    token::{HashFunction, TokenForm},
};
use tollgate_admin::ApiSet;
use tollgate_core::ErrorChain;
use tower::ServiceExt;
use tower_service::Service;

use crate::{
    answer::{AnswerBody, whole},
    api::Api,
    compose::{Composer, Names},
    config::Config,
    definition::ListenPath,
    load::{self, Loaded, RefusedApi, ServedApi},
    meta_schema::MetaSchemas,
    observe::{ApiWatch, Observer, meters},
    onward::Directory,
    problem::{Problem, Report, Severity},
    proxy::{ClientError, ClientOptions, UpstreamPools, UpstreamWay},
    reference::{Environment, SecretSources},
    route::{self, PortRoutes},
    serve::RequestBody,
    serving::FrontFuture,
    sockets::{ApiPorts, OpenPort, SocketError, Sockets},
};

/// How long the control API waits for the store: as Tyk, since no request of a client waits for it.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);

/// What is served at one time.
#[derive(Debug)]
pub struct Snapshot {
    routes: PortRoutes<Served>,
    directory: Directory,
    policies: PolicySet,
    apis: Arc<ApiSet>,
    pools: UpstreamPools<RequestBody>,
    served: Vec<PathBuf>,
    refused: Vec<PathBuf>,
    named: Vec<PathBuf>,
    lacks_policies: bool,
    meta_schemas: MetaSchemas,
}

#[derive(Debug)]
enum Served {
    Api(Arc<Api>),
    /// It can not be served: 503.
    Refused,
}

/// The ports that APIs have for themselves.
pub type OpenPorts = BTreeMap<u16, OpenPort>;

/// A gateway: the snapshot in force, and what a reload needs.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    sockets: Sockets,
    own_ports: watch::Sender<OpenPorts>,
    /// Held by whoever makes a snapshot: two at once would want the same ports.
    reloading: Mutex<()>,
    config: Arc<Config>,
    environment: Environment,
    store: SharedStore,
    keys: KeyScheme,
    observer: Observer,
    /// For requests that meet no API.
    watch: ApiWatch,
}

impl Snapshot {
    /// The policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// What is wrong with the metadata of a session, whose policies are applied.
    pub fn check_meta_data(&self, session: &Session) -> Vec<String> {
        self.meta_schemas.check(session, &self.policies)
    }

    /// Files that are read besides, as definitions or the configuration name them.
    pub fn named_files(&self) -> &[PathBuf] {
        &self.named
    }

    /// The APIs, as the control API shows them.
    pub fn apis(&self) -> &Arc<ApiSet> {
        &self.apis
    }

    /// What every gate would say of a request; `None` where no API serves its path. No answers are those of an API
    /// that needs no key.
    ///
    /// # Errors
    ///
    /// Fails with what refuses the request before its key is looked for.
    pub async fn explain(
        &self,
        host: Option<&str>,
        mut head: Parts,
        now: UnixSeconds,
    ) -> Option<Result<Option<Explanation>, Rejection>> {
        let api = self.find(host, head.uri.path())?;
        head.extensions.insert(self.directory.clone());
        Some(api.explain(head, now).await)
    }

    /// The API that serves a path of a host. A port behind the host counts where APIs have it for themselves.
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<&Arc<Api>> {
        let authority = host.and_then(|host| host.parse::<Authority>().ok());
        let port = authority.as_ref().and_then(Authority::port_u16);
        let port = port.filter(|port| self.routes.at(Some(*port)).is_some());
        let host = authority.as_ref().map(Authority::host).or(host);
        match self.routes.at(port)?.find(host, path)?.0 {
            Served::Api(api) => Some(api),
            Served::Refused => None,
        }
    }
}

impl Gateway {
    /// A gateway that serves what was loaded. The report has what could not be composed; those APIs
    /// answer 503.
    ///
    /// # Errors
    ///
    /// Fails where connections to upstreams can not be made at all.
    pub fn new(
        loaded: &Loaded,
        environment: Environment,
        store: SharedStore,
        observer: Observer,
        api_ports: ApiPorts,
    ) -> Result<(Arc<Self>, Report), ClientError> {
        let config = loaded.config.clone();
        let options = ClientOptions {
            connect_timeout: config.upstream_timeout(),
            max_idle_per_upstream: idle_connections(&config),
            ..ClientOptions::default()
        };
        let pools = UpstreamPools::new(options);
        pools.get(UpstreamWay::default())?;
        let gateway = Self {
            snapshot: ArcSwap::from_pointee(Snapshot::empty(pools)),
            keys: key_scheme(&config),
            sockets: Sockets::new(config.clone(), api_ports),
            own_ports: watch::Sender::default(),
            reloading: Mutex::default(),
            config,
            environment,
            store,
            watch: observer.no_api(),
            observer,
        };
        let (snapshot, ports, report) = gateway.compose(loaded);
        snapshot.tell();
        gateway.put_in_force(snapshot, ports);
        Ok((Arc::new(gateway), report))
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where keys and counters are.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// How tokens become names in the store.
    pub fn keys(&self) -> &KeyScheme {
        &self.keys
    }

    /// What opens its sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The ports that APIs have for themselves, as they are with each snapshot. They are listened on already;
    /// whoever watches takes the connections, for a [`Front::at_port`].
    pub fn own_ports(&self) -> watch::Receiver<OpenPorts> {
        self.own_ports.subscribe()
    }

    /// Lets go of the ports that APIs have for themselves, when no further connections are to be taken.
    pub fn close_own_ports(&self) {
        self.own_ports.send_replace(OpenPorts::new());
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads definitions and policies anew, and puts them in force. Where the policies can not be read,
    /// or an API or a policy that was in force can no longer be used, the old snapshot stays. Several at once wait
    /// for each other.
    ///
    /// # Errors
    ///
    /// Fails with what is wrong.
    pub fn reload(&self) -> Result<Report, Report> {
        let _reloading = self.reloading.lock();
        let reloaded = self.replace();
        match &reloaded {
            Ok(_) => self.snapshot().tell(),
            Err(_) => meters::not_reloaded(),
        }
        reloaded
    }

    fn replace(&self) -> Result<Report, Report> {
        let (loaded, mut report) = load::load_with(self.config.clone(), &self.environment);
        let Some(loaded) = loaded else {
            return Err(report);
        };
        let (snapshot, ports, more) = self.compose(&loaded);
        report.extend(more.problems);
        let old = self.snapshot();
        let lost_api = old
            .served
            .iter()
            .any(|file| snapshot.refused.contains(file));
        // A folder that is taken away for a moment takes nothing along.
        let folder = Path::new(&self.config.app_path);
        let lost_folder = report
            .of(Severity::Error)
            .any(|problem| problem.file == folder);
        if lost_folder || lost_api || lost_policy(&old.policies, &snapshot.policies) {
            return Err(report); // What was opened for it closes.
        }
        self.put_in_force(snapshot, ports);
        Ok(report)
    }

    fn put_in_force(&self, snapshot: Snapshot, ports: OpenPorts) {
        self.snapshot.store(Arc::new(snapshot));
        self.own_ports.send_replace(ports);
    }

    /// Listens on the ports of these APIs; and what is wrong with those that can not be had.
    fn open(&self, loaded: &Loaded) -> (OpenPorts, BTreeMap<u16, SocketError>) {
        let (mut open, mut failed) = (OpenPorts::new(), BTreeMap::new());
        let apis = loaded.served().filter(|_| self.sockets.are_for_apis());
        for own in apis.filter_map(|api| api.listens_on()) {
            let port = own.port;
            if open.contains_key(&port) || failed.contains_key(&port) {
                continue;
            }
            match self.sockets.own(own) {
                Ok(listener) => drop(open.insert(port, listener)),
                Err(error) => drop(failed.insert(port, error)),
            }
        }
        (open, failed)
    }

    fn compose(&self, loaded: &Loaded) -> (Snapshot, OpenPorts, Report) {
        let mut pools = self.snapshot.load().pools.next();
        let names = Names::of(loaded.served().map(|api| &api.definition));
        let composer = Composer {
            names: &names,
            config: &self.config,
            store: &self.store,
            policies: &loaded.policies,
            keys: &self.keys,
            secrets: SecretSources {
                config: &self.config,
                environment: &self.environment,
                stores: &loaded.secret_stores,
            },
            pools: &pools,
            observer: &self.observer,
            templates: &loaded.templates,
        };
        let mut report = Report::default();
        let (ports, without) = self.open(loaded);
        let is_strict = self.config.http_server_options.enable_strict_routes;
        let mut routes = PortRoutes::new(is_strict, ports.keys().copied());
        let (mut records, mut refused) = (Vec::new(), Vec::new());
        let mut composed = Vec::new();
        let mut by_id = Vec::new();
        for served in loaded.served() {
            records.extend(record(&served.file, &mut report));
            let api = check_port(served, &without).and_then(|()| composer.api(served));
            let api = api.map(Arc::new);
            let api = api.map_err(|problem| {
                refused.push(served.file.clone());
                report.push(problem);
            });
            composed.extend(api.clone());
            let path = served.listen_path.clone();
            let routes = routes.at_mut(served.own_port.map(|own| own.port));
            if let Some(path) = path.filter(|_| !served.definition.internal)
                && let Some(routes) = routes
            {
                by_id.extend(api.clone().map(|api| (served, api)));
                let serves = api.map_or(Served::Refused, Served::Api);
                routes.add(served.host.clone(), path, serves);
            }
        }
        for RefusedApi {
            file,
            listen_path,
            host,
            own_port,
            ..
        } in loaded.refused()
        {
            refused.push(file.clone());
            if let Some(path) = listen_path.clone()
                && let Some(routes) = routes.at_mut(*own_port)
            {
                routes.add(host.clone(), path, Served::Refused);
            }
        }
        route_by_id(&mut routes, by_id);
        pools.settle();
        let apis = Arc::new(records.into_iter().collect());
        let policies = loaded.policies.clone();
        let definitions = loaded.served().map(|served| &served.definition);
        let meta_schemas = MetaSchemas::of(definitions, &policies);
        (
            Snapshot {
                routes,
                pools,
                served: composed.iter().map(|api| api.file.clone()).collect(),
                directory: composed.into_iter().collect(),
                policies,
                apis,
                refused,
                lacks_policies: loaded.lacks_policies,
                meta_schemas,
                named: loaded.named_files(),
            },
            ports,
            report,
        )
    }

    /// Answers a request to an API that came in at this port; `None` is the gateway's.
    fn serve(&self, mut request: Request<RequestBody>, port: Option<u16>) -> FrontFuture {
        let is_cleaned = !self.config.http_server_options.skip_url_cleaning;
        if let Some(target) = clean_target(request.uri()).filter(|_| is_cleaned) {
            return self.unserved(request, moved(&target), "moved");
        }
        let snapshot = self.snapshot.load();
        let path = decoded(request.uri().path());
        let found = snapshot.routes.at(port).and_then(|routes| {
            let host = || route::host(request.headers(), request.uri());
            let host = routes.have_hosts().then(host).flatten();
            routes.find(host, &path)
        });
        match found.map(|(served, _)| served) {
            Some(Served::Api(api)) => {
                if api.hands_on {
                    request.extensions_mut().insert(snapshot.directory.clone());
                }
                FrontFuture::api(api.clone(), request)
            }
            Some(Served::Refused) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let response = plain(status, "Service temporarily unavailable");
                self.unserved(request, response, "api_not_loaded")
            }
            None if snapshot.lacks_policies => self.unserved(request, no_page(), "no_policies"),
            None => {
                let response = plain(StatusCode::NOT_FOUND, "Not Found");
                self.unserved(request, response, "no_api")
            }
        }
    }

    /// Tells of a request that met no API.
    fn unserved(
        &self,
        mut request: Request<RequestBody>,
        response: Response<AnswerBody>,
        why: &'static str,
    ) -> FrontFuture {
        let watch = self.watch.begin(&mut request);
        FrontFuture::here(self.watch.answered(watch, response, Some(why)))
    }
}

impl Snapshot {
    /// Tells that this is in force.
    fn tell(&self) {
        meters::in_force(self.served.len(), self.refused.len());
    }

    fn empty(pools: UpstreamPools<RequestBody>) -> Self {
        Self {
            pools,
            routes: PortRoutes::new(false, []),
            directory: Directory::default(),
            policies: PolicySet::default(),
            apis: Arc::default(),
            served: Vec::new(),
            refused: Vec::new(),
            lacks_policies: false,
            meta_schemas: MetaSchemas::default(),
            named: Vec::new(),
        }
    }
}

/// Whether the port of an API could be opened.
fn check_port(api: &ServedApi, failed: &BTreeMap<u16, SocketError>) -> Result<(), Problem> {
    let port = api.listens_on().map(|own| own.port);
    let Some((port, error)) = port.and_then(|port| failed.get_key_value(&port)) else {
        return Ok(());
    };
    let message = format!("port {port} can not be opened: {}", ErrorChain(error));
    Err(Problem::error(&api.file, message).at("listen_port".into()))
}

/// Whether a policy was in force that can no longer be read.
fn lost_policy(old: &PolicySet, new: &PolicySet) -> bool {
    let unusable = new.unusable();
    let is_lost = |policy: &Policy| {
        unusable.ids.contains(&policy.id)
            || unusable.without_id > 0 && new.get(&policy.org_id, &policy.id).is_none()
    };
    !unusable.is_empty() && old.iter().any(is_lost)
}

/// How tokens become names, by the configuration.
fn key_scheme(config: &Config) -> KeyScheme {
    let form = |name: &str| match HashFunction::from_name(name) {
        Some(function) => TokenForm::Json(function),
        None if name.is_empty() => TokenForm::Joined,
        None => TokenForm::Json(HashFunction::Murmur64), // As Tyk does; the configuration was warned of.
    };
    let scheme = if config.hash_keys {
        KeyScheme::hashed()
    } else {
        KeyScheme::plain()
    };
    let scheme = if config.disable_key_actions_by_username {
        scheme.without_ids()
    } else {
        scheme
    };
    scheme
        .with_form(form(&config.hash_key_function))
        .with_fallbacks(
            config
                .hash_key_function_fallback
                .iter()
                .map(|name| form(name)),
        )
        .with_min_length(config.shortest_token())
}

/// How many connections to one upstream are kept for later requests.
fn idle_connections(config: &Config) -> usize {
    if config.proxy_close_connections || config.close_idle_connections {
        return 0;
    }
    match usize::try_from(config.max_idle_connections_per_host) {
        Ok(connections) if connections > 0 => connections,
        _ => ClientOptions::default().max_idle_per_upstream,
    }
}

/// A definition as the control API shows it.
fn record(file: &PathBuf, report: &mut Report) -> Option<tollgate_admin::ApiRecord> {
    let read = std::fs::read_to_string(file).map_err(|err| err.to_string());
    let record = read
        .and_then(|text| tollgate_admin::ApiRecord::from_json(text).map_err(|err| err.to_string()));
    match record {
        Ok(record) => Some(record),
        Err(message) => {
            report.push(Problem::warning(
                file,
                format!("not shown by the control API: {message}"),
            ));
            None
        }
    }
}

/// A path without its escapes.
fn decoded(path: &str) -> Cow<'_, str> {
    if path.contains('%') {
        percent_decode_str(path).decode_utf8_lossy()
    } else {
        Cow::Borrowed(path)
    }
}

/// A short answer of the gateway itself.
fn plain(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What Tyk answers as long as it has loaded nothing.
fn no_page() -> Response<AnswerBody> {
    let mut response = plain(StatusCode::NOT_FOUND, "404 page not found\n");
    let no_sniffing = http::HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, no_sniffing);
    response
}

/// As in Tyk, an API is also found by its id, where no other listens; what goes on keeps the id in its path. Where its
/// listen path is cut nothing is reached so that is not below that too, and only such APIs are found so.
fn route_by_id<'a>(
    routes: &mut PortRoutes<Served>,
    apis: impl IntoIterator<Item = (&'a Arc<ServedApi>, Arc<Api>)>,
) {
    let is_cut = |served: &ServedApi| served.definition.proxy.strip_listen_path;
    for (served, api) in apis.into_iter().filter(|(served, _)| is_cut(served)) {
        let path = id_path(api.id());
        let routes = routes.at_mut(served.own_port.map(|own| own.port));
        if let (Some(routes), Some(path)) = (routes, path) {
            routes.add(served.host.clone(), path, Served::Api(api));
        }
    }
}

/// Where an API is found by its id; `None` where that is no segment of a path.
fn id_path(id: &ApiId) -> Option<ListenPath> {
    let id = id.as_str();
    let is_segment = !id.contains(['/', '{', '}']) && !matches!(id, "" | "." | "..");
    is_segment.then(|| ListenPath::clean(&format!("/{id}/")))?
}

/// Sends the client to another path.
fn moved(target: &str) -> Response<AnswerBody> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(target) = target.try_into() {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

/// What a listener serves: the control API below its own paths, and the gateway.
#[derive(Clone)]
pub struct Front {
    gateway: Arc<Gateway>,
    own_port: Option<u16>,
    admin: Option<Router>,
    admin_paths: Arc<[String]>,
}

impl Front {
    /// APIs alone, of those that share the gateway's port.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            own_port: None,
            admin: None,
            admin_paths: Arc::default(),
        }
    }

    /// APIs alone, of those that have this port for themselves.
    pub fn at_port(gateway: Arc<Gateway>, port: u16) -> Self {
        Self {
            own_port: Some(port),
            ..Self::new(gateway)
        }
    }

    /// The control API, or a part of it, besides; it answers paths that begin with one of these.
    pub fn with_admin(mut self, admin: Router, paths: impl IntoIterator<Item = String>) -> Self {
        self.admin = Some(admin);
        self.admin_paths = paths.into_iter().collect();
        self
    }
}

impl Service<Request<RequestBody>> for Front {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = FrontFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let path = request.uri().path();
        let is_admin = self
            .admin_paths
            .iter()
            .any(|prefix| match prefix.strip_suffix('/') {
                Some(_) => path.starts_with(prefix.as_str()),
                None => path == prefix,
            });
        match self.admin.as_ref().filter(|_| is_admin).cloned() {
            Some(admin) => FrontFuture::control(Box::pin(async move {
                let answered = admin.oneshot(request.map(axum::body::Body::new));
                let Ok(response) = tollgate_redis::patiently(ADMIN_PATIENCE, answered).await;
                response.map(AnswerBody::other)
            })),
            None => self.gateway.serve(request, self.own_port),
        }
    }
}
