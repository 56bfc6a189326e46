//! Stores of secrets elsewhere: Vault and Consul, as the configuration's `kv` names them.
//!
//! They are asked while files are read, and never for a request: a value that changes there counts from the next
//! reload. What one answers is kept for as long as the files that are read then, so each secret is asked for once,
//! and a store that is away is waited for once.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::config::KvOptions;

mod consul;
mod fetch;
mod vault;

use self::{consul::Consul, vault::Vault};

/// The Vault secret whose fields `vault://FIELD` of a definition names.
const VAULT_OF_APIS: &str = "secret/tyk-apis";
/// The folder of Consul whose keys `consul://KEY` of a definition names.
const CONSUL_OF_APIS: &str = "tyk-apis";

/// Vault and Consul, while files are read.
#[derive(Debug, Default)]
pub struct SecretStores {
    vault: Option<Vault>,
    consul: Option<Consul>,
}

/// Why there is no secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretStoreError {
    /// The configuration has no such store.
    #[error("there is no `kv.{0}`")]
    NotConfigured(&'static str),
    /// The store has no such secret, or it has no such field.
    #[error("{store} has no {what}")]
    Missing {
        /// Which store.
        store: &'static str,
        /// What was asked for.
        what: String,
    },
    /// It does not answer, or not as it should.
    #[error("{store} {reason}")]
    Away {
        /// Which store.
        store: &'static str,
        /// What it does instead.
        reason: String,
    },
}

impl SecretStoreError {
    /// Whether the store did not say whether there is such a secret.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    fn away(store: &'static str, reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::Away { store, reason }
    }

    fn missing(store: &'static str, what: impl fmt::Debug) -> Self {
        let what = format!("{what:?}");
        Self::Missing { store, what }
    }
}

impl SecretStores {
    /// The stores that a configuration names. None is asked yet.
    pub fn new(options: &KvOptions) -> Self {
        Self {
            vault: options.vault.is_given().then(|| Vault::new(&options.vault)),
            consul: options
                .consul
                .is_given()
                .then(|| Consul::new(&options.consul)),
        }
    }

    /// What `$secret_vault.PATH.FIELD` stands for, or `$secret_consul.KEY`, by what follows `$secret_`. `None` is
    /// another place.
    pub(crate) fn named(&self, place: &str, name: &str) -> Option<Answer> {
        match place {
            "vault" => Some(self.field_of_vault(name)),
            "consul" => Some(self.consul(name)),
            _ => None,
        }
    }

    /// What `vault://FIELD` or `consul://KEY` of a definition stands for; `None` is another scheme.
    pub(crate) fn of_apis(&self, text: &str) -> Option<Answer> {
        if let Some(field) = text.strip_prefix("vault://") {
            Some(self.vault(VAULT_OF_APIS, Some(field)))
        } else {
            let key = text.strip_prefix("consul://")?;
            Some(self.consul(&format!("{CONSUL_OF_APIS}/{key}")))
        }
    }

    /// What `vault://PATH.FIELD` or `consul://KEY` of the configuration stands for; `None` is another scheme.
    pub(crate) fn of_config(&self, text: &str) -> Option<Answer> {
        if let Some(name) = text.strip_prefix("vault://") {
            Some(self.field_of_vault(name))
        } else {
            Some(self.consul(text.strip_prefix("consul://")?))
        }
    }

    /// `PATH.FIELD`, divided at the first point.
    fn field_of_vault(&self, name: &str) -> Answer {
        match name.split_once('.') {
            Some((path, field)) => self.vault(path, Some(field)),
            None => Err(SecretStoreError::Missing {
                store: vault::NAME,
                what: format!("{name:?}: expected `PATH.FIELD`"),
            }),
        }
    }

    /// A field of a secret of Vault; without a field, all of it, as JSON.
    pub(crate) fn vault(&self, path: &str, field: Option<&str>) -> Answer {
        let vault = self.vault.as_ref();
        vault
            .ok_or(SecretStoreError::NotConfigured("vault"))?
            .get(path, field)
    }

    /// The value of a key of Consul.
    pub(crate) fn consul(&self, key: &str) -> Answer {
        let consul = self.consul.as_ref();
        consul
            .ok_or(SecretStoreError::NotConfigured("consul"))?
            .get(key)
    }
}

/// A secret, or why there is none.
pub(crate) type Answer = Result<String, SecretStoreError>;

/// What a store has answered.
struct Kept<T>(Mutex<Answers<T>>);

struct Answers<T> {
    by_name: BTreeMap<String, Result<T, SecretStoreError>>,
    /// That it does not answer. Then it is not asked again.
    away: Option<SecretStoreError>,
}

impl<T> Kept<T> {
    fn lock(&self) -> MutexGuard<'_, Answers<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Kept<T> {
    /// What was answered before, or is now.
    fn get_or_ask(
        &self,
        name: &str,
        ask: impl FnOnce() -> Result<T, SecretStoreError>,
    ) -> Result<T, SecretStoreError> {
        let mut answers = self.lock(); // Files are read by one thread at a time.
        if let Some(answer) = answers.by_name.get(name) {
            return answer.clone();
        }
        if let Some(away) = &answers.away {
            return Err(away.clone());
        }
        let answer = ask();
        match &answer {
            Err(err) if err.is_away() => answers.away = Some(err.clone()),
            _ => {
                answers.by_name.insert(name.to_owned(), answer.clone());
            }
        }
        answer
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(Answers {
            by_name: BTreeMap::new(),
            away: None,
        }))
    }
}

/// Names only: values are secrets.
impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().by_name.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_asked_once_for_a_name_and_not_again_while_it_is_away() {
        let kept = Kept::default();
        let missing = SecretStoreError::missing("Vault", "b");
        let away = SecretStoreError::away("Vault", "is away");
        assert_eq!(kept.get_or_ask("a", || Ok(1)), Ok(1));
        assert_eq!(kept.get_or_ask("a", || Ok(2)), Ok(1));
        assert_eq!(
            kept.get_or_ask("b", || Err(missing.clone())),
            Err(missing.clone())
        );
        assert_eq!(kept.get_or_ask("b", || Ok(2)), Err(missing));
        assert_eq!(
            kept.get_or_ask("c", || Err(away.clone())),
            Err(away.clone())
        );
        assert_eq!(kept.get_or_ask("d", || Ok(3)), Err(away));
        assert_eq!(kept.get_or_ask("a", || Ok(2)), Ok(1));
        assert_eq!(format!("{kept:?}"), r#"{"a", "b"}"#);
    }

    #[test]
    fn what_is_not_configured_is_told_so() {
        let stores = SecretStores::new(&KvOptions::default());
        let none = |store| Some(Err(SecretStoreError::NotConfigured(store)));
        assert_eq!(stores.named("vault", "a.b"), none("vault"));
        assert_eq!(stores.named("consul", "a"), none("consul"));
        assert_eq!(stores.named("env", "a"), None);
        assert_eq!(stores.of_apis("vault://a"), none("vault"));
        assert_eq!(stores.of_config("consul://a"), none("consul"));
        assert_eq!(stores.of_apis("http://a"), None);
        let message = "Vault has no \"a\": expected `PATH.FIELD`";
        let answer = stores.of_config("vault://a").unwrap().unwrap_err();
        assert_eq!(answer.to_string(), message);
    }
}
