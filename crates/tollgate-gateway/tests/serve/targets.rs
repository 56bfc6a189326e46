//! Where requests go: upstreams of APIs and of versions.

use std::net::TcpListener;

use serde_json::json;

use crate::{Gateway, api};

#[test]
fn a_failed_upstream_has_the_status_that_the_configuration_says() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    for (settings, status) in [
        (json!({}), 500),
        (json!({"tollgate": {"bad_gateway_status": 502}}), 502),
    ] {
        let mut open = api("open", "/open/", &target);
        open["use_keyless"] = json!(true);
        let gateway = Gateway::with("gone", &settings, &[open]);
        assert_eq!(gateway.ask("/open/x", "").status, status, "{settings}");
    }
}
