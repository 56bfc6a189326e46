//! Scripts that Tyk finds by itself, beside those that a definition names.

use std::path::Path;

use crate::{config::Config, definition::Definition, problem::Problem};

/// The folders below an API's own whose scripts become hooks.
const HOOKS: [&str; 4] = ["pre", "auth", "post_auth", "post"];

/// Refuses an API whose hooks lie in `middleware_path`: they would decide who may pass.
pub(super) fn check(file: &Path, definition: &Definition, config: &Config) -> Option<Problem> {
    let is_read = config.enable_jsvm && definition.custom_middleware.driver == "otto";
    if !is_read || definition.api_id.is_empty() {
        return None;
    }
    let folder = match config.middleware_path.as_str() {
        "" => Path::new("middleware"),
        folder => Path::new(folder),
    };
    let own = folder.join(definition.api_id.as_str());
    let hooks = HOOKS.iter().map(|hook| own.join(hook));
    let script = hooks.filter_map(|hook| first_script(&hook)).next()?;
    let message = format!("scripts are not built, and {} would run", script.display());
    Some(Problem::error(file, message).at("custom_middleware.driver".into()))
}

fn first_script(folder: &Path) -> Option<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut scripts = files.map(|file| file.path()).filter(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| ending.starts_with("js"))
    });
    scripts.next()
}
