//! A header with two variables beside one with a text that is always the same.

use std::{cell::RefCell, convert::Infallible, fmt::Debug, rc::Rc};

use axum::body::Body;
use http::{Request, Response};
use tollgate::{Tollgate, meta_inject::MetaInjectLayer, session::SessionLayer};
use tollgate_bench::{Variant, run};
use tower::{Layer, Service, service_fn};

use crate::{CALLS, ROUNDS, answer, request, store};

/// A service, called in a row.
fn calls<S, R>(name: &str, service: S) -> Variant
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + 'static,
    S::Future: 'static,
    R: 'static + Debug,
{
    let service = Rc::new(RefCell::new(service));
    Variant::new(name, move |calls| {
        let service = service.clone();
        async move {
            for _ in 0..calls {
                let answered = service.borrow_mut().call(request());
                let response = answered.await.expect("an answer");
                std::hint::black_box(response);
            }
        }
    })
}

fn layers(name: &str, text: &str) -> Variant {
    let inject = MetaInjectLayer::new().request("x-data", text);
    let service = inject.expect("a text").layer(service_fn(answer));
    calls(name, SessionLayer::new(store()).layer(service))
}

fn stack(name: &str, text: &str) -> Variant {
    let gate = Tollgate::builder(store())
        .api("orders")
        .inject("x-data", text);
    let gate = gate.expect("a text").build().expect("a stack");
    calls(name, gate.layer().layer(service_fn(answer)))
}

pub(crate) async fn print() {
    let constant = "joe of gold";
    let of_session = "$tyk_meta.user of $tyk_meta.plan";
    let of_request = "$tyk_meta.user at $tyk_context.path";
    let by_layers = vec![
        layers("one text", constant),
        layers("two variables of the session", of_session),
        layers("one of the session, one of the request", of_request),
    ];
    let rows = run(by_layers, ROUNDS, CALLS).await;
    tollgate_bench::print("A header, by layers", &rows, 0);
    let by_stack = vec![
        stack("one text", constant),
        stack("two variables of the session", of_session),
        stack("one of the session, one of the request", of_request),
    ];
    let rows = run(by_stack, ROUNDS, CALLS).await;
    tollgate_bench::print("A header, by a stack", &rows, 0);
}
