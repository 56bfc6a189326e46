//! A stack over a `Router` of axum: [`RouterLayer`].
//!
//! It is the same stack as [`Tollgate::layer`](crate::Tollgate::layer) puts there, and decides the same.
//! Only its responses differ: they have axum's own body and not a [`GateBody`] around it, which axum would
//! put into a box for each response.
//!
//! Put *in front of* a router it guards all of it, paths that no route has included, and costs least: the router
//! finds room for what it leaves in the request. Put *into* a router, by `Router::layer` or `route_layer`, it guards the
//! routes that were added before, and others can stand beside them.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::get};
//! use http::Request;
//! use tollgate::{MemoryStore, Tollgate};
//! use tower::{Layer, ServiceExt};
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"quota_max": 2}"#.parse()?)?;
//! let gate = Tollgate::builder(store).quota().build()?;
//!
//! let orders = Router::new().route("/orders", get(|| async { "hello" }));
//! let app = gate.router_layer().layer(orders.clone()); // axum::serve(listener, app.into_make_service())
//! let ask = |path| Request::get(path).header("authorization", "joes-key").body(Body::empty());
//! assert_eq!(app.clone().oneshot(ask("/orders")?).await?.status(), 200);
//!
//! let beside = orders.layer(gate.router_layer()).route("/health", get(|| async { "fine" }));
//! assert_eq!(beside.clone().oneshot(ask("/orders")?).await?.status(), 200);
//! assert_eq!(beside.clone().oneshot(ask("/orders")?).await?.status(), 403);
//! assert_eq!(beside.oneshot(ask("/health")?).await?.status(), 200);
//! assert_eq!(app.oneshot(ask("/nowhere")?).await?.status(), 403);
//! # Ok(())
//! # }
//! ```
//!
//! [`GateBody`]: crate::body::GateBody

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use axum::{Router, ServiceExt, body::Body, routing::IntoMakeService};
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::AxumBodies,
    gate::Gates,
    gated::{Gated, GatedFuture},
};

/// A stack as a layer for a `Router`.
///
/// See the [module docs](crate::router) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct RouterLayer {
    gates: Gates,
}

impl From<Gates> for RouterLayer {
    fn from(gates: Gates) -> Self {
        Self { gates }
    }
}

impl<S> Layer<S> for RouterLayer {
    type Service = GatedRouter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GatedRouter {
            gated: Gated::new(inner, self.gates.clone()),
        }
    }
}

/// A service of axum's behind gates.
#[derive(Clone, Debug)]
pub struct GatedRouter<S> {
    gated: Gated<S>,
}

/// Empty, with room for the visit and what axum's router puts beside it: without, the map grows at its last.
static ROOM: LazyLock<Extensions> = LazyLock::new(|| {
    #[derive(Clone)]
    struct Place<const N: u8>;
    let mut extensions = Extensions::new();
    extensions.insert(Place::<0>);
    extensions.insert(Place::<1>);
    extensions.insert(Place::<2>);
    extensions.insert(Place::<3>);
    extensions.clear();
    extensions
});

impl GatedRouter<Router> {
    /// For `axum::serve`, as [`Router::into_make_service`]. What tells handlers who is connected is axum's
    /// `ServiceExt::into_make_service_with_connect_info`.
    pub fn into_make_service(self) -> IntoMakeService<Self> {
        ServiceExt::<Request<Body>>::into_make_service(self)
    }
}

impl<S, B> Service<Request<B>> for GatedRouter<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = GatedRouterFuture<S::Future, S, B>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.gated.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let extensions = request.extensions_mut();
        if self.gated.leaves_visit() && extensions.is_empty() {
            extensions.clone_from(&ROOM);
        }
        // As in `Gated::call`: through that, the request would be moved once more.
        let inner = match self.gated.let_in(&mut request) {
            Ok(then) => GatedFuture::inside(self.gated.inner_mut().call(request), then),
            Err(asking) => self.gated.ask(request, asking),
        };
        GatedRouterFuture { inner }
    }
}

pin_project! {
    /// A request on its way through gates and router.
    #[must_use = "futures do nothing unless polled"]
    pub struct GatedRouterFuture<F, S, B> {
        #[pin]
        inner: GatedFuture<F, S, B>,
    }
}

impl<S, B> Future for GatedRouterFuture<S::Future, S, B>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Output = Result<Response<Body>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll_with::<AxumBodies, Body>(cx)
    }
}
