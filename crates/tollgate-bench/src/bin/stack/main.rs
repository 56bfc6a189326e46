//! What a stack costs a request, beside tower_governor: over a plain service, over an axum router, and over hyper with
//! real sockets.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin stack [service|front|router|sockets]
//! valgrind --tool=callgrind target/release/stack once service 'ours, lean: one hot key' 10000
//! ```
//!
//! The second runs one row alone, so that its instructions can be counted: those of 20,000 calls less
//! those of 10,000.
//!
//! Every table has three rows of ours for each kind of work: one hot key; 100,000 keys of 10 APIs and
//! 20 path rules each, drawn at random; and a hot key of which a tenth of the requests is refused. One row writes by hand
//! what a rich stack leaves, with nothing decided.

mod by_hand;
mod sockets;

use std::{cell::Cell, convert::Infallible, fmt::Debug, num::NonZeroU32, rc::Rc, time::Duration};

use axum::{Router, body::Body, routing::get};
use governor::{
    clock::QuantaInstant,
    middleware::{NoOpMiddleware, RateLimitingMiddleware, StateInformationMiddleware},
};
use http::{Request, Response, StatusCode};
use tollgate::{LimitHeaders, MemoryStore, Tollgate, policy::PolicySet, stack::Builder};
use tollgate_bench::{Variant, print, run};
use tower::{Layer, Service, service_fn};
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::{GovernorConfig, GovernorConfigBuilder},
    key_extractor::KeyExtractor,
};

use self::by_hand::ByHandLayer;

const KEYS: usize = 100_000;
const ROUNDS: usize = 61;
const CALLS: u32 = 2000;

fn token(index: usize) -> String {
    format!("53ac07777cbb8c2d53000002{index:032x}")
}

/// Ten APIs with twenty path rules each, and limits that are never reached.
fn policies() -> PolicySet {
    let rules: Vec<_> = (0..20)
        .map(|rule| format!(r#"{{"url": "/path-{rule}/", "methods": ["GET"]}}"#))
        .chain([r#"{"url": "/hello", "methods": ["GET"]}"#.into()])
        .skip(1)
        .collect();
    let entry = format!(
        r#"{{"versions": ["Default"], "allowed_urls": [{}]}}"#,
        rules.join(",")
    );
    let entries: Vec<_> = (0..10)
        .map(|api| format!(r#""api-{api}": {entry}"#))
        .collect();
    let policy = format!(
        r#"{{"gold": {{"rate": 1e9, "per": 1, "quota_max": 1000000000000, "quota_renewal_rate": 3600,
            "access_rights": {{{}}}, "meta_data": {{"plan": "gold"}}}}}}"#,
        entries.join(",")
    );
    PolicySet::from_record_file(policy.as_bytes())
        .expect("policies")
        .0
}

fn keys(count: usize) -> MemoryStore {
    let store = MemoryStore::new();
    for index in 0..count {
        let session = format!(
            r#"{{"alias": "user {index}", "apply_policies": ["gold"], "meta_data": {{"user": "u{index}"}}}}"#
        );
        store
            .insert(&token(index), session.parse().expect("a session"))
            .expect("room");
    }
    let used_up = r#"{"rate": 1e-9, "per": 1, "access_rights": {"api-3": {}}}"#;
    store
        .insert(USED_UP, used_up.parse().expect("a session"))
        .expect("room");
    store
}

fn builder(store: &MemoryStore) -> Builder {
    Tollgate::builder(store.clone())
        .policies(policies())
        .api("api-3")
        .rate_limit()
        .quota()
}

/// A key whose rate is used up.
const USED_UP: &str = "53ac07777cbb8c2d53000002-used-up";

fn request(token: &str) -> Request<Body> {
    let request = Request::builder()
        .uri("/hello")
        .header("authorization", token)
        .header("x-forwarded-for", "203.0.113.7");
    request.body(Body::empty()).expect("a request")
}

/// Which requests are sent.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Bare,
    HotKey,
    ManyKeys,
    /// Each tenth request has a key whose rate is used up.
    TenthRefused,
}

/// The stacks of a hot key over hyper.
async fn over_hyper() -> Vec<sockets::Served> {
    let store = keys(1);
    let lean = builder(&store)
        .headers(LimitHeaders::none())
        .without_context();
    let rich = builder(&store).headers(LimitHeaders::quota());
    let rich = rich.inject("x-user", "$tyk_meta.user").expect("a header");
    let [lean, rich] = [lean, rich].map(|builder| builder.build().expect("a stack").layer());
    vec![
        sockets::listen("bare service", service_fn(answer)).await,
        sockets::listen("bare service, again", service_fn(answer)).await,
        sockets::listen("tower_governor", over_service(governor())).await,
        sockets::listen("ours, lean", over_service(lean)).await,
        sockets::listen(
            "tower_governor, with its headers",
            over_service(governor_with_headers()),
        )
        .await,
        sockets::listen("ours, rich", over_service(rich)).await,
    ]
}

/// Drives a service as hyper does: one value, called again and again.
fn drive<S, B>(name: &str, service: S, load: Load) -> Variant
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + 'static,
{
    let shelf = Rc::new(Cell::new(Some(service)));
    let keys = if load == Load::ManyKeys { KEYS } else { 1 };
    let tokens: Rc<Vec<String>> = Rc::new((0..keys).map(token).collect());
    let mut at = 0_usize;
    Variant::new(name, move |calls| {
        let (shelf, tokens) = (shelf.clone(), tokens.clone());
        let start = at;
        at = at.wrapping_add(calls as usize);
        async move {
            let mut service = shelf.take().expect("one batch runs at a time");
            // Each key is loaded once before anything is timed.
            let warm = if start == 0 { tokens.len() } else { 0 };
            for call in start..start + warm + calls as usize {
                let refused = load == Load::TenthRefused && call % 10 == 0;
                let token = match refused {
                    true => USED_UP,
                    false => &tokens[call.wrapping_mul(7919) % tokens.len()],
                };
                let request = request(token);
                std::future::poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .expect("ready");
                let response = service.call(request).await.expect("a response");
                assert!(start == 0 || (response.status() == StatusCode::OK) != refused);
                std::hint::black_box(response);
            }
            shelf.set(Some(service));
        }
    })
}

#[derive(Clone)]
struct ByHeader;

impl KeyExtractor for ByHeader {
    type Key = String;

    fn extract<T>(&self, request: &Request<T>) -> Result<String, GovernorError> {
        let key = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        key.map(str::to_owned)
            .ok_or(GovernorError::UnableToExtractKey)
    }
}

type GovernorRow = GovernorLayer<ByHeader, NoOpMiddleware<QuantaInstant>, Body>;
type GovernorHeaderRow = GovernorLayer<ByHeader, StateInformationMiddleware, Body>;

/// What tower_governor lets each key have: never reached by the benches, and given anew so slowly that a key which has
/// used it up stays refused.
const BURST: NonZeroU32 = NonZeroU32::new(100_000_000).expect("above zero");
const PERIOD: Duration = Duration::from_secs(60);

/// tower_governor with a limit that is reached by [`USED_UP`] alone, keyed by a header.
fn governor() -> GovernorRow {
    let mut config = GovernorConfigBuilder::default();
    config.period(PERIOD).burst_size(BURST.get());
    used_up(config.key_extractor(ByHeader).finish())
}

/// The same with its headers.
fn governor_with_headers() -> GovernorHeaderRow {
    let mut config = GovernorConfigBuilder::default();
    config.period(PERIOD).burst_size(BURST.get());
    used_up(config.key_extractor(ByHeader).use_headers().finish())
}

/// Takes all that [`USED_UP`] has.
fn used_up<M>(config: Option<GovernorConfig<ByHeader, M>>) -> GovernorLayer<ByHeader, M, Body>
where
    M: RateLimitingMiddleware<QuantaInstant>,
{
    let config = config.expect("a configuration");
    let taken = config.limiter().check_key_n(&USED_UP.to_owned(), BURST);
    assert!(matches!(taken, Ok(Ok(_))));
    GovernorLayer::new(config)
}

/// All rows of a table; `$over` puts a layer before the service, ours as `$layer`.
macro_rules! rows {
    ($store:expr, $over:ident, $layer:ident) => {{
        let lean = || {
            builder($store)
                .headers(LimitHeaders::none())
                .without_context()
                .build()
                .expect("a stack")
                .$layer()
        };
        let rich = || {
            let builder = builder($store).headers(LimitHeaders::quota());
            builder
                .inject("x-user", "$tyk_meta.user")
                .expect("a header")
                .build()
                .expect("a stack")
                .$layer()
        };
        vec![
            drive(
                "bare service",
                $over(tower::layer::util::Identity::new()),
                Load::Bare,
            ),
            drive(
                "tower_governor, header key",
                $over(governor()),
                Load::HotKey,
            ),
            drive("ours, lean: one hot key", $over(lean()), Load::HotKey),
            drive("ours, lean: 100,000 keys", $over(lean()), Load::ManyKeys),
            drive(
                "tower_governor: 100,000 keys",
                $over(governor()),
                Load::ManyKeys,
            ),
            drive(
                "ours, lean: a tenth refused",
                $over(lean()),
                Load::TenthRefused,
            ),
            drive(
                "tower_governor: a tenth refused",
                $over(governor()),
                Load::TenthRefused,
            ),
            drive(
                "tower_governor, with its headers",
                $over(governor_with_headers()),
                Load::HotKey,
            ),
            drive(
                "tower_governor, with its headers: a tenth refused",
                $over(governor_with_headers()),
                Load::TenthRefused,
            ),
            drive("ours, rich: one hot key", $over(rich()), Load::HotKey),
            drive(
                "by hand: the headers and context of rich, nothing decided",
                $over(ByHandLayer),
                Load::HotKey,
            ),
            drive("ours, rich: 100,000 keys", $over(rich()), Load::ManyKeys),
            drive(
                "ours, rich: a tenth refused",
                $over(rich()),
                Load::TenthRefused,
            ),
        ]
    }};
}

fn over_service<L: Layer<Leaf>>(layer: L) -> L::Service {
    layer.layer(service_fn(answer))
}

type Leaf = tower::util::ServiceFn<
    fn(Request<Body>) -> std::future::Ready<Result<Response<Body>, Infallible>>,
>;

fn answer(_: Request<Body>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
    std::future::ready(Ok(Response::new(Body::from("hi"))))
}

fn router() -> Router {
    Router::new().route("/hello", get(|| async { "hi" }))
}

/// A layer in front of a router.
fn before_router<L: Layer<Router>>(layer: L) -> L::Service {
    layer.layer(router().with_state(()))
}

/// A layer in a router. As `axum::serve` runs it: `with_state` builds the layers once.
fn over_router<L>(layer: L) -> Router
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: Service<
            Request<Body>,
            Response: axum::response::IntoResponse,
            Error: Into<Infallible>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    router().layer(layer).with_state(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |table: &str| arguments.is_empty() || arguments.iter().any(|one| one == table);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(in_process(&arguments));
    if wanted("sockets") {
        let server = sockets::serve(over_hyper);
        sockets::compare(&server, &token(0));
    }
}

/// The tables without sockets.
async fn in_process(arguments: &[String]) {
    if let [once, table, row, calls] = arguments
        && once == "once"
    {
        let store = &keys(if row.contains("100,000") { KEYS } else { 10 });
        let rows = match &**table {
            "router" => rows!(store, over_router, router_layer),
            "front" => rows!(store, before_router, router_layer),
            _ => rows!(store, over_service, layer),
        };
        let row = rows.into_iter().filter(|variant| variant.name() == row);
        run(row.collect(), 0, calls.parse().expect("a number of calls")).await;
        return;
    }
    let wanted = |table: &str| arguments.is_empty() || arguments.iter().any(|one| one == table);
    if !["service", "front", "router"].into_iter().any(wanted) {
        return;
    }
    let store = &keys(KEYS);
    if wanted("service") {
        let rows = run(rows!(store, over_service, layer), ROUNDS, CALLS).await;
        print("Over a plain service", &rows, 1);
    }
    if wanted("front") {
        let rows = run(rows!(store, before_router, router_layer), ROUNDS, CALLS).await;
        print("In front of an axum router", &rows, 1);
    }
    if wanted("router") {
        let rows = run(rows!(store, over_router, router_layer), ROUNDS, CALLS).await;
        print("Over an axum router", &rows, 1);
    }
}
