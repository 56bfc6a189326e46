//! Sessions in a store of one's own: a folder with one JSON file for each key.
//!
//! ```text
//! cargo run -p custom-store FOLDER [PORT]
//! echo '{"alias": "joe"}' > FOLDER/joes-key.json      # in force with the next request
//! curl -i http://127.0.0.1:3000/ -H 'authorization: joes-key'
//! ```
//!
//! The store is three functions. Counters are kept in memory, by ours. A file that can not be read as a
//! session is an error of the store, told in the log by its field; a folder that is gone answers 503.

use std::{io::ErrorKind, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tokio::fs;
use tollgate::{
    MemoryStore, Session, SharedStore, Tollgate,
    store::{Expect, Loaded, SessionStore, StoreError, StoreErrorKind, Version},
};

/// A folder of sessions.
struct FolderStore {
    folder: PathBuf,
}

impl FolderStore {
    /// The file of a key. Only plain names are keys, so that no token leads out of the folder.
    fn file(&self, key: &str) -> Option<PathBuf> {
        let is_plain = key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_plain.then(|| self.folder.join(format!("{key}.json")))
    }
}

fn unavailable(error: std::io::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the folder gives no answer").with_source(error)
}

impl SessionStore for FolderStore {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        let Some(file) = self.file(key) else {
            return Ok(None);
        };
        let json = match fs::read(&file).await {
            Ok(json) => json,
            // A file that is not there is no key; a folder that is not there is no answer.
            Err(error) if error.kind() == ErrorKind::NotFound && self.folder.is_dir() => {
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error)),
        };
        let session = Session::from_json(json).map_err(|error| {
            StoreError::new(StoreErrorKind::Corrupt, "a file is no session").with_source(error)
        })?;
        Ok(Some(Arc::new(Loaded::new(key, session, Version(0)))))
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        _expect: Expect,
        _lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let file = self
            .file(key)
            .ok_or_else(|| StoreError::new(StoreErrorKind::Unsupported, "not a plain name"))?;
        fs::write(file, session.to_json())
            .await
            .map_err(unavailable)?;
        Ok(Version(0))
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let Some(file) = self.file(key) else {
            return Ok(false);
        };
        match fs::remove_file(file).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// A file can be written by anybody at any time: the last write wins.
    fn compares_and_sets(&self) -> bool {
        false
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where it listens")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?.into();
    let port: u16 = arguments.next().as_deref().unwrap_or("3000").parse()?;

    let store = SharedStore::new(FolderStore { folder }, MemoryStore::new());
    let gate = Tollgate::builder(store).rate_limit().quota().build()?;
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(gate.layer());

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
