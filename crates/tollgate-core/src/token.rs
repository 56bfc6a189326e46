//! Tokens: what clients send, how they are made and read, and the names they are stored under.
//!
//! Tyk's tokens have two forms. The *joined* one is the organisation followed by an id. The *JSON*
//! one is the base64 of `{"org":"…","id":"…","h":"…"}`, in which `h` names the function that hashes
//! the token for the store. [`TokenText`] reads both, [`Token::generate`] makes both, and a
//! [`KeyScheme`] says under which names a store is asked for what a client presented.
//!
//! Nothing here rejects a request: a text that can not be a token has no names to be looked up.
//!
//! # Example
//!
//! ```
//! use tollgate_core::{OrgId, token::{HashFunction, KeyScheme, TokenForm}};
//!
//! let org = OrgId::from("default");
//! let scheme = KeyScheme::hashed().with_form(TokenForm::Json(HashFunction::Murmur64));
//!
//! let token = scheme.generate(&org, Some("custom-key"))?;
//! let stored = scheme.storage_key(token.expose());
//! assert_eq!(stored.as_str(), "3b2cb257325cd516");
//!
//! // The client may present the id alone.
//! assert_eq!(scheme.candidates(&org, "custom-key")[0], stored);
//! # Ok::<(), tollgate_core::token::TokenError>(())
//! ```
//!
//! # Which scheme
//!
//! [`KeyScheme::sha256`] is the one for stores that outlive the process: who reads the store can not
//! present what is in it. [`KeyScheme::hashed`] is Tyk's, to share a store with it. Its murmur
//! functions are not made against people who choose what is hashed, and its `murmur32` looks at whole
//! blocks of four bytes alone: of joined tokens, `defaultuser1` and `defaultuser12` are one record.
//! The store holds no token to compare with, so this can not be told apart at look-up; JSON tokens,
//! which have whole blocks, are not touched by it.

mod hash;
mod scheme;
mod text;

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use smallvec::SmallVec;

pub use self::{
    hash::{Digest, HashFunction},
    scheme::{Candidates, KeyScheme, MAX_TOKEN_LENGTH},
    text::{TokenText, is_visible},
};
use crate::ids::{OrgId, Secret};

/// How a new token is written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum TokenForm {
    /// The organisation followed by the id; Tyk calls it legacy.
    #[default]
    Joined,
    /// The base64 of a JSON object that names the function which hashes the token.
    Json(HashFunction),
}

impl TokenForm {
    /// Reads a name of Tyk's setting `hash_key_function`: empty for [`Joined`](Self::Joined),
    /// otherwise the function's.
    ///
    /// `None` for a name that Tyk does not know. It warns then and takes `murmur64`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::Joined);
        }
        HashFunction::from_name(name).map(Self::Json)
    }
}

/// A token: who has it is let in. `Debug` prints nothing of it, and it is wiped when dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Secret);

impl Token {
    /// Makes the token of this organisation and id; with no id, or an empty one, a random token.
    ///
    /// An organisation in front of the id is taken off first, once, as Tyk does: `defaultjohn` of
    /// the organisation `default` is `john`.
    ///
    /// # Errors
    ///
    /// Fails where the id is the organisation itself, where id or organisation hold a character that
    /// would change what the token says, where the token would be longer than [`MAX_TOKEN_LENGTH`]
    /// and so never be looked up, and where the machine has no randomness.
    pub fn generate(org: &OrgId, id: Option<&str>, form: TokenForm) -> Result<Self, TokenError> {
        let id = id.unwrap_or_default();
        if !org.is_empty() && id == org.as_str() {
            return Err(TokenErrorKind::IdIsOrganisation.into());
        }
        if !is_plain(id) {
            return Err(TokenErrorKind::IdNotPlain.into());
        }
        if !is_plain(org.as_str()) {
            return Err(TokenErrorKind::OrganisationNotPlain.into());
        }
        let text = match own_id(org, id) {
            "" => write_token(org, random_id()?.as_str(), form),
            id => write_token(org, id, form),
        };
        if MAX_TOKEN_LENGTH < text.len() {
            return Err(TokenErrorKind::TooLong.into());
        }
        Ok(as_text(&text).into())
    }

    /// The token itself, to be sent or looked up, never printed.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TokenError {
    kind: TokenErrorKind,
    source: Option<getrandom::Error>,
}

/// Why a token could not be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The id is the organisation's, which Tyk would replace by a random one.
    #[error("the id is the name of the organisation")]
    IdIsOrganisation,
    /// The id holds a quote, a backslash or a control character.
    #[error("the id holds a quote, a backslash or a control character")]
    IdNotPlain,
    /// The organisation holds a quote, a backslash or a control character.
    #[error("the organisation holds a quote, a backslash or a control character")]
    OrganisationNotPlain,
    /// The token would be longer than [`MAX_TOKEN_LENGTH`].
    #[error("the token is longer than {MAX_TOKEN_LENGTH} bytes")]
    TooLong,
    /// The machine gave no random bytes.
    #[error("no random bytes")]
    NoRandomness,
}

impl TokenError {
    /// Why the token could not be made.
    pub fn kind(&self) -> TokenErrorKind {
        self.kind
    }
}

impl From<TokenErrorKind> for TokenError {
    fn from(kind: TokenErrorKind) -> Self {
        Self { kind, source: None }
    }
}

/// The text of a token while it is put together. Usual ones need no heap.
type TokenBuffer = SmallVec<[u8; 256]>;

/// Writes a token of an id that is plain, in an organisation that is plain.
fn write_token(org: &OrgId, id: &str, form: TokenForm) -> TokenBuffer {
    let mut text = TokenBuffer::new();
    let TokenForm::Json(function) = form else {
        text.extend_from_slice(org.as_str().as_bytes());
        text.extend_from_slice(id.as_bytes());
        return text;
    };
    let pieces = [
        r#"{"org":""#,
        org.as_str(),
        r#"","id":""#,
        id,
        r#"","h":""#,
        function.name(),
        r#""}"#,
    ];
    let mut json = TokenBuffer::new();
    for piece in pieces {
        json.extend_from_slice(piece.as_bytes());
    }
    text.resize(json.len().div_ceil(3) * 4, 0);
    STANDARD
        .encode_slice(&json, &mut text)
        .expect("four bytes for every three");
    text
}

/// A token's bytes as text.
fn as_text(text: &TokenBuffer) -> &str {
    std::str::from_utf8(text).expect("made of text")
}

/// The id without one organisation in front.
fn own_id<'a>(org: &OrgId, id: &'a str) -> &'a str {
    id.strip_prefix(org.as_str()).unwrap_or(id)
}

/// Whether the text stands for itself between the quotes of a JSON token.
fn is_plain(text: &str) -> bool {
    !text
        .bytes()
        .any(|byte| byte == b'"' || byte == b'\\' || byte.is_ascii_control())
}

fn random_id() -> Result<Digest, TokenError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|err| TokenError {
        kind: TokenErrorKind::NoRandomness,
        source: Some(err),
    })?;
    Ok(Digest::of_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MURMUR64: TokenForm = TokenForm::Json(HashFunction::Murmur64);

    #[track_caller]
    fn check(org: &str, id: &str, form: TokenForm, token: &str) {
        let made = Token::generate(&org.into(), Some(id), form).unwrap();
        assert_eq!(made.expose(), token, "{id:?} of {org:?} as {form:?}");
    }

    #[track_caller]
    fn check_refused(org: &str, id: &str, kind: TokenErrorKind) {
        for form in [TokenForm::Joined, MURMUR64] {
            let refused = Token::generate(&org.into(), Some(id), form).unwrap_err();
            assert_eq!(refused.kind(), kind, "{id:?} of {org:?} as {form:?}");
        }
    }

    #[test]
    fn tokens_are_written_in_both_forms() {
        let john = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjY0In0=";
        check("default", "john", MURMUR64, john);
        check("default", "john", TokenForm::Joined, "defaultjohn");
        check("", "john", TokenForm::Joined, "john");
    }

    #[test]
    fn one_organisation_is_taken_off_the_id() {
        let john = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjY0In0=";
        check("default", "defaultjohn", MURMUR64, john);
        check("default", "default-x", TokenForm::Joined, "default-x");
        check("o", "ooo", TokenForm::Joined, "ooo");
    }

    #[test]
    fn ids_that_would_change_the_token_are_refused() {
        check_refused("default", "default", TokenErrorKind::IdIsOrganisation);
        for id in [
            r#"ca","h":"murmur32","x":""#,
            "a\\b",
            "a\nb",
            "a\0",
            "\u{7f}",
        ] {
            check_refused("default", id, TokenErrorKind::IdNotPlain);
        }
        check_refused("a\"b", "id", TokenErrorKind::OrganisationNotPlain);
    }

    #[test]
    fn a_token_that_is_never_looked_up_is_not_made() {
        let make = |length: usize, form| {
            let made = Token::generate(&"o".into(), Some(&"a".repeat(length)), form);
            made.map(|token| token.expose().len())
                .map_err(|err| err.kind())
        };
        assert_eq!(
            make(MAX_TOKEN_LENGTH - 1, TokenForm::Joined).unwrap(),
            MAX_TOKEN_LENGTH
        );
        let refused = Err(TokenErrorKind::TooLong);
        assert_eq!(make(MAX_TOKEN_LENGTH, TokenForm::Joined), refused);
        assert_eq!(make(3038, MURMUR64).unwrap(), MAX_TOKEN_LENGTH);
        assert_eq!(make(3039, MURMUR64), refused);
    }

    #[test]
    fn no_id_is_a_random_one() {
        let org = OrgId::from("default");
        for id in [None, Some("")] {
            let [one, two] =
                [(); 2].map(|()| Token::generate(&org, id, TokenForm::Joined).unwrap());
            assert_ne!(one, two);
            let digits = one.expose().strip_prefix("default").unwrap();
            assert_eq!(digits.len(), 32);
            assert!(
                digits
                    .bytes()
                    .all(|digit| b"0123456789abcdef".contains(&digit))
            );
        }
    }

    #[test]
    fn names_of_forms() {
        assert_eq!(TokenForm::from_name(""), Some(TokenForm::Joined));
        assert_eq!(TokenForm::from_name("murmur64"), Some(MURMUR64));
        assert_eq!(TokenForm::from_name("nonsense"), None);
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::from("hunter2")), "Token(…)");
    }
}
