//! How passwords of basic-auth users are hashed before they are stored.

use tollgate_core::{Secret, session::BasicAuthData, token::HashFunction};

use crate::answer::Refusal;

/// Tyk's `basic_auth_hash_key_function`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PasswordHash {
    /// bcrypt at cost 10, as Tyk has it: the only one here that is made for passwords.
    #[default]
    Bcrypt,
    /// One that hashes tokens. Whoever reads the store can guess at full speed.
    Plain(HashFunction),
}

impl PasswordHash {
    /// Reads the setting; empty and unknown names are bcrypt.
    pub fn from_name(name: &str) -> Self {
        HashFunction::from_name(name).map_or(Self::Bcrypt, Self::Plain)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bcrypt => "bcrypt",
            Self::Plain(function) => function.name(),
        }
    }

    /// The password's hash. bcrypt takes its time, so it is not computed where requests are served.
    pub(crate) async fn hash(self, password: &Secret) -> Result<BasicAuthData, Refusal> {
        let hashed = match self {
            Self::Plain(function) => function.hash(password.expose()).as_str().into(),
            Self::Bcrypt => {
                let password = password.clone();
                let task = tokio::task::spawn_blocking(move || bcrypt_hash(&password));
                task.await.unwrap_or_else(|_| Err(failed()))?
            }
        };
        Ok(BasicAuthData {
            password: hashed,
            hash_type: self.name().into(),
            ..BasicAuthData::default()
        })
    }
}

const COST: u32 = 10;

/// What bcrypt looks at, in bytes.
const LONGEST: usize = 72;

fn bcrypt_hash(password: &Secret) -> Result<Secret, Refusal> {
    // The rest of a longer one would not be looked at.
    if LONGEST < password.expose().len() {
        let message = "The password is longer than the 72 bytes that bcrypt looks at";
        return Err(Refusal::new(400, message));
    }
    let parts = bcrypt::hash_with_result(password.expose(), COST).map_err(|error| {
        crate::answer::log(&error, "a password could not be hashed");
        failed()
    })?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA).into())
}

fn failed() -> Refusal {
    Refusal::new(500, "Could not hash the password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, hash: &str) {
        let PasswordHash::Plain(function) = PasswordHash::from_name(name) else {
            panic!("{name} is no hash function");
        };
        assert_eq!(function.hash("password").as_str(), hash, "{name}");
    }

    #[test]
    fn names_and_hashes_are_tyks() {
        check("murmur32", "720d69a3");
        check("murmur64", "d5bd0cde2957bf46");
        check("murmur128", "d5bd0cde2957bf464f345112bc5a9590");
        assert_eq!(PasswordHash::from_name(""), PasswordHash::Bcrypt);
        assert_eq!(PasswordHash::from_name("nonsense"), PasswordHash::Bcrypt);
    }

    #[tokio::test]
    async fn bcrypt_is_as_go_writes_it_and_takes_no_more_than_it_looks_at() {
        let hashed = PasswordHash::Bcrypt.hash(&"secret".into()).await.unwrap();
        assert!(hashed.password.expose().starts_with("$2a$10$"));
        assert_eq!(hashed.password.expose().len(), 60);
        assert!(bcrypt::verify("secret", hashed.password.expose()).unwrap());

        let long = Secret::from("x".repeat(73));
        assert!(PasswordHash::Bcrypt.hash(&long).await.is_err());
        let fits = Secret::from("x".repeat(72));
        assert!(PasswordHash::Bcrypt.hash(&fits).await.is_ok());
    }
}
