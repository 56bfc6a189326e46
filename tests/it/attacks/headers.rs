//! D. Headers.

use super::*;

#[tokio::test]
async fn attack_34_headers_that_the_stack_sets_are_its_own() {
    let session = r#"{"meta_data": {"user": "joe"}}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .inject("x-user", "$tyk_meta.user")
        .unwrap();
    let builder = builder.inject("x-plan", "$tyk_meta.none").unwrap();
    let service =
        builder
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let seen: Vec<_> = request
                    .headers()
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect();
                assert!(
                    seen.iter().all(|header| !header.contains("root")),
                    "{seen:?}"
                );
                assert_eq!(request.headers().get_all("x-user").iter().count(), 1);
                assert_eq!(request.headers()["x-plan"], ""); // Empty, and not the client's.
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }));
    for name in ["x-user", "X-User", "x_user", "X_USER", "x-plan", "x_plan"] {
        assert_eq!(status(&service, with_header("/", name, b"root")).await, 200);
    }
}

#[tokio::test]
async fn attack_35_the_clients_connection_header_drops_nothing_of_ours() {
    let session = r#"{"meta_data": {"user": "joe"}}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .inject("x-user", "$tyk_meta.user")
        .unwrap();
    let service =
        builder
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let connection = request
                    .headers()
                    .get("connection")
                    .map(|value| value.to_str().unwrap().to_owned());
                assert!(
                    !connection
                        .unwrap_or_default()
                        .to_lowercase()
                        .contains("x-user")
                );
                assert_eq!(request.headers()["x-user"], "joe");
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }));
    for value in ["x-user", "close, X-User", "X-USER,authorization"] {
        assert_eq!(
            status(&service, with_header("/", "connection", value.as_bytes())).await,
            200
        );
    }
}
