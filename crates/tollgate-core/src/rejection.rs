//! Why a request may not pass.
//!
//! One enum that responses, logs, metrics, hooks and explanations share. It rides in the extensions
//! of the response that refuses. Status codes and messages are Tyk's (spec: error bodies; refusals
//! of limits; access rights).
//!
//! ```
//! use std::time::Duration;
//! use tollgate_core::{Rejection, rejection::LimitOwner};
//!
//! let rejection = Rejection::RateLimited {
//!     limit: LimitOwner::Key,
//!     retry_after: Duration::from_secs(3),
//! };
//! assert_eq!((rejection.code(), rejection.status().as_u16()), ("key_rate_limited", 429));
//! ```

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

/// Why a request may not pass.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Rejection {
    /// No credential came with the request.
    CredentialMissing,
    /// What came can not be a credential: two that differ, or control characters.
    CredentialMalformed,
    /// No session stands behind the token, or its policies make none.
    KeyUnknown,
    /// The session is switched off.
    KeyInactive,
    /// The session's time is over.
    KeyExpired,
    /// The organisation is switched off.
    OrganisationInactive,
    /// A gate needs a session, and no gate before it found one.
    SessionMissing,
    /// The session does not hold this API, or not this version of it.
    ApiNotGranted,
    /// The session holds this API, but not this path with this method.
    PathNotGranted,
    /// The path can be read in two ways, so what is checked might not be what is served.
    PathAmbiguous,
    /// A rate limit is used up.
    RateLimited {
        /// Whose limit.
        limit: LimitOwner,
        /// When the same request would pass; [`Duration::MAX`] for never.
        retry_after: Duration,
    },
    /// A quota is used up.
    QuotaExceeded {
        /// Whose quota.
        limit: LimitOwner,
        /// When the next period starts; `None` where the quota never renews.
        renews_in: Option<Duration>,
    },
    /// A value that should go into a header holds CR, LF, NUL or another control character.
    HeaderValueRefused,
    /// The store gave no answer. This says nothing about the client.
    StoreUnavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The stack is put together wrongly; the text is for the log, the client sees a plain 500.
    Misconfigured(&'static str),
    /// A gate of yours says no; see [`Rejection::custom`].
    Custom(Box<CustomRejection>),
}

// It is handed from function to function with every request, mostly as what it is not.
const _: () = assert!(size_of::<Rejection>() == 24);

/// What a gate of yours says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CustomRejection {
    /// A stable name for metrics and problem documents, as `closed`.
    pub code: Cow<'static, str>,
    /// The status of the response.
    pub status: StatusCode,
    /// What the client reads.
    pub message: Cow<'static, str>,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum LimitOwner {
    /// The session's: its own, its entry's for this API, or its endpoint's.
    Key,
    /// All callers of the API together.
    Api,
    /// All keys of the organisation together.
    Organisation,
    /// A limit that the user of this library made.
    Own,
}

impl LimitOwner {
    /// A stable name: `key`, `api`, `organisation`, `own`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Api => "api",
            Self::Organisation => "organisation",
            Self::Own => "own",
        }
    }
}

impl Rejection {
    /// A rejection of your own.
    pub fn custom(
        code: impl Into<Cow<'static, str>>,
        status: StatusCode,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Custom(Box::new(CustomRejection {
            code: code.into(),
            status,
            message: message.into(),
        }))
    }

    /// A stable name, fit for a metric's label: it never holds anything of the request.
    pub fn code(&self) -> &str {
        match self {
            Self::Custom(custom) => &custom.code,
            ours => ours.own_code(),
        }
    }

    /// The same, for whoever keeps it: a name of ours is not copied.
    pub fn to_code(&self) -> Cow<'static, str> {
        match self {
            Self::Custom(custom) => custom.code.clone(),
            ours => ours.own_code().into(),
        }
    }

    fn own_code(&self) -> &'static str {
        match self {
            Self::CredentialMissing => "credential_missing",
            Self::CredentialMalformed => "credential_malformed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyInactive => "key_inactive",
            Self::KeyExpired => "key_expired",
            Self::OrganisationInactive => "organisation_inactive",
            Self::SessionMissing => "no_session",
            Self::ApiNotGranted => "api_not_granted",
            Self::PathNotGranted => "path_not_granted",
            Self::PathAmbiguous => "path_ambiguous",
            Self::RateLimited { limit, .. } => match limit {
                LimitOwner::Key => "key_rate_limited",
                LimitOwner::Api => "api_rate_limited",
                LimitOwner::Organisation => "organisation_rate_limited",
                LimitOwner::Own => "rate_limited",
            },
            Self::QuotaExceeded { limit, .. } => match limit {
                LimitOwner::Key => "key_quota_exceeded",
                LimitOwner::Api => "api_quota_exceeded",
                LimitOwner::Organisation => "organisation_quota_exceeded",
                LimitOwner::Own => "quota_exceeded",
            },
            Self::HeaderValueRefused => "header_value_refused",
            Self::StoreUnavailable { .. } => "store_unavailable",
            Self::Misconfigured(_) => "misconfigured",
            Self::Custom(_) => "custom", // It has a name of its own.
        }
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::CredentialMissing | Self::KeyExpired => StatusCode::UNAUTHORIZED,
            Self::CredentialMalformed | Self::SessionMissing | Self::PathAmbiguous => {
                StatusCode::BAD_REQUEST
            }
            Self::KeyUnknown
            | Self::KeyInactive
            | Self::OrganisationInactive
            | Self::ApiNotGranted
            | Self::PathNotGranted
            | Self::QuotaExceeded { .. } => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::HeaderValueRefused | Self::Misconfigured(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Custom(custom) => custom.status,
        }
    }

    /// What the client reads: Tyk's words where Tyk has some.
    pub fn message(&self) -> &str {
        match self {
            Self::CredentialMissing => "Authorization field missing",
            Self::CredentialMalformed => "Authorization field malformed",
            Self::KeyUnknown | Self::ApiNotGranted => "Access to this API has been disallowed",
            Self::KeyInactive => "Key is inactive, please renew",
            Self::KeyExpired => "Key has expired, please renew",
            Self::OrganisationInactive => {
                "this organisation access has been disabled, please contact your API administrator"
            }
            Self::SessionMissing => {
                "Session state is missing or unset! Please make sure that auth headers are properly applied"
            }
            Self::PathNotGranted => "Access to this resource has been disallowed",
            Self::PathAmbiguous => "The path of this request is ambiguous",
            Self::RateLimited { limit, .. } => match limit {
                LimitOwner::Api => "API Rate Limit Exceeded",
                LimitOwner::Organisation => {
                    "This organisation rate limit has been exceeded, please contact your API administrator"
                }
                LimitOwner::Key | LimitOwner::Own => "Rate Limit Exceeded",
            },
            Self::QuotaExceeded { limit, .. } => match limit {
                LimitOwner::Organisation => {
                    "This organisation quota has been exceeded, please contact your API administrator"
                }
                LimitOwner::Key | LimitOwner::Api | LimitOwner::Own => "Quota exceeded",
            },
            Self::HeaderValueRefused => "There was a problem proxying the request",
            Self::StoreUnavailable { .. } => "Service temporarily unavailable",
            Self::Misconfigured(_) => "Internal Server Error",
            Self::Custom(custom) => &custom.message,
        }
    }

    /// When the client may come back, for `Retry-After`; `None` where it is never or not known.
    pub fn retry_after(&self) -> Option<Duration> {
        let wait = match self {
            Self::RateLimited { retry_after, .. } | Self::StoreUnavailable { retry_after } => {
                Some(*retry_after)
            }
            Self::QuotaExceeded { renews_in, .. } => *renews_in,
            _ => None,
        };
        wait.filter(|wait| *wait < Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_not_a_client_that_fails() {
        let rejection = Rejection::StoreUnavailable {
            retry_after: Duration::from_secs(1),
        };
        assert_eq!(rejection.status(), 503);
        assert_eq!(rejection.retry_after(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn limits_say_whose_they_are() {
        let rate = |limit| Rejection::RateLimited {
            limit,
            retry_after: Duration::ZERO,
        };
        assert_eq!(rate(LimitOwner::Key).message(), "Rate Limit Exceeded");
        assert_eq!(rate(LimitOwner::Api).message(), "API Rate Limit Exceeded");
        assert_eq!(rate(LimitOwner::Organisation).status(), 429);
        assert_eq!(rate(LimitOwner::Own).code(), "rate_limited");
    }
}
