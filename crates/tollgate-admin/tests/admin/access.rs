//! Who is let in, and what is told to who is not.

use axum::body::Body;
use http::Request;
use tollgate_admin::{Admin, BuildError, DEFAULT_SECRET, Settings, WeakSecret};
use tollgate_core::{store::SharedStore, token::KeyScheme};

use crate::{
    gateway::{Gateway, Kept},
    world::{Answer, SECRET, World, hashed},
};

async fn shown(world: &World, path: &str, secret: Option<&str>) -> Answer {
    let mut request = Request::get(path);
    if let Some(secret) = secret {
        request = request.header("x-tyk-authorization", secret);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn nobody_is_let_in_without_the_secret() {
    let world = World::new();
    let refused = "{\"status\":\"error\",\"message\":\"Attempted administrative access with invalid or \
                   missing key!\"}\n";
    for path in [
        "/tyk/keys",
        "/tyk/xyz",
        "/tyk/",
        "/tyk/ready",
        "/tyk/keys//",
    ] {
        for secret in [None, Some(""), Some("wrong"), Some(DEFAULT_SECRET)] {
            let answer = shown(&world, path, secret).await;
            assert_eq!((answer.status, &*answer.text), (403, refused), "{path}");
        }
    }
    for path in ["/tollgate/keys", "/tollgate/openapi.json", "/tollgate/xyz"] {
        let answer = shown(&world, path, Some("wrong")).await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    assert_eq!(shown(&world, "/tyk/keys", Some(SECRET)).await.status, 200);
}

#[tokio::test]
async fn health_is_for_everybody() {
    let world = World::new();
    assert_eq!(shown(&world, "/hello", None).await.status, 200);
    assert_eq!(shown(&world, "/ready", None).await.status, 200);
}

fn build(secret: &str, weak_secret: WeakSecret) -> Result<Admin, BuildError> {
    let settings = Settings {
        weak_secret,
        ..Settings::new(secret)
    };
    let gateway = std::sync::Arc::new(Gateway::new(Kept::InFolder));
    Admin::new(SharedStore::memory(), KeyScheme::plain(), gateway, settings)
}

#[test]
fn a_secret_that_everybody_knows_is_refused() {
    let refuse = WeakSecret::Refuse;
    assert_eq!(build("", refuse).unwrap_err(), BuildError::NoSecret);
    let known = build(DEFAULT_SECRET, refuse).unwrap_err();
    assert_eq!(known, BuildError::DefaultSecret);
    assert!(build(DEFAULT_SECRET, WeakSecret::Allow).is_ok());
    assert!(!format!("{:?}", build(SECRET, refuse).unwrap()).contains(SECRET));
}

#[tokio::test]
async fn an_empty_secret_is_nobodys() {
    let world = World::with(hashed(), Kept::InFolder, |settings| {
        settings.secret = "".into();
        settings.weak_secret = WeakSecret::Allow;
    });
    assert_eq!(shown(&world, "/tyk/keys", None).await.status, 403);
    assert_eq!(shown(&world, "/tyk/keys", Some("")).await.status, 403);
}

#[tokio::test]
async fn a_body_over_the_bound_is_not_read() {
    let world = World::with(hashed(), Kept::InFolder, |settings| settings.max_body = 100);
    let fits = world
        .ask("POST", "/tyk/keys/preview", " ".repeat(100))
        .await;
    assert_eq!(fits.status, 500, "{}", fits.text);
    let long = world
        .ask("POST", "/tyk/keys/preview", " ".repeat(101))
        .await;
    assert_eq!(long.status, 413, "{}", long.text);
    let long = world
        .ask("POST", "/tollgate/explain", " ".repeat(101))
        .await;
    assert_eq!(long.status, 413, "{}", long.text);
    assert_eq!(long.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn errors_do_not_tell_what_was_sent() {
    let world = World::new();
    let bodies = [
        r#"{"hmac_string": 1, "alias": "hunter2"}"#,
        r#"{"basic_auth_data": "hunter2"}"#,
        r#"{"token": ["hunter2"]}"#,
        "hunter2",
    ];
    for body in bodies {
        for (method, path) in [
            ("POST", "/tyk/keys/create"),
            ("POST", "/tyk/keys/some-id"),
            ("POST", "/tyk/policies"),
            ("POST", "/tyk/apis"),
            ("POST", "/tollgate/explain"),
            ("POST", "/tollgate/find"),
        ] {
            let answer = world.ask(method, path, body).await;
            assert!(!answer.text.contains("hunter2"), "{path}: {}", answer.text);
        }
    }
}
