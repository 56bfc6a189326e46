//! An old service that speaks XML, behind a JSON API: layers make its URLs, its requests and its answers.
//!
//! ```text
//! cargo run -p body-transform     # on 127.0.0.1:3000; an argument names another port, 0 a free one
//! curl http://127.0.0.1:3000/orders/7 -H 'authorization: joes-key' -d '{"sku": "book 7", "n": 2}'
//! {"order": "7", "sku": "book 7", "by": "joe", "depot": "eu"}
//! curl http://127.0.0.1:3000/orders/7 -H 'authorization: joes-key' -d '{"sku": '       # 400
//! ```
//!
//! The service is called as `/eu/order.do?id=7`, with the depot of whoever asks. It never sees what a client
//! says of itself, as in `{"_tyk_meta": {"user": "root"}}`: the session's data stands in its place.

use axum::{Router, body::Bytes, extract::RawQuery, http::HeaderValue, routing::post};
use tollgate::{
    MemoryStore,
    body_transform::{BodyFormat, BodyTransform, BodyTransformLayer},
    session::SessionLayer,
    url_rewrite::UrlRewriteLayer,
};
use tower::ServiceBuilder;

type Failure = Box<dyn std::error::Error>;

/// What the old service is sent: values are escaped as they are put in.
const ORDER: &str = r#"<order by="{{ ._tyk_meta.user | html }}"><sku>{{ .sku | html }}</sku><n>{{ int .n }}</n></order>"#;

/// What the client is answered, of `<done depot="eu"><order by="joe">…</order></done>`.
const DONE: &str = r#"{"order": {{ .done.id | jsonMarshal }}, "sku": {{ .done.order.sku | jsonMarshal }}, "by": {{ index .done.order "-by" | jsonMarshal }}, "depot": {{ index .done "-depot" | jsonMarshal }}}
"#;

/// The old service: it answers with what it was sent, and where.
async fn order(depot: &'static str, query: Option<String>, body: Bytes) -> String {
    let id = query.unwrap_or_default().replace("id=", "");
    let order = String::from_utf8_lossy(&body);
    format!(r#"<done depot="{depot}"><id>{id}</id>{order}</done>"#)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where it listens")]
async fn main() -> Result<(), Failure> {
    let port: u16 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("3000")
        .parse()?;
    let store = MemoryStore::new();
    let session = r#"{"meta_data": {"user": "joe", "depot": "eu"}}"#;
    store.insert("joes-key", session.parse()?)?;

    let to_xml = BodyTransform::parse("order", ORDER)?.with_session();
    let to_json = BodyTransform::parse("done", DONE)?.with_format(BodyFormat::Xml);
    let xml = HeaderValue::from_static("application/xml");
    let json = HeaderValue::from_static("application/json");
    let rewrite = UrlRewriteLayer::new("^/orders/([0-9]+)$", "/$tyk_meta.depot/order.do?id=$1")?;
    let in_depot = |depot| move |RawQuery(query): RawQuery, body: Bytes| order(depot, query, body);
    let service = Router::new()
        .route("/eu/order.do", post(in_depot("eu")))
        .route("/us/order.do", post(in_depot("us")));
    // Around the router, which then sees the new URL; the session is found first.
    let layered = ServiceBuilder::new()
        .layer(SessionLayer::new(store))
        .layer(BodyTransformLayer::response(to_json).with_content_type(json))
        .layer(BodyTransformLayer::request(to_xml).with_content_type(xml))
        .layer(rewrite)
        .service(service);
    let app = Router::new().fallback_service(layered);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
