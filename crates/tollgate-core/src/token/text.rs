//! What a token says about itself.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::MapAccess};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{HashFunction, scheme::MAX_TOKEN_LENGTH};

/// A presented text, read as a token. Anything can be read; what is not there is `None`.
///
/// The text may have been made up by the client: what it says is who it claims to be, and only the
/// record found under it is to be trusted. `Debug` prints nothing of it.
///
/// ```
/// use tollgate_core::token::{HashFunction, TokenText};
///
/// let token = TokenText::read("eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjY0In0=");
/// assert_eq!(token.org(), Some("default"));
/// assert_eq!(token.id().as_deref(), Some("john"));
/// assert_eq!(token.hash_function(), Some(HashFunction::Murmur64));
/// ```
pub struct TokenText<'a> {
    text: &'a str,
    json: Option<JsonToken>,
}

impl<'a> TokenText<'a> {
    /// Reads a text.
    pub fn read(text: &'a str) -> Self {
        let may_be_json = text.starts_with(JSON_START);
        let json = may_be_json.then(|| JsonToken::decode(text)).flatten();
        Self { text, json }
    }

    /// The organisation the token names: a JSON token's `org`, or else the first 24 bytes of a longer
    /// text if they are hexadecimal digits.
    pub fn org(&self) -> Option<&str> {
        if let Some(org) = self.json.as_ref().and_then(|json| json.org.as_deref()) {
            return std::str::from_utf8(org).ok();
        }
        let (org, id) = self.text.split_at_checked(ORG_LENGTH)?;
        let is_hex = org.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && !id.is_empty()).then_some(org)
    }

    /// The `id` of a JSON token.
    pub fn id(&self) -> Option<String> {
        let json = JsonToken::decode(self.text)?;
        String::from_utf8(json.id?.into_vec()).ok()
    }

    /// The function that a JSON token names, if it is known.
    pub fn hash_function(&self) -> Option<HashFunction> {
        self.json.as_ref().and_then(|json| json.function)
    }

    /// Whether this is a JSON token.
    pub fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// The text itself.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether this is a JSON token and one to three characters more, which `murmur32` does not see.
    pub(super) fn is_json_with_tail(&self) -> bool {
        let whole = self.text.len() / 4 * 4;
        !self.is_json()
            && whole < self.text.len()
            && self
                .text
                .get(..whole)
                .is_some_and(|cut| Self::read(cut).is_json())
    }
}

impl fmt::Debug for TokenText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// Whether a text is made of visible ASCII alone: no space, no control character, nothing that two readers
/// may take for two things.
///
/// ```
/// use tollgate_core::token::is_visible;
///
/// assert!(is_visible(b"53ac07777cbb8c2d53000002joe"));
/// assert!(!is_visible(b"Bearer 53ac07777cbb8c2d53000002joe"));
/// assert!(!is_visible("jo\u{eb}".as_bytes()));
/// ```
#[inline]
pub fn is_visible(text: &[u8]) -> bool {
    if let Some(blocks) = hides_in_blocks::<32>(text) {
        return !blocks;
    }
    let is_hidden = |byte: &u8| !byte.is_ascii_graphic();
    !hides_in_blocks::<8>(text).unwrap_or_else(|| text.iter().any(is_hidden))
}

/// Whether a byte is not visible ASCII, looking at so many in one step; `None` for a shorter text.
#[inline]
fn hides_in_blocks<const N: usize>(text: &[u8]) -> Option<bool> {
    let last = text.last_chunk::<N>()?; // Overlaps the block before, so that no bytes are left over.
    let mut blocks = text.chunks_exact(N);
    Some(hides(last) || blocks.any(|block| block.try_into().is_ok_and(hides::<N>)))
}

#[inline]
fn hides<const N: usize>(block: &[u8; N]) -> bool {
    // All of them, whatever was found: so the processor looks at many at once.
    let found = |found, byte: &u8| found | !byte.is_ascii_graphic();
    block.iter().fold(false, found)
}

/// How the base64 of `{"` begins.
const JSON_START: &str = "ey";

/// The length of the ids that Tyk's dashboard gives to organisations.
const ORG_LENGTH: usize = 24;

/// The members of a JSON token. Usual ones need no heap.
struct JsonToken {
    org: Option<SmallVec<[u8; 32]>>,
    id: Option<SmallVec<[u8; 32]>>,
    function: Option<HashFunction>,
}

impl JsonToken {
    fn decode(text: &str) -> Option<Self> {
        if MAX_TOKEN_LENGTH < text.len() {
            return None;
        }
        let mut json = SmallVec::<[u8; 256]>::new();
        json.resize(text.len().div_ceil(4) * 3, 0);
        let length = STANDARD.decode_slice(text, &mut json).ok()?;
        serde_json::from_slice(&json[..length]).ok()
    }
}

impl<'de> Deserialize<'de> for JsonToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = JsonToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonToken, A::Error> {
        let (mut org, mut id, mut function) = (None, None, None);
        while let Some((name, value)) = map.next_entry::<&str, &RawValue>()? {
            // Of two members with one name Tyk takes the first.
            match name {
                "org" => org = org.or(Some(value)),
                "id" => id = id.or(Some(value)),
                "h" => function = function.or(Some(value)),
                _ => {}
            }
        }
        let bytes = |text: &str| SmallVec::from_slice(text.as_bytes());
        Ok(JsonToken {
            org: org.and_then(plain_text).map(bytes),
            id: id.and_then(plain_text).map(bytes),
            function: function
                .and_then(plain_text)
                .and_then(HashFunction::from_name),
        })
    }
}

/// The text between the quotes; `None` for a value that is not one, and for one with escapes, which
/// no token is made with.
fn plain_text(value: &RawValue) -> Option<&str> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use HashFunction::{Murmur32, Murmur64, Sha256};

    type Said<'a> = (Option<&'a str>, Option<&'a str>, Option<HashFunction>);

    #[track_caller]
    fn check(text: &str, (org, id, function): Said<'_>) {
        let token = TokenText::read(text);
        assert_eq!(token.org(), org, "org of {text}");
        assert_eq!(token.id().as_deref(), id, "id of {text}");
        assert_eq!(token.hash_function(), function, "function of {text}");
    }

    #[track_caller]
    fn check_json(json: &str, said: Said<'_>) {
        check(&STANDARD.encode(json), said);
    }

    #[test]
    fn a_json_token_says_who_it_is() {
        let all = (Some("o"), Some("i"), Some(Murmur64));
        check_json(r#"{"org":"o","id":"i","h":"murmur64"}"#, all);
        check_json(r#"{"h":"murmur64","more":[{}],"id":"i","org":"o"}"#, all);
        check_json(r#"{"org":"","id":"i"}"#, (Some(""), Some("i"), None));
        check_json(r#"{"org":1,"id":null,"h":["sha256"]}"#, (None, None, None));
        check_json(r#"{"org":"o","h":"md5"}"#, (Some("o"), None, None));
    }

    #[test]
    fn the_first_of_two_members_counts() {
        let json = r#"{"org":"o","id":"ca","h":"murmur32","x":"","h":"murmur64"}"#;
        check_json(json, (Some("o"), Some("ca"), Some(Murmur32)));
        let json = r#"{"org":"a","org":"b","id":"i","h":"sha256"}"#;
        check_json(json, (Some("a"), Some("i"), Some(Sha256)));
    }

    #[test]
    fn what_is_no_json_token_says_nothing() {
        let nothing = (None, None, None);
        check("", nothing);
        check("ey", nothing);
        check("eyJ", nothing);
        check("ey.ey.ey", nothing);
        check("eyJvcmciOiJkZWZhdWx0In0", nothing); // The padding is missing.
        check_json(r#"{"org":"o""#, nothing);
        check_json(r#"{"org":"o"}x"#, nothing);
        check_json(r#"{"\u006frg":"o"}"#, nothing);
        check_json("[]", nothing);
    }

    #[test]
    fn the_id_is_read_whatever_the_json_starts_with() {
        check_json("\n{\"org\":\"o\",\"id\":\"i\"}", (None, Some("i"), None));
    }

    #[test]
    fn the_first_24_hexadecimal_digits_are_the_organisation() {
        let org = "53ac07777cbb8c2d53000002";
        check(&format!("{org}6fa4"), (Some(org), None, None));
        check(&format!("{org}x"), (Some(org), None, None));
        check(org, (None, None, None));
        check(
            "53AC07777CBB8C2D53000002x",
            (Some("53AC07777CBB8C2D53000002"), None, None),
        );
        check("53ac07777cbb8c2d5300000xx", (None, None, None));
        check("53ac07777cbb8c2d530000é00", (None, None, None));
    }

    #[test]
    fn a_tail_is_told_from_a_token() {
        let token = STANDARD.encode(r#"{"org":"o","id":"i","h":"murmur32"}"#);
        for (tail, told) in [
            ("", false),
            ("a", true),
            ("abc", true),
            ("=", true),
            ("abcd", false),
        ] {
            let text = format!("{token}{tail}");
            assert_eq!(TokenText::read(&text).is_json_with_tail(), told, "{tail:?}");
        }
        assert!(!TokenText::read("custom-key").is_json_with_tail());
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", TokenText::read("hunter2")), "TokenText(…)");
    }
}
