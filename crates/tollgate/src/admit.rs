//! Decisions without a service: for other proxies, and for external authorisation.

use bytes::Bytes;
use http::{Extensions, HeaderMap, Response, StatusCode, request::Parts};
use tollgate_core::Rejection;

use crate::{
    gate::{Departure, Gates, Walk},
    report,
    visit::Visit,
};

/// A request that may pass.
///
/// Say how it was answered, or that it never was. Dropped without a word it stays charged, as one whose
/// client went away.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{HeaderMap, Request, StatusCode};
/// use tollgate::{MemoryStore, Tollgate};
///
/// let store = MemoryStore::new();
/// store.insert("joes-key", r#"{"quota_max": 1, "meta_data": {"user": "joe"}}"#.parse()?)?;
/// let gate = Tollgate::builder(store).quota().inject("x-user", "$tyk_meta.user")?.build()?;
///
/// let head = || Request::get("/").header("authorization", "joes-key").body(()).map(|it| it.into_parts().0);
/// let admitted = gate.admit(head()?).await?;
/// assert_eq!(admitted.head().headers["x-user"], "joe");
/// let mut headers = HeaderMap::new();
/// admitted.answered(StatusCode::OK, &mut headers);
/// assert_eq!(headers["x-ratelimit-remaining"], "0");
///
/// let refused = gate.admit(head()?).await.unwrap_err();
/// assert_eq!(refused.response().status(), 403);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "say how the request was answered, or that it was cancelled"]
pub struct Admitted {
    head: Parts,
    visit: Visit,
    gates: Gates,
}

impl Admitted {
    /// The head as the upstream should get it: headers set, credential removed.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// What the gates found out.
    pub fn visit(&self) -> &Visit {
        &self.visit
    }

    /// The request was answered: settles the charges, and sets the headers of the response.
    pub fn answered(mut self, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(receipt) = self.visit.receipt.take() {
            receipt.keep();
        }
        let mut departure = Departure {
            status,
            headers,
            extensions: &mut Extensions::new(),
        };
        if let Some(settlement) = self.visit.settlement.take() {
            // Without a body to wait for, a gRPC call that has not failed by now has succeeded.
            drop(settlement.at_the_head(&departure));
        }
        self.gates.depart(usize::MAX, &self.visit, &mut departure);
    }

    /// The request was never sent: gives back all that it was charged.
    pub fn cancel(mut self) {
        self.visit.settlement = None;
        drop(self.visit.receipt.take());
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(receipt) = self.visit.receipt.take() {
            receipt.keep();
        }
    }
}

/// A request that may not pass.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.rejection().message())]
pub struct Refused {
    response: Box<Response<Bytes>>,
    rejection: Rejection,
}

impl Refused {
    /// Why.
    pub fn rejection(&self) -> &Rejection {
        &self.rejection
    }

    /// What the client should get.
    pub fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// What the client should get.
    pub fn into_response(self) -> Response<Bytes> {
        *self.response
    }
}

/// Decides about a request and charges it.
pub(crate) async fn admit(gates: &Gates, mut head: Parts) -> Result<Admitted, Refused> {
    let mut visit = gates.open();
    Gates::resume(&mut head, &mut visit);
    visit.keep_receipt();
    let mut asked = 0;
    let mut walk = gates.walk(&mut asked, &mut head, &mut visit);
    loop {
        match walk {
            Walk::Waits(wait) => {
                let step = wait.await.go_on(&mut head, &mut visit);
                walk = gates.go_on(&mut asked, step, &mut head, &mut visit);
            }
            Walk::Refused(rejection) => {
                return Err(refused(gates, asked, rejection, &head, &visit));
            }
            Walk::Through => break,
        }
    }
    gates.forward(&mut head, &visit);
    Ok(Admitted {
        head,
        visit,
        gates: gates.clone(),
    })
}

fn refused(
    gates: &Gates,
    asked: usize,
    rejection: Rejection,
    head: &Parts,
    visit: &Visit,
) -> Refused {
    report::refused(&rejection, gates.asked_last(asked));
    let mut response = Box::new(gates.refusals().render(&rejection, head));
    let mut extensions = std::mem::take(response.extensions_mut());
    let status = response.status();
    let mut departure = Departure {
        status,
        headers: response.headers_mut(),
        extensions: &mut extensions,
    };
    gates.depart(asked, visit, &mut departure);
    *response.extensions_mut() = extensions;
    Refused {
        response,
        rejection,
    }
}
