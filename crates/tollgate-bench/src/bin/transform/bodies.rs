//! A body of 1 KiB made into another, beside `serde_json` reading and writing it.

use std::{cell::RefCell, convert::Infallible, hint::black_box, rc::Rc};

use axum::body::HttpBody as Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tollgate::body_transform::{BodyTransform, BodyTransformLayer, Given};
use tollgate_bench::{Variant, run};
use tower::{Layer, Service, service_fn};

use crate::{CALLS, ROUNDS};

const TEMPLATE: &str = r#"{"customer": {{ .name | jsonMarshal }}, "items": [{{ range $i, $item := .items }}{{ if $i }},{{ end }}{{ $item.id }}{{ end }}]}"#;

/// An order of 1 KiB: eight items of four members, and a note.
fn body() -> Bytes {
    let items = (1..=8).map(|id| {
        json!({"id": id, "name": format!("item number {id}"), "price": 12.5 + f64::from(id), "tags": ["new", "blue"]})
    });
    let items: Vec<Value> = items.collect();
    let mut order = json!({"name": "Ann \"A\" Lee", "items": items, "paid": true, "note": ""});
    let room = 1024 - order.to_string().len();
    order["note"] = "n".repeat(room).into();
    order.to_string().into()
}

async fn takes<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes, Error = Infallible>,
{
    let body = request.into_body().collect().await;
    black_box(body.expect("came whole").to_bytes().len());
    Ok(Response::default())
}

/// A service, called in a row with this body.
fn calls<S, R>(name: &str, body: Bytes, service: S) -> Variant
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible> + 'static,
    S::Future: 'static,
    R: 'static,
{
    let service = Rc::new(RefCell::new(service));
    Variant::new(name, move |calls| {
        let (service, body) = (service.clone(), body.clone());
        async move {
            for _ in 0..calls {
                let request = Request::post("/orders")
                    .header("content-type", "application/json")
                    .body(Full::new(body.clone()));
                let answered = service.borrow_mut().call(request.expect("a request"));
                black_box(answered.await.is_ok());
            }
        }
    })
}

pub(crate) async fn print() {
    let body = body();
    assert_eq!(body.len(), 1024);
    let transform = BodyTransform::parse("order", TEMPLATE).expect("a template");
    let given = Given::nothing();
    let (printed, read, rendered) = (body.clone(), body.clone(), body.clone());
    let layer = BodyTransformLayer::request(transform.clone());
    let variants = vec![
        Variant::of_calls("serde_json: parsed and printed", move || {
            let value: Value = serde_json::from_slice(black_box(&printed)).expect("JSON");
            black_box(serde_json::to_vec(&value).is_ok());
        }),
        Variant::of_calls("serde_json: parsed", move || {
            let value: Value = serde_json::from_slice(black_box(&read)).expect("JSON");
            black_box(value);
        }),
        Variant::of_calls("parsed and rendered", move || {
            black_box(transform.render(black_box(&rendered), &given).is_ok());
        }),
        calls(
            "a service that reads the body",
            body.clone(),
            service_fn(takes),
        ),
        calls(
            "the same behind the layer",
            body,
            layer.layer(service_fn(takes)),
        ),
    ];
    let rows = run(variants, ROUNDS, CALLS).await;
    tollgate_bench::print("A body of 1 KiB", &rows, 0);
}
