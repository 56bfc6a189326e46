//! The gateway's files, with one API for each variant; and keys.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{Failure, load};

pub(crate) const SECRET: &str = "the bench's own secret";
const KEYS: usize = 100;

/// Where the files are, and who serves them.
pub(crate) struct Files {
    pub(crate) conf: String,
    full: PathBuf,
    address: SocketAddr,
    upstream: SocketAddr,
}

impl Files {
    /// Writes them into a folder.
    pub(crate) fn write(
        folder: &Path,
        address: SocketAddr,
        upstream: SocketAddr,
    ) -> Result<Self, Failure> {
        let apps = folder.join("apps");
        fs::create_dir_all(&apps)?;
        let conf = folder.join("tyk.conf");
        let write = |path: &Path, content: Value| fs::write(path, content.to_string());
        let port = address.port();
        write(
            &conf,
            json!({
                "listen_address": "127.0.0.1", "listen_port": port, "secret": SECRET,
                "hash_keys": true, "app_path": apps, "log_level": "error",
                "policies": {
                    "policy_source": "file", "policy_record_name": folder.join("policies.json")},
            }),
        )?;
        let keyless = json!({"use_keyless": true});
        let token = json!({"disable_rate_limit": true, "disable_quota": true});
        for (name, own) in [("keyless", keyless), ("token", token)] {
            write(&apps.join(format!("{name}.json")), api(name, own, upstream))?;
        }
        write(&folder.join("policies.json"), policy())?;
        let files = Self {
            conf: conf.display().to_string(),
            full: apps.join("full.json"),
            address,
            upstream,
        };
        files.change(0)?;
        Ok(files)
    }

    /// Writes the definition of the full set; answers tell which one it was.
    pub(crate) fn change(&self, number: usize) -> Result<(), Failure> {
        let mut version = json!({
            "name": "Default", "global_headers": {"X-User": "$tyk_meta.user"}});
        if number > 0 {
            version["global_response_headers"] = json!({"X-Number": number.to_string()});
        }
        let own = json!({"version_data": {
            "not_versioned": true, "versions": {"Default": version}}});
        Ok(fs::write(
            &self.full,
            api("full", own, self.upstream).to_string(),
        )?)
    }

    /// Has the files read anew.
    pub(crate) async fn reload(&self) -> Result<(), Failure> {
        let told = self.control("GET /tyk/reload/?block=true", "").await?;
        match told.get("status").and_then(Value::as_str) {
            Some("ok") => Ok(()),
            _ => Err(format!("not reloaded: {told}").into()),
        }
    }

    async fn control(&self, target: &str, body: &str) -> Result<Value, Failure> {
        let fields = format!("x-tyk-authorization: {SECRET}\r\n");
        let told = load::once(self.address, target, &fields, body).await?;
        Ok(serde_json::from_slice(&told)?)
    }

    /// Makes keys by the control API.
    pub(crate) async fn make_keys(&self) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let session = session(number).to_string();
            let made = self.control("POST /tyk/keys", &session).await?;
            let key = made.get("key").and_then(Value::as_str);
            keys.push(key.ok_or_else(|| format!("no key: {made}"))?.to_owned());
        }
        Ok(keys)
    }
}

/// What a key may do, and whose it is.
pub(crate) fn session(number: usize) -> Value {
    json!({
        "org_id": "default", "alias": format!("user {number}"), "apply_policies": ["gold"],
        "meta_data": {"user": format!("user-{number}")}})
}

fn api(name: &str, own: Value, upstream: SocketAddr) -> Value {
    let mut api = json!({
        "name": name, "api_id": name, "org_id": "default", "active": true,
        "version_data": {"not_versioned": true, "versions": {"Default": {"name": "Default"}}},
        "proxy": {
            "listen_path": format!("/{name}/"), "strip_listen_path": true,
            "target_url": format!("http://{upstream}/")},
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut api, own) {
        all.extend(own);
    }
    api
}

/// Limits that are never reached, and rights to paths and methods.
fn policy() -> Value {
    let right = |api: &str| {
        json!({
            "api_id": api, "api_name": api, "versions": ["Default"],
            "allowed_urls": [{"url": "/orders/(.*)", "methods": ["GET", "POST"]}]})
    };
    json!({"gold": {
        "org_id": "default", "active": true, "rate": 1_000_000, "per": 1,
        "quota_max": 1_000_000_000, "quota_renewal_rate": 3600,
        "access_rights": {"token": right("token"), "full": right("full")}}})
}
