//! Asks a store over HTTP, and waits for the answer.

use std::{error::Error, fmt, thread, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate_core::ErrorChain;

use super::SecretStoreError;
use crate::proxy::{ClientOptions, UpstreamClient, UpstreamTls};

/// The most that is read of an answer, in bytes.
const MOST_ANSWER: usize = 1 << 20;
/// Between two tries; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// What stands in a path as it is.
const OF_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Whom to ask, and how.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) store: &'static str,
    pub(super) tls: UpstreamTls,
    /// How long it may take, all tries together.
    pub(super) timeout: Duration,
    /// How often it is asked again where it fails.
    pub(super) retries: u32,
}

type BoxError = Box<dyn Error + Send + Sync>;

/// What is answered, `None` where there is no such thing; or what the store does instead.
type Told = Result<Option<Bytes>, String>;

impl Asking {
    /// Sends `GET`. `None` is that there is no such thing.
    ///
    /// In a thread of its own, as whoever reads files may be driven by a runtime that must not wait.
    pub(super) fn get(
        &self,
        uri: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Bytes>, SecretStoreError> {
        let away = |reason| SecretStoreError::away(self.store, reason);
        let uri: Uri = uri.parse().map_err(|_| away("has no URL".to_owned()))?;
        let asked = thread::scope(|scope| scope.spawn(|| self.ask(&uri, headers)).join());
        let told = asked.unwrap_or_else(|_| Err(unasked("a thread failed")));
        told.map_err(away)
    }

    fn ask(&self, uri: &Uri, headers: &HeaderMap) -> Told {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let client = ClientOptions {
            connect_timeout: CONNECT.min(self.timeout),
            handshake_timeout: CONNECT.min(self.timeout),
            max_idle_per_upstream: 0,
            tls: self.tls.clone(),
            ..ClientOptions::default()
        };
        runtime.map_err(unasked)?.block_on(async {
            let client = UpstreamClient::new(&client).map_err(unasked)?;
            let asking = self.ask_until_told(&client, uri, headers);
            let told = tokio::time::timeout(self.timeout, asking).await;
            told.unwrap_or_else(|_| Err("does not answer in time".into()))
        })
    }

    async fn ask_until_told(
        &self,
        client: &UpstreamClient<Empty<Bytes>>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Told {
        let mut tries = 0;
        loop {
            let answer = ask_once(client, uri, headers).await;
            let failed = match &answer {
                Ok((status, _)) => status.is_server_error(),
                Err(_) => true,
            };
            if !failed || tries == self.retries {
                let (status, body) = answer.map_err(unasked)?;
                return read(status, body).map_err(str::to_owned);
            }
            tokio::time::sleep(PAUSE * 2_u32.saturating_pow(tries)).await;
            tries += 1;
        }
    }
}

fn unasked(err: impl fmt::Display) -> String {
    format!("can not be asked: {err}")
}

async fn ask_once(
    client: &UpstreamClient<Empty<Bytes>>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(StatusCode, Bytes), BoxError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    let host = uri.authority().ok_or("there is no host")?;
    let host = HeaderValue::try_from(host.as_str())?;
    request.headers_mut().insert(HOST, host);
    let response = client
        .send(request)
        .await
        .map_err(|err| ErrorChain(&err).to_string())?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MOST_ANSWER).collect().await?;
    Ok((head.status, body.to_bytes()))
}

/// An error with what is behind it.
fn read(status: StatusCode, body: Bytes) -> Result<Option<Bytes>, &'static str> {
    match status {
        StatusCode::OK => Ok(Some(body)),
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err("does not let this token read the secret")
        }
        _ if status.is_server_error() => Err("answers with an error of its own"),
        _ => Err("answers with something else than a secret"),
    }
}

/// A name as it stands in a path.
pub(super) fn in_path(name: &str) -> String {
    utf8_percent_encode(name.trim_matches('/'), OF_PATHS).to_string()
}

/// A value that no `Debug` prints.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
