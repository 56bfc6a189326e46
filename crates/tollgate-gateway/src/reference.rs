//! Texts that name a value elsewhere: `env://NAME`, `file://PATH`, `secrets://KEY`, `vault://KEY`, `consul://KEY`,
//! `kv://STORE/KEY`, `$kv{STORE:KEY}`, and `$secret_env.NAME` and its like.
//!
//! Stores are `env`, `file`, `secrets`, `vault` and `consul`. A text that is a reference to another one is an error,
//! as the reference would go out in place of the secret.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use tollgate_core::variables::{SecretName, Text};

use crate::{
    config::Config,
    document,
    problem::{Problem, Severity},
    secret_stores::{SecretStoreError, SecretStores},
};

/// The environment of the program, as it was when this was made.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process; a variable that is not UTF-8 is not in it.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables whose names begin so, by name.
    pub(crate) fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rest = move |(name, value): (&'a String, &'a String)| {
            Some((name.strip_prefix(prefix)?, value.as_str()))
        };
        self.0.iter().filter_map(rest)
    }

    /// What `$secret_env.NAME` stands for: Tyk's variable of that name.
    pub fn secret(&self, name: &str) -> Option<&str> {
        self.get(&format!("TYK_SECRET_{}", name.to_uppercase()))
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let text = |(name, value): (K, V)| (name.into(), value.into());
        Self(variables.into_iter().map(text).collect())
    }
}

/// Where references lead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct References<'a> {
    pub(crate) environment: &'a Environment,
    /// The configuration's `secrets`, by name. A definition may name them, the configuration itself not.
    pub(crate) secrets: Option<&'a dyn Secrets>,
    /// The folder of `$secret_file.` and `kv://file/`; empty where none is configured.
    pub(crate) folder: &'a str,
    /// Vault and Consul.
    pub(crate) stores: &'a SecretStores,
}

/// Secrets by name.
pub(crate) trait Secrets: std::fmt::Debug {
    fn get(&self, name: &str) -> Option<&str>;
}

impl References<'_> {
    /// Puts the value in place of a text that is a reference as a whole; of `env://`, also of one that
    /// ends with it.
    ///
    /// A variable that is not set leaves the text as it is, as Tyk does, and is told. A file that
    /// can not be read, and a secret that a store does not have or does not tell, are errors: nobody wants the
    /// reference itself to be used.
    pub(crate) fn replace(&self, text: &mut String) -> Result<(), Problem> {
        if let Some((before, name)) = text.split_once("env://") {
            let value = self.environment.get(name).filter(|value| !value.is_empty());
            let value = value.map(|value| format!("{before}{value}"));
            let otherwise = "the variable is not set, so the text is used as it is";
            return put(text, value, otherwise);
        }
        if let Some(name) = text.strip_prefix("secrets://") {
            let value = self.secrets.and_then(|secrets| secrets.get(name));
            let otherwise = "no such secret, so the text is used as it is";
            return put(text, value.map(str::to_owned), otherwise);
        }
        if let Some(path) = text.strip_prefix("file://") {
            let content = document::read_text(Path::new(path))
                .map_err(|problem| Problem::error("", format!("{path}: {}", problem.message)))?;
            *text = content.trim_end_matches(['\r', '\n']).to_owned();
            return Ok(());
        }
        let stored = match self.secrets {
            Some(_) => self.stores.of_apis(text),
            None => self.stores.of_config(text),
        };
        if let Some(answer) = stored {
            *text = answer.map_err(|err| Problem::error("", err.to_string()))?;
            return Ok(());
        }
        self.replace_kv(text)?;
        self.check_named(text)
    }

    /// Puts values in place of `kv://STORE/KEY`, where the text is this, and of every `$kv{STORE:KEY}`. A variable
    /// that is not set is empty, as with Tyk, and told; all else that is not there is an error.
    fn replace_kv(&self, text: &mut String) -> Result<(), Problem> {
        const OPEN: &str = "$kv{";
        let mut unset = None;
        if let Some((store, key)) = text.strip_prefix("kv://").and_then(|at| at.split_once('/')) {
            *text = self.of_store(store, key, &mut unset)?;
        } else if text.contains(OPEN) {
            let mut replaced = String::new();
            let mut rest = text.as_str();
            while let Some((before, after)) = rest.split_once(OPEN) {
                let named = after.split_once('}');
                let parts = named.and_then(|(name, behind)| Some((name.split_once(':')?, behind)));
                let Some(((store, key), behind)) = parts else {
                    let message = "`$kv{` is not followed by `STORE:KEY}`";
                    return Err(Problem::error("", message));
                };
                replaced.push_str(before);
                replaced.push_str(&self.of_store(store, key, &mut unset)?);
                rest = behind;
            }
            replaced.push_str(rest);
            *text = replaced;
        }
        unset.map_or(Ok(()), |name| Err(not_set(&name)))
    }

    /// The value of a key of a store; `KEY#FIELD` is a member of the object that the value is in JSON.
    fn of_store(
        &self,
        store: &str,
        key: &str,
        unset: &mut Option<String>,
    ) -> Result<String, Problem> {
        let (key, field) = match key.split_once('#') {
            Some((key, field)) => (key, Some(field)),
            None => (key, None),
        };
        let value = match store {
            "env" => match self.environment.secret(key) {
                Some(value) => value.to_owned(),
                None => {
                    *unset = Some(key.to_uppercase());
                    return Ok(String::new());
                }
            },
            "secrets" => {
                let value = self.secrets.and_then(|secrets| secrets.get(key));
                let missing = || Problem::error("", format!("there is no secret {key:?}"));
                value.ok_or_else(missing)?.to_owned()
            }
            "file" => secret_file(self.folder, key).map_err(|err| Problem::error("", err))?,
            "vault" | "consul" => {
                let answer = match store {
                    "vault" => self.stores.vault(key, None),
                    _ => self.stores.consul(key),
                };
                answer.map_err(|err| Problem::error("", err.to_string()))?
            }
            _ => {
                let message = format!(
                    "the store {store:?} is not built: there are `env`, `file`, `secrets`, `vault` and `consul`"
                );
                return Err(Problem::error("", message));
            }
        };
        let Some(field) = field else {
            return Ok(value);
        };
        let object: Option<serde_json::Value> = serde_json::from_str(&value).ok();
        match object.as_ref().and_then(|object| object.get(field)) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
            None => {
                let message = format!("{key:?} of {store:?} has no member {field:?}");
                Err(Problem::error("", message))
            }
        }
    }

    /// Tells of files and secrets of stores that `$secret_…` names and that are not there: they stand for nothing, as
    /// with Tyk. A store that does not say whether there is such a secret is an error.
    fn check_named(&self, text: &str) -> Result<(), Problem> {
        let mut told = Ok(());
        Text::with_secrets(text, |SecretName { place, name }| {
            let found = match place {
                "file" => secret_file(self.folder, name).map(drop).map_err(nothing),
                place => {
                    let answer = self.stores.named(place, name)?;
                    answer.map(drop).map_err(|err| missing(&err))
                }
            };
            let is_error = |told: &Result<(), Problem>| matches!(told, Err(one) if one.severity == Severity::Error);
            if told.is_ok() || (is_error(&found) && !is_error(&told)) {
                told = found;
            }
            None
        });
        told
    }

    /// Puts values in place of every `$secret_env.NAME`; one that is not set is empty, and told.
    pub(crate) fn replace_secret_env(&self, text: &mut String) -> Result<(), Problem> {
        const LABEL: &str = "$secret_env.";
        let mut missing = None;
        let mut replaced = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(LABEL) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            let (name, behind) = after.split_at(end);
            replaced.push_str(before);
            match self.environment.secret(name) {
                Some(value) => replaced.push_str(value),
                None if name.is_empty() => replaced.push_str(LABEL),
                None => missing = Some(name.to_uppercase()),
            }
            rest = behind;
        }
        replaced.push_str(rest);
        *text = replaced;
        missing.map_or(Ok(()), |name| Err(not_set(&name)))
    }
}

fn not_set(name: &str) -> Problem {
    let message = format!("TYK_SECRET_{name} is not set, and stands for nothing");
    Problem::warning("", message)
}

/// The text of a file below the folder of secrets, without the last line end. No name leads out of the folder.
fn secret_file(folder: &str, name: &str) -> Result<String, String> {
    if folder.is_empty() {
        return Err("there is no `kv.file.base_path`".into());
    }
    let is_below = |part: Component<'_>| matches!(part, Component::Normal(_));
    let folder = Path::new(folder);
    let path = folder.join(name);
    let read = || {
        let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
        let path = Some(path).filter(|path| path.starts_with(folder))?;
        document::read_text(&path).ok()
    };
    // Not what a link leads to, so that nobody learns of files elsewhere.
    let text = Path::new(name).components().all(is_below).then(read);
    let text = text.flatten();
    let text = text.ok_or_else(|| format!("{name:?} is no file below `kv.file.base_path`"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What is told of a secret that is not there.
fn nothing(what: impl std::fmt::Display) -> Problem {
    Problem::warning("", format!("{what}, so it stands for nothing"))
}

/// What is told of a secret that a store does not give.
pub(crate) fn missing(err: &SecretStoreError) -> Problem {
    if err.is_away() {
        Problem::error("", err.to_string())
    } else {
        nothing(err)
    }
}

/// Where secrets are that a definition's texts name: `$secret_conf.NAME`, `$secret_env.NAME`, `$secret_file.PATH`,
/// `$secret_vault.PATH.FIELD`, `$secret_consul.KEY`.
#[derive(Clone, Copy, Debug)]
pub struct SecretSources<'a> {
    /// Its `secrets`, and the folder of files.
    pub config: &'a Config,
    /// The environment.
    pub environment: &'a Environment,
    /// Vault and Consul.
    pub stores: &'a SecretStores,
}

impl SecretSources<'_> {
    /// A secret; `None` where there is none. For
    /// [`Text::with_secrets`](tollgate_core::variables::Text::with_secrets).
    pub fn find(&self, name: SecretName<'_>) -> Option<String> {
        match name.place {
            "conf" => {
                let secret = self.config.secrets.get(name.name);
                secret.map(|secret| secret.expose().to_owned())
            }
            "env" => self.environment.secret(name.name).map(str::to_owned),
            "file" => secret_file(&self.config.kv.file.base_path, name.name).ok(),
            place => self.stores.named(place, name.name)?.ok(),
        }
    }
}

fn put(text: &mut String, value: Option<String>, otherwise: &str) -> Result<(), Problem> {
    match value {
        Some(value) => {
            *text = value;
            Ok(())
        }
        None => Err(Problem::warning("", otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str, told: &str) {
        let environment: Environment = [("HOST", "h"), ("EMPTY", ""), ("TYK_SECRET_DB", "s")]
            .into_iter()
            .collect();
        let references = References {
            environment: &environment,
            secrets: None,
            folder: "",
            stores: &SecretStores::default(),
        };
        let mut replaced = text.to_owned();
        let problems = [
            references.replace(&mut replaced),
            references.replace_secret_env(&mut replaced),
        ];
        assert_eq!(replaced, expected);
        let messages = problems
            .into_iter()
            .filter_map(Result::err)
            .map(|p| p.message);
        assert_eq!(messages.collect::<Vec<_>>().join("; "), told);
    }

    #[test]
    fn a_reference_is_replaced_and_a_missing_one_is_told() {
        let unset = "the variable is not set, so the text is used as it is";
        check("plain", "plain", "");
        check("env://HOST", "h", "");
        check("http://env://HOST", "http://h", "");
        check("env://NONE", "env://NONE", unset);
        check("env://EMPTY", "env://EMPTY", unset);
        check(
            "a $secret_env.db! $secret_env. b",
            "a s! $secret_env. b",
            "",
        );
        check(
            "$secret_env.none",
            "",
            "TYK_SECRET_NONE is not set, and stands for nothing",
        );
        let none = "there is no `kv.vault`";
        check("vault://a.b", "vault://a.b", none);
        check(
            "[$secret_vault.a.b]",
            "[$secret_vault.a.b]",
            "there is no `kv.vault`, so it stands for nothing",
        );
    }

    #[test]
    fn a_key_of_a_store_is_replaced() {
        let none = "TYK_SECRET_X is not set, and stands for nothing";
        check("kv://env/db", "s", "");
        check("kv://env/x", "", none);
        check("<$kv{env:db}|$kv{env:DB}>", "<s|s>", "");
        check(
            "kv://secrets/x",
            "kv://secrets/x",
            "there is no secret \"x\"",
        );
        let open = "`$kv{` is not followed by `STORE:KEY}`";
        check("a $kv{env", "a $kv{env", open);
        let vault = "there is no `kv.vault`";
        check("kv://vault/db#password", "kv://vault/db#password", vault);
        check("[$kv{vault:db}]", "[$kv{vault:db}]", vault);
        let other = "the store \"aws\" is not built: there are `env`, `file`, `secrets`, `vault` and `consul`";
        check("kv://aws/db", "kv://aws/db", other);
    }

    #[test]
    fn a_file_of_secrets_is_below_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        std::fs::create_dir_all(secrets.join("db")).unwrap();
        std::fs::write(secrets.join("db/key"), "k\n").unwrap();
        std::fs::write(secrets.join("both"), r#"{"user": "joe", "n": 1}"#).unwrap();
        std::fs::write(folder.path().join("outside"), "o").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), secrets.join("link")).unwrap();
        let environment = Environment::default();
        let references = References {
            environment: &environment,
            secrets: None,
            folder: secrets.to_str().unwrap(),
            stores: &SecretStores::default(),
        };
        let check = |text: &str, expected: Option<&str>| {
            let mut replaced = text.to_owned();
            let result = references.replace(&mut replaced);
            assert_eq!(result.ok().map(|()| &*replaced), expected, "{text}");
        };
        check("kv://file/db/key", Some("k"));
        check(
            "a $kv{file:both#user} b $kv{file:both#n}",
            Some("a joe b 1"),
        );
        check("kv://file/both#none", None);
        check("$secret_file.db/key, yes", Some("$secret_file.db/key, yes"));
        for outside in ["../outside", "link", "none", "/etc/hostname", "db"] {
            check(&format!("kv://file/{outside}"), None);
            check(&format!("$secret_file.{outside}"), None);
        }
        let config = Config {
            kv: crate::config::KvOptions {
                file: crate::config::FileStore {
                    base_path: secrets.to_str().unwrap().into(),
                },
                ..Default::default()
            },
            ..Config::default()
        };
        let sources = SecretSources {
            config: &config,
            environment: &environment,
            stores: &SecretStores::default(),
        };
        let place = "file";
        let find = |name| sources.find(SecretName { place, name });
        assert_eq!(find("db/key").as_deref(), Some("k"));
        assert_eq!(find("../outside"), None);
    }

    #[test]
    fn a_file_stands_for_its_text_without_the_last_line_end() {
        let manifest = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let environment = Environment::default();
        let references = References {
            environment: &environment,
            secrets: None,
            folder: "",
            stores: &SecretStores::default(),
        };
        let mut text = manifest.to_owned();
        references.replace(&mut text).unwrap();
        assert!(text.starts_with("[package]") && !text.ends_with('\n'));
        let problem = references
            .replace(&mut "file:///none/such".to_owned())
            .unwrap_err();
        assert!(problem.message.starts_with("/none/such: can not be read"));
    }

    #[test]
    fn a_secret_is_found_in_its_place() {
        let environment: Environment = [("TYK_SECRET_A", "of env")].into_iter().collect();
        let secrets = [("a".to_owned(), "of conf".into())].into();
        let config = Config {
            secrets,
            ..Config::default()
        };
        let sources = SecretSources {
            config: &config,
            environment: &environment,
            stores: &SecretStores::default(),
        };
        let find = |place| sources.find(SecretName { place, name: "a" });
        assert_eq!(find("conf").as_deref(), Some("of conf"));
        assert_eq!(find("env").as_deref(), Some("of env"));
        assert_eq!(find("vault"), None);
    }

    #[test]
    fn an_environment_prints_no_values() {
        let environment: Environment = [("NAME", "hidden")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), r#"{"NAME"}"#);
    }
}
