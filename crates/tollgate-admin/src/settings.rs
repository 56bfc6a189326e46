//! What the control API is told when it is built.

use std::{fmt, sync::Arc};

use tollgate_core::{
    Clock, Secret, access::MasterKeys, clock::MachineClock, limits::Algorithm,
    policy::PolicyOptions,
};

use crate::password::PasswordHash;

/// The secret that Tyk writes into a configuration of its own. Everybody knows it.
pub const DEFAULT_SECRET: &str = "352d20ee67be67f6340b4c0605b044b7";

/// Settings of the control API. Where one is Tyk's, the field says its name.
#[derive(Clone)]
pub struct Settings {
    /// `secret`: what `X-Tyk-Authorization` must say.
    pub secret: Secret,
    /// Whether a secret that is empty or [`DEFAULT_SECRET`] may be built with.
    pub weak_secret: WeakSecret,
    /// `control_api_hostname`: the one host that is answered; `None` for any.
    pub hostname: Option<String>,
    /// `enable_hashed_keys_listing`: whether keys are listed where the store has their hashes.
    pub hashed_keys_listing: bool,
    /// `allow_master_keys`.
    pub master_keys: MasterKeys,
    /// `disable_key_actions_by_username`, turned round: whether a key may be named by its id.
    pub actions_by_username: bool,
    /// `basic_auth_hash_key_function`.
    pub password_hash: PasswordHash,
    /// `global_session_lifetime` in seconds, where `force_global_session_lifetime` is set.
    pub forced_lifetime: Option<i64>,
    /// `session_lifetime_respects_key_expiration`.
    pub lifetime_respects_expiry: bool,
    /// `suppress_default_org_store`, turned round: whether an organisation's record can be written
    /// while no API is loaded.
    pub default_org_store: bool,
    /// `health_check.enable_health_checks`, for `/tyk/health`.
    pub health_checks: bool,
    /// Whether policies in a key's own `meta_data` count; as in [`PolicyOptions`].
    pub allow_inline_policies: bool,
    /// Whether a `per_api` policy does not switch on signatures; as in [`PolicyOptions`].
    pub ignore_per_api_signatures: bool,
    /// Whether members that the record of Tyk 5.6 does not have are dropped from what is sent, `post_expiry_…`
    /// among them; those of stored records always stay. Otherwise they are stored, and followed.
    pub drop_unknown_members: bool,
    /// Whether a key with an id below `min_token_length` is refused. It can not be presented by that id,
    /// only by the token that the answer shows.
    pub refuse_short_ids: bool,
    /// Whether a key's `quota_renews` tells the end of a period in which there was one request. In
    /// Tyk it tells the time of that request.
    pub exact_quota_reset: bool,
    /// How windows of rates are kept, for telling usage.
    pub algorithm: Algorithm,
    /// `health_check_endpoint_name`, with its slash.
    pub hello_path: String,
    /// `readiness_check_endpoint_name`, with its slash; `None` for none.
    pub ready_path: Option<String>,
    /// What `/hello` says it is.
    pub version: String,
    /// The longest body that is read, in bytes.
    pub max_body: usize,
    /// How many names `GET /tyk/keys` tells at most; it has no pages.
    pub max_listed: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Whether a secret that is none may be built with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WeakSecret {
    /// No.
    #[default]
    Refuse,
    /// Yes: the default one lets in whoever knows it, an empty one nobody.
    Allow,
}

/// The control API can not be built.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no secret.
    #[error("the control API has no secret")]
    NoSecret,
    /// The secret is the one that Tyk's documents show.
    #[error("the control API's secret is the default one, which everybody knows")]
    DefaultSecret,
}

impl Settings {
    /// This secret, and Tyk's defaults.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self {
            secret: secret.into(),
            weak_secret: WeakSecret::Refuse,
            hostname: None,
            hashed_keys_listing: false,
            master_keys: MasterKeys::Refused,
            actions_by_username: true,
            password_hash: PasswordHash::Bcrypt,
            forced_lifetime: None,
            lifetime_respects_expiry: false,
            default_org_store: true,
            health_checks: false,
            allow_inline_policies: false,
            ignore_per_api_signatures: false,
            drop_unknown_members: false,
            refuse_short_ids: true,
            exact_quota_reset: true,
            algorithm: Algorithm::default(),
            hello_path: "/hello".into(),
            ready_path: Some("/ready".into()),
            version: concat!("tollgate ", env!("CARGO_PKG_VERSION")).into(),
            max_body: 4 << 20,
            max_listed: 1_000_000,
            clock: Arc::new(MachineClock),
        }
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        match (self.weak_secret, self.secret.expose()) {
            (WeakSecret::Refuse, "") => Err(BuildError::NoSecret),
            (WeakSecret::Refuse, DEFAULT_SECRET) => Err(BuildError::DefaultSecret),
            _ => Ok(()),
        }
    }

    /// How policies are applied where no API is given.
    pub(crate) fn policy_options(&self) -> PolicyOptions {
        PolicyOptions {
            allow_inline_policies: self.allow_inline_policies,
            organisations: tollgate_core::access::Organisations::Mixed,
            ignore_per_api_signatures: self.ignore_per_api_signatures,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("secret", &self.secret)
            .field("hostname", &self.hostname)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(secret: &str, weak_secret: WeakSecret, expected: Result<(), BuildError>) {
        let settings = Settings {
            weak_secret,
            ..Settings::new(secret)
        };
        assert_eq!(settings.check(), expected, "{secret:?}");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_unless_told_so() {
        check("of my own", WeakSecret::Refuse, Ok(()));
        check("", WeakSecret::Refuse, Err(BuildError::NoSecret));
        check(
            DEFAULT_SECRET,
            WeakSecret::Refuse,
            Err(BuildError::DefaultSecret),
        );
        check("", WeakSecret::Allow, Ok(()));
        check(DEFAULT_SECRET, WeakSecret::Allow, Ok(()));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", Settings::new("hunter2")).contains("hunter2"));
    }
}
