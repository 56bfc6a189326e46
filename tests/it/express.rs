//! One service that is asked again and again, as on a connection: what it remembers of its caller never
//! outlives a change.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use tollgate::{
    LimitHeaders, MemoryStore, Tollgate,
    clock::{Clock, ManualClock},
    gated::RefusedBy,
    policy::PolicySet,
    store::{Expect, SessionStore},
    visit::Visit,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{ask, ok};

const RIGHT: &str = r#"{"access_rights": {"orders": {}}}"#;

fn gate(store: MemoryStore) -> Tollgate {
    let gate = Tollgate::builder(store).api("orders").rate_limit().quota();
    let gate = gate.headers(LimitHeaders::none()).without_context();
    gate.build().expect("a stack")
}

/// Asks one and the same service, three times in a row.
async fn thrice<S, B>(service: &mut S, request: impl Fn() -> Request<Body>) -> [u16; 3]
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug>,
{
    let mut statuses = [0; 3];
    for status in &mut statuses {
        let ready = service.ready().await.expect("ready");
        let response = ready.call(request()).await.expect("a response");
        *status = response.status().as_u16();
    }
    statuses
}

#[tokio::test]
async fn a_change_of_the_record_is_known_to_the_next_request() {
    let store = MemoryStore::new();
    let put = |json: &str| store.insert("joes-key", json.parse().unwrap()).unwrap();
    let mut service = gate(store.clone()).layer().layer(ok());
    let joe = || ask("/", "joes-key");
    for (record, statuses) in [
        (RIGHT, [200; 3]),
        (
            r#"{"access_rights": {"orders": {}}, "is_inactive": true}"#,
            [403; 3],
        ),
        (RIGHT, [200; 3]),
        (r#"{"access_rights": {"users": {}}}"#, [403; 3]),
        (
            r#"{"access_rights": {"orders": {}}, "rate": 2, "per": 3600}"#,
            [200, 200, 429],
        ),
        (RIGHT, [200; 3]),
    ] {
        put(record);
        assert_eq!(thrice(&mut service, joe).await, statuses, "{record}");
    }
    assert!(store.delete("joes-key").await.unwrap());
    assert_eq!(thrice(&mut service, joe).await, [403; 3]);
}

#[tokio::test]
async fn a_caller_is_told_from_all_others() {
    let store = MemoryStore::new();
    for key in ["joes-key", "Bearer joes-key"] {
        store.insert(key, RIGHT.parse().unwrap()).unwrap();
    }
    let mut service = gate(store.clone()).layer().layer(ok());
    let two = || {
        let request = Request::get("/").header("authorization", "joes-key");
        let request = request.header("authorization", "other-key");
        request.body(Body::empty()).unwrap()
    };
    let joe = || ask("/", "joes-key");
    assert_eq!(thrice(&mut service, joe).await, [200; 3]);
    assert_eq!(thrice(&mut service, || ask("/", "joes-ke")).await, [403; 3]);
    assert_eq!(thrice(&mut service, joe).await, [200; 3]);
    assert_eq!(thrice(&mut service, two).await, [400; 3]);
    assert_eq!(
        thrice(&mut service, || ask("//x", "joes-key")).await,
        [400; 3]
    );
    let none = || Request::new(Body::empty());
    assert_eq!(thrice(&mut service, none).await, [401; 3]);
    // A name of two words is found behind its scheme, and alone means its second word.
    let twice = || ask("/", "Bearer Bearer joes-key");
    assert_eq!(thrice(&mut service, twice).await, [200; 3]);
    store.delete("joes-key").await.unwrap();
    let once = || ask("/", "Bearer joes-key");
    assert_eq!(thrice(&mut service, once).await, [403; 3]);
}

#[tokio::test]
async fn other_policies_hold_for_the_next_request() {
    let policies = |inactive: bool| {
        let policy = format!(
            r#"{{"gold": {{"is_inactive": {inactive}, "access_rights": {{"orders": {{}}}}}}}}"#
        );
        PolicySet::from_record_file(policy.as_bytes()).unwrap().0
    };
    let store = MemoryStore::new();
    let session = r#"{"apply_policies": ["gold"]}"#.parse().unwrap();
    store.insert("joes-key", session).unwrap();
    let gate = Tollgate::builder(store).api("orders").rate_limit();
    let gate = gate.policies(policies(false)).build().unwrap();
    let mut service = gate.layer().layer(ok());
    let joe = || ask("/", "joes-key");
    for inactive in [false, true, false, false] {
        gate.replace_policies(policies(inactive));
        let status = if inactive { 403 } else { 200 };
        assert_eq!(thrice(&mut service, joe).await, [status; 3]);
    }
}

#[tokio::test]
async fn a_record_that_ends_is_not_remembered() {
    let clock = ManualClock::at(1_700_000_000);
    let store = MemoryStore::with_clock(clock.clone());
    let lifetime = Some(Duration::from_secs(10));
    let put = store.put("joes-key", RIGHT.parse().unwrap(), Expect::Absent, lifetime);
    put.await.unwrap();
    let mut service = gate(store).layer().layer(ok());
    let joe = || ask("/", "joes-key");
    assert_eq!(thrice(&mut service, joe).await, [200; 3]);
    clock.advance(Duration::from_secs(11));
    assert_eq!(thrice(&mut service, joe).await, [403; 3]);
}

/// What was opened to a caller before need not be looked up again; nothing else is opened by it.
#[tokio::test]
async fn a_call_that_was_opened_opens_no_other() {
    let store = MemoryStore::new();
    let record = r#"{"access_rights": {"orders": {"allowed_urls": [{"url": "^/orders/[a-z]+$", "methods": ["GET"]}]}}}"#;
    store.insert("joes-key", record.parse().unwrap()).unwrap();
    let mut service = gate(store).layer().layer(ok());
    let call = |method: &'static str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", "joes-key");
        request.body(Body::empty()).unwrap()
    };
    let long = |last: char| format!("/orders/{}{last}", "a".repeat(55));
    let longer = |last: char| format!("/orders/{}{last}", "a".repeat(56));
    for (method, path, status) in [
        ("GET", "/orders/a", 200),
        ("POST", "/orders/a", 403),
        ("GET", "/orders/a?page=2", 200),
        ("GET", "/orders/A", 403),
        ("GET", "/orders/ab", 200),
        ("GET", "/orders/%61b", 200),
        ("GET", "/orders/a%2Fb", 400),
        ("GET", "/orders/a/b", 403),
        ("GET", "/x/../orders/a", 400),
        ("GET", &long('a'), 200),
        ("GET", &long('1'), 403),
        ("GET", &longer('a'), 200),
        ("GET", &longer('1'), 403),
        ("GET", "/orders/a", 200),
    ] {
        let statuses = thrice(&mut service, || call(method, path)).await;
        assert_eq!(statuses, [status; 3], "{method} {path}");
    }
}

/// Headers in and out and the context, of a caller that is known and of the same gates asked one by one.
#[tokio::test]
async fn what_goes_through_at_once_gets_what_gates_would_give_it() {
    let metas = r#""meta_data": {"user": "joe", "bad": "a\r\nb"}"#;
    let record = format!(
        r#"{{"access_rights": {{"orders": {{}}}}, "rate": 100, "per": 3600, "quota_max": 4,
            "quota_renewal_rate": 60, {metas}}}"#
    );
    // The second text is about the request, so its gate is asked; the third can be no header.
    for (text, user, admitted) in [
        ("$tyk_meta.user", "joe", 4),
        ("$tyk_meta.user $tyk_context.path", "joe /", 4),
        ("$tyk_meta.bad", "", 0),
    ] {
        let store = MemoryStore::new();
        store.insert("joes-key", record.parse().unwrap()).unwrap();
        let gate = Tollgate::builder(store.clone()).api("orders");
        let gate = gate.rate_limit().quota().inject("x-user", text).unwrap();
        let gate = gate.clock(ManualClock::at(1_700_000_000)).build().unwrap();
        let service = gate
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let visit: &Arc<Visit> = request.extensions().get().expect("a context");
                assert_eq!(visit.session().map(|joe| joe.quota_max), Some(4));
                assert_eq!(visit.limits().len(), 2);
                let left = visit.limits()[1].standing.remaining.to_string();
                let users = request.headers().iter();
                let users = users.filter(|(name, _)| name.as_str().starts_with('x'));
                let users: Vec<_> = users.map(|(_, value)| value.to_str().unwrap()).collect();
                let told = [("x-left", left), ("x-users", users.join(";"))];
                let told = told.map(|(name, value)| (name, value.parse().unwrap()));
                let mut response = Response::new(Body::empty());
                for (name, value) in told {
                    response.headers_mut().insert(name, value);
                }
                Ok::<_, Infallible>(response)
            }));
        for call in 0..7 {
            let mut request = ask("/", "joes-key");
            let headers = request.headers_mut();
            headers.insert("x_user", "root".parse().unwrap());
            headers.insert("connection", "x-user".parse().unwrap());
            let response = service.clone().oneshot(request).await.unwrap();
            let header = |name| response.headers().get(name).map(|it| it.to_str().unwrap());
            if call < admitted {
                let left = (3 - call).to_string();
                assert_eq!(response.status(), 200);
                assert_eq!(header("x-users"), Some(user), "no spelling of the client's");
                assert_eq!(header("x-left"), Some(&*left));
                assert_eq!(header("x-ratelimit-limit"), Some("4"));
                assert_eq!(header("x-ratelimit-remaining"), Some(&*left));
                assert_eq!(header("x-ratelimit-reset"), Some("1700000060"));
                continue;
            }
            let by = response.extensions().get::<RefusedBy>().expect("a refusal");
            assert_eq!(by.session.as_ref().map(|joe| joe.quota_max), Some(4));
            let (status, gate, left) = match admitted {
                0 => (500, "metadata", None),
                _ => (403, "limits", Some("0")),
            };
            assert_eq!((response.status().as_u16(), by.gate), (status, gate));
            assert_eq!(header("x-ratelimit-remaining"), left);
        }
    }
}

/// A credential that is to be taken out is taken out of the usual request too.
#[tokio::test]
async fn a_credential_is_removed_however_usual_the_request() {
    let store = MemoryStore::new();
    let record = r#"{"access_rights": {"orders": {}}, "rate": 100, "per": 3600, "quota_max": 100}"#;
    store.insert("joes-key", record.parse().unwrap()).unwrap();
    let builder = || {
        Tollgate::builder(store.clone())
            .api("orders")
            .rate_limit()
            .quota()
    };
    let quiet = builder().headers(LimitHeaders::none()).without_context();
    for builder in [builder(), builder().without_context(), quiet] {
        let gate = builder.remove_credential().build().unwrap();
        let seen = service_fn(async |request: Request<Body>| {
            assert!(!request.headers().contains_key("authorization"));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let mut service = gate.layer().layer(seen);
        let joe = || ask("/", "joes-key");
        assert_eq!(thrice(&mut service, joe).await, [200; 3]);
    }
}

/// Headers tell of each request where handlers are left no context, too.
#[tokio::test]
async fn headers_without_context_count_down() {
    let store = MemoryStore::new();
    let record = r#"{"access_rights": {"orders": {}}, "quota_max": 5, "quota_renewal_rate": 3600}"#;
    store.insert("joes-key", record.parse().unwrap()).unwrap();
    let builder = Tollgate::builder(store).api("orders").quota();
    let gate = builder.without_context().build().unwrap();
    let seen = service_fn(async |request: Request<Body>| {
        assert!(request.extensions().is_empty());
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut service = gate.layer().layer(seen);
    for (left, status) in [(4, 200), (3, 200), (2, 200), (1, 200), (0, 200), (0, 403)] {
        let request = ask("/", "joes-key");
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers()["x-ratelimit-remaining"],
            left.to_string()
        );
    }
}

/// The next request of a caller may use the memory of a context that nobody has any more, and of no other.
#[tokio::test]
async fn a_context_stays_as_it_is_while_somebody_has_it() {
    let store = MemoryStore::new();
    let record = r#"{"access_rights": {"orders": {}}, "rate": 100, "per": 3600, "quota_max": 100}"#;
    store.insert("joes-key", record.parse().unwrap()).unwrap();
    let clock = ManualClock::at(1_700_000_000);
    let gate = Tollgate::builder(store).api("orders").rate_limit().quota();
    let gate = gate.clock(clock.clone()).build().unwrap();
    let mut service = gate
        .layer()
        .layer(service_fn(async |request: Request<Body>| {
            let visit: &Arc<Visit> = request.extensions().get().expect("a context");
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(visit.clone());
            Ok::<_, Infallible>(response)
        }));
    let mut kept = Vec::new();
    for left in (80..100).rev() {
        let ready = service.ready().await.expect("ready");
        let response = ready.call(ask("/", "joes-key")).await.expect("a response");
        let visit: &Arc<Visit> = response.extensions().get().expect("a context");
        let told = response.headers()["x-ratelimit-remaining"].clone();
        kept.push((left, clock.now(), told, visit.clone()));
        if left % 3 == 0 {
            kept.pop();
        }
        clock.advance(Duration::from_secs(1));
    }
    for (left, at, told, visit) in kept {
        let standing = |index: usize| visit.limits()[index].standing.remaining;
        assert_eq!(
            (visit.limits().len(), standing(0), standing(1)),
            (2, left, left)
        );
        assert_eq!((visit.now(), told), (at, left.to_string().parse().unwrap()));
        assert_eq!(visit.session().map(|joe| joe.quota_max), Some(100));
    }
}
