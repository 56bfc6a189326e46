//! Requests to try, as the example prints them.

use std::{fmt::Write as _, net::SocketAddr};

struct Request {
    /// What it shows.
    shows: &'static str,
    /// What to expect: the statuses, then what the last response holds.
    answer: &'static str,
    path: &'static str,
    headers: &'static [&'static str],
    times: usize,
}

const REQUESTS: [Request; 8] = [
    Request {
        shows: "allowed: Joe's session holds the API",
        answer: r#"200; x-plan: gold; says "joe (joe@example.com), plan gold, no quota""#,
        path: "/orders/account",
        headers: &["authorization: Bearer joes-key"],
        times: 1,
    },
    Request {
        shows: "metadata in a header: the handler reads x-user, and the client can not set it",
        answer: r#"200; says "orders of joe""#,
        path: "/orders",
        headers: &["authorization: joes-key", "x-user: root"],
        times: 1,
    },
    Request {
        shows: "no token",
        answer: r#"401; www-authenticate; says "Authorization field missing""#,
        path: "/orders",
        headers: &[],
        times: 1,
    },
    Request {
        shows: "a token that no session stands behind",
        answer: r#"403; says "Access to this API has been disallowed""#,
        path: "/orders",
        headers: &["authorization: nobodys-key"],
        times: 1,
    },
    Request {
        shows: "the session object of Tyk's documentation, at the API that it holds",
        answer: r#"200; x-test: test-data; x-ratelimit-limit: 1000; x-ratelimit-remaining: 999; says "john@smith.com, 999 left""#,
        path: "/closed",
        headers: &["authorization: johns-key"],
        times: 1,
    },
    Request {
        shows: "wrong API: the same key, at an API that its session does not hold",
        answer: r#"403; says "Access to this API has been disallowed""#,
        path: "/orders",
        headers: &["authorization: johns-key"],
        times: 1,
    },
    Request {
        shows: "rate limited: Ann may ask twice in ten seconds",
        answer: r#"200 200 429; retry-after; says "Rate Limit Exceeded""#,
        path: "/orders",
        headers: &["authorization: anns-key"],
        times: 3,
    },
    Request {
        shows: "quota used up: Sue may ask three times an hour",
        answer: r#"200 200 200 403; x-ratelimit-remaining: 0; says "Quota exceeded""#,
        path: "/orders/account",
        headers: &["authorization: sues-key"],
        times: 4,
    },
];

/// For each request two lines of comment, what it shows and what it is answered, and one to paste.
pub(crate) fn guide(address: SocketAddr) -> String {
    let mut guide = String::new();
    for request in &REQUESTS {
        let mut curl = format!("curl -si http://{address}{}", request.path);
        for header in request.headers {
            let _ = write!(curl, " -H '{header}'"); // Writing to a string can not fail.
        }
        if request.times > 1 {
            let times: Vec<_> = (1..=request.times).map(|time| time.to_string()).collect();
            curl = format!("for i in {}; do {curl}; done", times.join(" "));
        }
        let Request { shows, answer, .. } = request;
        let _ = writeln!(guide, "# {shows}\n# answer: {answer}\n{curl}\n");
    }
    guide
}
