//! Reloads while requests are served. `scripts/soak` does it ten thousand times.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

/// Ends the clients also where the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The API as it is after so many reloads.
fn changed(target: &str, times: usize) -> Value {
    let mut orders = api("orders", "/orders/", target);
    let version = &mut orders["version_data"]["versions"]["Default"];
    version["global_response_headers"] = json!({"X-Times": times.to_string()});
    orders
}

/// What is resident of the program, in KiB; `None` where the system does not tell.
fn resident(gateway: &Gateway) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.program.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn reloads_under_load_fail_no_request_and_memory_is_flat() {
    const WARM: usize = 40;
    const ALL: usize = 160;
    let target = format!("http://127.0.0.1:{}", upstream());
    let gateway = Gateway::with("reloads", &json!({}), &[changed(&target, 0)]);
    let key = gateway.make_key_of(&json!({
        "org_id": "org1", "rate": 1_000_000, "per": 1, "quota_max": 1_000_000,
        "quota_renewal_rate": 3600,
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}));
    let stop = AtomicBool::new(false);
    let client = || {
        let mut statuses = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            statuses.push(gateway.ask("/orders/7", &key).status);
        }
        statuses
    };
    let (statuses, warm, end) = thread::scope(|scope| {
        let clients = [client, client, client].map(|client| scope.spawn(client));
        let stopping = StopOnDrop(&stop);
        let reload = |times| {
            gateway.write_api(&changed(&target, times));
            gateway.reload();
        };
        (0..WARM).for_each(reload);
        let warm = resident(&gateway);
        (WARM..=ALL).for_each(reload);
        let end = resident(&gateway);
        drop(stopping);
        let statuses = clients.map(|client| client.join().unwrap()).concat();
        (statuses, warm, end)
    });
    assert!(statuses.len() > 3, "the clients asked for nothing");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let last = gateway.ask("/orders/7", &key).head;
    assert!(last.contains(&format!("x-times: {ALL}")), "{last}");
    if let (Some(warm), Some(end)) = (warm, end) {
        assert!(end <= warm + warm / 10, "{warm} KiB grew to {end}");
    }
}
