//! From what a client presents to the names a store is asked for.

use smallvec::SmallVec;

use super::{
    HashFunction, Token, TokenBuffer, TokenError, TokenForm, TokenText, as_text, is_plain,
    is_visible, own_id, write_token,
};
use crate::{ids::OrgId, store::StorageKey};

/// The longest text that is looked up as a token, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 4096;

/// The names under which a presented token may be stored, to be tried in order.
pub type Candidates = SmallVec<[StorageKey; 2]>;

/// How tokens are written, and under which names they are stored.
///
/// See the [module docs](crate::token) for an example and for which one to take.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyScheme {
    names: Names,
    form: TokenForm,
    fallbacks: Vec<TokenForm>,
    min_length: usize,
    takes_ids: bool,
}

/// How the name in the store is made of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Names {
    Plain,
    ByToken,
    Sha256,
}

/// One of the texts that a presented one may be stored as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    AsPresented,
    AsIdOf(TokenForm),
}

impl KeyScheme {
    /// Stores tokens under themselves: Tyk's `hash_keys: false`. Who can list the store can present
    /// what it holds.
    pub fn plain() -> Self {
        Self::with_names(Names::Plain)
    }

    /// Stores tokens as Tyk's `hash_keys: true` does: a JSON token under the hash it names itself,
    /// anything else under `murmur32`.
    pub fn hashed() -> Self {
        Self::with_names(Names::ByToken)
    }

    /// Stores every token under its SHA-256, whatever it says about itself.
    pub fn sha256() -> Self {
        Self::with_names(Names::Sha256)
    }

    fn with_names(names: Names) -> Self {
        Self {
            names,
            form: TokenForm::default(),
            fallbacks: Vec::new(),
            min_length: 3,
            takes_ids: true,
        }
    }

    /// Writes new tokens in this form, and looks for an id presented alone in it: Tyk's
    /// `hash_key_function`.
    pub fn with_form(mut self, form: TokenForm) -> Self {
        self.form = form;
        self
    }

    /// Looks for an id presented alone in these forms too: Tyk's `hash_key_function_fallback`.
    pub fn with_fallbacks(mut self, forms: impl IntoIterator<Item = TokenForm>) -> Self {
        self.fallbacks = forms.into_iter().collect();
        self
    }

    /// Looks up no text shorter than this many bytes: Tyk's `min_token_length`, 3 if not set.
    pub fn with_min_length(mut self, min_length: usize) -> Self {
        self.min_length = min_length;
        self
    }

    /// Looks for no id presented alone: a token is presented whole. Tyk's
    /// `disable_key_actions_by_username`.
    pub fn without_ids(mut self) -> Self {
        self.takes_ids = false;
        self
    }

    /// The shortest text that is looked up, in bytes. A shorter id would be made in vain.
    pub fn min_length(&self) -> usize {
        self.min_length
    }

    /// Makes a token in the form for new ones; see [`Token::generate`].
    ///
    /// # Errors
    ///
    /// As [`Token::generate`].
    pub fn generate(&self, org: &OrgId, id: Option<&str>) -> Result<Token, TokenError> {
        Token::generate(org, id, self.form)
    }

    /// The name under which this token is stored.
    pub fn storage_key(&self, token: &str) -> StorageKey {
        self.key_of(&TokenText::read(token))
    }

    /// The names under which what a client presented to an API of `org` may be stored, in order and
    /// without repetition. None for what can not be a token.
    ///
    /// A token of `org` has its own name alone. Anything else may be an id of `org`, in the form for
    /// new tokens; a token of its own; or an id in one of the fall-back forms.
    pub fn candidates(&self, org: &OrgId, presented: &str) -> Candidates {
        let token = TokenText::read(presented);
        let mut candidates = Candidates::new();
        let readings = self.readings(org, &token).into_iter();
        for candidate in readings.filter_map(|reading| self.key_as(org, &token, reading)) {
            let name = candidate.as_bytes();
            let of_organisation = name.starts_with(StorageKey::ORGANISATION.as_bytes());
            if !of_organisation && !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    /// Whether what is presented to an API of `org` is itself the one name to try: a plain scheme, and no
    /// organisation to put before it.
    #[inline]
    pub fn is_by_presented(&self, org: &OrgId) -> bool {
        let is_plain = self.names == Names::Plain && self.form == TokenForm::Joined;
        is_plain && self.fallbacks.is_empty() && org.is_empty()
    }

    /// The one name to try where it is [the presented text itself](Self::is_by_presented). It is what
    /// [`candidates`](Self::candidates) gives, without making a list.
    #[inline]
    pub fn presented_name<'a>(&self, org: &OrgId, presented: &'a str) -> Option<&'a str> {
        let fits = self.min_length <= presented.len() && presented.len() <= MAX_TOKEN_LENGTH;
        let is_token = self.is_by_presented(org)
            && fits
            && !has_control(presented)
            && !presented.starts_with(StorageKey::ORGANISATION);
        is_token.then_some(presented)
    }

    /// The token that was found: of all that `presented` may stand for, the one stored under `found`.
    ///
    /// Tyk uses it in place of the presented text from then on.
    pub fn found_token(&self, org: &OrgId, presented: &str, found: &StorageKey) -> Option<Token> {
        let token = TokenText::read(presented);
        let reading = self
            .readings(org, &token)
            .into_iter()
            .find(|reading| self.key_as(org, &token, *reading).as_ref() == Some(found))?;
        Some(match reading {
            Reading::AsPresented => presented.into(),
            Reading::AsIdOf(form) => as_text(&as_id(org, presented, form)).into(),
        })
    }

    /// The name of the token that is read so; `None` where it would be longer than any that is made.
    fn key_as(&self, org: &OrgId, token: &TokenText<'_>, reading: Reading) -> Option<StorageKey> {
        let Reading::AsIdOf(form) = reading else {
            return Some(self.key_of(token));
        };
        let text = as_id(org, token.as_str(), form);
        if MAX_TOKEN_LENGTH < text.len() {
            return None;
        }
        Some(match form {
            TokenForm::Json(function) => self.key_by(function, as_text(&text)),
            TokenForm::Joined => self.storage_key(as_text(&text)),
        })
    }

    fn key_of(&self, token: &TokenText<'_>) -> StorageKey {
        let function = token.hash_function().unwrap_or(HashFunction::Murmur32);
        self.key_by(function, token.as_str())
    }

    /// The name of a token that says it is hashed with `function`.
    fn key_by(&self, function: HashFunction, text: &str) -> StorageKey {
        match self.names {
            Names::Plain => text.into(),
            Names::ByToken => function.hash(text).into(),
            Names::Sha256 => HashFunction::Sha256.hash(text).into(),
        }
    }

    fn readings(&self, org: &OrgId, token: &TokenText<'_>) -> SmallVec<[Reading; 2]> {
        if !self.admits(token) {
            return SmallVec::new();
        }
        let is_own = token.org().unwrap_or_default() == org.as_str();
        let may_be_id = self.takes_ids && !is_own;
        let mut readings = SmallVec::new();
        if may_be_id {
            readings.push(Reading::AsIdOf(self.form));
        }
        readings.push(Reading::AsPresented);
        if may_be_id {
            readings.extend(self.fallbacks.iter().copied().map(Reading::AsIdOf));
        }
        readings.retain(|reading| self.can_be_stored(org, token, *reading));
        readings
    }

    /// Whether the text can be a token at all.
    fn admits(&self, token: &TokenText<'_>) -> bool {
        let length = token.as_str().len();
        let fits = self.min_length <= length && length <= MAX_TOKEN_LENGTH;
        // `murmur32` hashes a token with a tail as the token, which is not what was presented.
        let is_another = self.names == Names::ByToken && token.is_json_with_tail();
        fits && !is_another && !has_control(token.as_str())
    }

    /// Whether there can be a token that is read so.
    fn can_be_stored(&self, org: &OrgId, token: &TokenText<'_>, reading: Reading) -> bool {
        let text = token.as_str();
        match reading {
            Reading::AsIdOf(TokenForm::Json(_)) => {
                let id = own_id(org, text);
                !id.is_empty() && is_plain(id) && is_plain(org.as_str())
            }
            // With its organisation in front, it is the text as it was presented.
            Reading::AsIdOf(TokenForm::Joined) => {
                let is_alone = !text.is_empty() && !text.starts_with(org.as_str());
                is_alone && self.tells_apart(org.as_str().len() + text.len())
            }
            Reading::AsPresented => self.tells_apart(text.len()),
        }
    }

    /// Whether texts of this length that differ can have different names: `murmur32` gives all that
    /// are shorter than a block the same.
    fn tells_apart(&self, length: usize) -> bool {
        self.names != Names::ByToken || 4 <= length
    }
}

/// Whether a text holds a control character. Most are told at once to hold none.
#[inline]
fn has_control(text: &str) -> bool {
    !is_visible(text.as_bytes()) && text.bytes().any(|byte| byte.is_ascii_control())
}

/// The token of an id that was presented alone, or with its organisation in front.
fn as_id(org: &OrgId, presented: &str, form: TokenForm) -> TokenBuffer {
    write_token(org, own_id(org, presented), form)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_control_character_is_found(text in "[\\x00-\\x21\\x7e-\u{82}ab]{0,20}") {
            prop_assert_eq!(has_control(&text), text.bytes().any(|byte| byte.is_ascii_control()));
        }
    }
}
