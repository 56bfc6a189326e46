//! A stack over a `Router` of axum: [`RouterLayer`].
//!
//! It is the same stack as [`Tollgate::layer`](crate::Tollgate::layer) puts there, and decides the same.
//! Only its responses differ: they have axum's own body and not a [`GateBody`] around it, which axum would
//! put into a box for each response.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::get};
//! use http::Request;
//! use tollgate::{MemoryStore, Tollgate};
//! use tower::ServiceExt;
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"quota_max": 1}"#.parse()?)?;
//! let gate = Tollgate::builder(store).quota().build()?;
//! let app = Router::new().route("/", get(|| async { "hello" })).layer(gate.router_layer());
//!
//! let ask = || Request::get("/").header("authorization", "joes-key").body(Body::empty());
//! assert_eq!(app.clone().oneshot(ask()?).await?.status(), 200);
//! assert_eq!(app.oneshot(ask()?).await?.status(), 403);
//! # Ok(())
//! # }
//! ```
//!
//! [`GateBody`]: crate::body::GateBody

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
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
    fn call(&mut self, request: Request<B>) -> Self::Future {
        GatedRouterFuture {
            inner: self.gated.call(request),
        }
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
