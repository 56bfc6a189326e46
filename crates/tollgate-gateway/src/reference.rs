//! Texts that name a value elsewhere: `env://NAME`, `file://PATH`, `secrets://KEY`,
//! `$secret_env.NAME`.

use std::{collections::BTreeMap, path::Path};

use tollgate_core::variables::SecretName;

use crate::{config::Config, document, problem::Problem};

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
    /// The configuration's `secrets`, by name; a definition may name them.
    pub(crate) secrets: Option<&'a dyn Secrets>,
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
    /// can not be read, and a store that is not built, are errors: nobody wants the reference itself
    /// to be used.
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
        not_built(text)
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
        missing.map_or(Ok(()), |name| {
            let message = format!("TYK_SECRET_{name} is not set, and stands for nothing");
            Err(Problem::warning("", message))
        })
    }
}

/// Tells of stores that are not built. Where Tyk asks at the start, the reference would be used in
/// place of the secret, so it is an error; where Tyk asks with each request, it is as if the store knew
/// nothing.
fn not_built(text: &str) -> Result<(), Problem> {
    const AT_START: [&str; 2] = ["consul://", "vault://"];
    const WITH_EACH: [&str; 2] = ["$secret_vault.", "$secret_consul."];
    const NEWER: [&str; 2] = ["$kv{", "$secret_file."];
    if let Some(scheme) = AT_START.iter().find(|scheme| text.starts_with(**scheme)) {
        return Err(Problem::error("", format!("`{scheme}` is not built")));
    }
    if let Some(label) = WITH_EACH.iter().find(|label| text.contains(**label)) {
        let message = format!("`{label}` is not built, and stands for nothing");
        return Err(Problem::warning("", message));
    }
    let newer = NEWER.iter().find(|label| text.contains(**label));
    match newer.or_else(|| text.starts_with("kv://").then_some(&"kv://")) {
        Some(label) => {
            let message = format!("`{label}` is not built, so the text is used as it is");
            Err(Problem::warning("", message))
        }
        None => Ok(()),
    }
}

/// What a secret is that a definition's text names: `$secret_conf.NAME` or `$secret_env.NAME`. For
/// [`Text::with_secrets`](tollgate_core::variables::Text::with_secrets).
pub fn secret(name: SecretName<'_>, config: &Config, environment: &Environment) -> Option<String> {
    match name.place {
        "conf" => config
            .secrets
            .get(name.name)
            .map(|secret| secret.expose().to_owned()),
        "env" => environment.secret(name.name).map(str::to_owned),
        _ => None,
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
        check("vault://a", "vault://a", "`vault://` is not built");
        check(
            "[$secret_vault.a.b]",
            "[$secret_vault.a.b]",
            "`$secret_vault.` is not built, and stands for nothing",
        );
        let literal = "`kv://` is not built, so the text is used as it is";
        check("kv://env/x", "kv://env/x", literal);
    }

    #[test]
    fn a_file_stands_for_its_text_without_the_last_line_end() {
        let manifest = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let environment = Environment::default();
        let references = References {
            environment: &environment,
            secrets: None,
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
        let find = |place| secret(SecretName { place, name: "a" }, &config, &environment);
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
