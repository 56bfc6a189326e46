//! Tells when what a reload would read has changed on the disk.
//!
//! An event of the file system says only that something may be different. What decides is the content:
//! editors that write beside a file and rename, folders whose entries are links, and mounts that swap a
//! link above all of them (`..data` of Kubernetes) come to the same. Nothing is told before the content
//! has stood still for a moment, so that what is half written is not read.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout},
};
use tollgate_gateway::config::Config;

/// How long nothing has to happen.
const QUIET: Duration = Duration::from_millis(200);
/// How long it is waited for that.
const LONGEST: Duration = Duration::from_secs(2);

/// What a reload reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Places {
    /// Folders, of which every `*.json` is read.
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// Tells of changes.
pub(crate) struct Changes {
    changes: Receiver<()>,
    happened: Sender<()>,
}

impl Changes {
    /// Waits for the next one; `None` where none will come.
    pub(crate) async fn next(&mut self) -> Option<()> {
        self.changes.recv().await
    }

    /// Finds out anew what a reload reads.
    pub(crate) fn look_again(&self) {
        let _ = self.happened.try_send(()); // One that waits stands for all.
    }
}

/// Watches what a reload reads.
///
/// # Errors
///
/// Fails where a folder can not be watched.
pub(crate) fn begin(
    places: impl Fn() -> Places + Send + Sync + 'static,
) -> notify::Result<Changes> {
    let (happened, mut happens) = channel(1);
    let watched = Arc::new(ArcSwap::from_pointee(places()));
    let (concerned, event_happened) = (watched.clone(), happened.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| concerned.load().concerns(&event)) {
            let _ = event_happened.try_send(()); // One that waits stands for all.
        }
    })?;
    for folder in watched.load().watched() {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    let mut seen = watched.load().content();
    let (changed, changes) = channel(1);
    tokio::spawn(async move {
        while happens.recv().await.is_some() {
            let latest = Instant::now() + LONGEST;
            while Instant::now() < latest && timeout(QUIET, happens.recv()).await.is_ok() {}
            let (before, now) = (watched.load_full(), Arc::new(places()));
            let read = {
                let (before, now) = (before.clone(), now.clone());
                move || (before.content(), now.content())
            };
            // A folder may be another one than it was, under the same name.
            watched.store(now.clone());
            watch_again(&mut watcher, &before, &now);
            let Ok((content, of_now)) = tokio::task::spawn_blocking(read).await else {
                continue;
            };
            // What is named since the last reload may have changed before it was watched.
            let is_changed = content != seen || before != now;
            seen = of_now;
            if is_changed && changed.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(Changes { changes, happened })
}

fn watch_again(watcher: &mut RecommendedWatcher, before: &Places, now: &Places) {
    for folder in before.watched() {
        let _ = watcher.unwatch(&folder); // It may be gone, with its watch.
    }
    for folder in now.watched() {
        if let Err(err) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), %err, "not watched");
        }
    }
}

impl Places {
    /// Definitions, policies and certificates of a configuration, and what they name.
    pub(crate) fn of(config: &Config, named: impl Iterator<Item = PathBuf>) -> Self {
        let policies = &config.policies;
        let mut places = Self::default();
        let named = named.filter_map(|file| std::path::absolute(file).ok());
        places.files.extend(named);
        places.folders.extend(path(&config.app_path));
        match path(&policies.policy_path) {
            Some(folder) => places.folders.push(folder),
            None => places.files.extend(path(&policies.policy_record_name)),
        }
        let http = &config.http_server_options;
        if http.use_ssl {
            let by_host = http.certificates.iter();
            let by_host = by_host.flat_map(|pair| [&pair.cert_file, &pair.key_file]);
            let certificates = by_host.chain(&http.ssl_certificates);
            places
                .files
                .extend(certificates.filter_map(|file| path(file)));
        }
        places
    }

    /// The folders in which something happens when one of the places changes.
    fn watched(&self) -> BTreeSet<PathBuf> {
        let above = self.folders.iter().chain(&self.files);
        let above = above.filter_map(|place| place.parent().map(Path::to_owned));
        above.chain(self.folders.iter().cloned()).collect()
    }

    /// Whether an event may be about one of the places.
    fn concerns(&self, event: &Event) -> bool {
        const WRITTEN: AccessKind = AccessKind::Close(AccessMode::Write);
        // Reading is an event too, ours as well.
        if matches!(event.kind, EventKind::Access(kind) if kind != WRITTEN) {
            return false;
        }
        event.paths.is_empty() || event.paths.iter().any(|path| self.concern(path))
    }

    fn concern(&self, path: &Path) -> bool {
        let is_swapped = path.file_name().is_some_and(|name| name == "..data");
        let is_ours = |place: &PathBuf| path == place;
        is_swapped
            || self.files.iter().any(is_ours)
            || self.folders.iter().any(is_ours)
            || path
                .parent()
                .is_some_and(|above| self.folders.iter().any(|place| above == place))
    }

    /// A number for all that can be read, another one for anything else.
    fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for folder in &self.folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let files = entries.map(|entry| entry.path());
            let files =
                files.filter(|file| file.extension().is_some_and(|ending| ending == "json"));
            let files: BTreeSet<PathBuf> = files.collect();
            files.iter().for_each(|file| add(&mut hasher, file));
        }
        self.files.iter().for_each(|file| add(&mut hasher, file));
        hasher.finish()
    }
}

fn add(hasher: &mut DefaultHasher, file: &Path) {
    file.hash(hasher);
    fs::read(file).ok().hash(hasher);
}

/// A place that is named, as events name it.
fn path(text: &str) -> Option<PathBuf> {
    let path = Some(text).filter(|text| !text.is_empty());
    path.and_then(|path| std::path::absolute(path).ok())
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind};

    use super::*;

    #[track_caller]
    fn check(kind: EventKind, path: &str, expected: bool) {
        let places = Places {
            folders: vec!["/conf/apps".into()],
            files: vec!["/conf/policies.json".into()],
        };
        let event = Event::new(kind).add_path(path.into());
        assert_eq!(places.concerns(&event), expected, "{kind:?} {path}");
    }

    #[test]
    fn what_happens_elsewhere_and_reading_are_passed_over() {
        let modified = EventKind::Modify(ModifyKind::Any);
        for (path, expected) in [
            ("/conf/apps/a.json", true),
            ("/conf/apps", true),
            ("/conf/policies.json", true),
            ("/conf/..data", true),
            ("/conf/tollgate.redb", false),
            ("/conf/apps/sub/a.json", false),
        ] {
            check(modified, path, expected);
        }
        check(
            EventKind::Create(CreateKind::Any),
            "/conf/apps/b.json",
            true,
        );
        let closed = |mode| EventKind::Access(AccessKind::Close(mode));
        check(closed(AccessMode::Write), "/conf/apps/a.json", true);
        check(closed(AccessMode::Read), "/conf/apps/a.json", false);
        check(
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            "/conf/apps/a.json",
            false,
        );
    }
}
