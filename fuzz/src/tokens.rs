//! Tokens. The first line is an organisation, all behind it what a client presents.

use tollgate_core::{
    OrgId,
    token::{HashFunction, KeyScheme, MAX_TOKEN_LENGTH, Token, TokenForm, TokenText},
};

const FUNCTIONS: [(HashFunction, usize); 4] = [
    (HashFunction::Murmur32, 8),
    (HashFunction::Murmur64, 16),
    (HashFunction::Murmur128, 32),
    (HashFunction::Sha256, 64),
];

/// Checks an organisation and a presented text.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (org, presented) = text.split_once('\n').unwrap_or(("", &text));
    let org = OrgId::from(org);
    check_hashes(presented);
    check_text(presented);
    for form in forms() {
        check_generated(&org, presented, form);
        for scheme in schemes() {
            let scheme = scheme.with_form(form);
            check_names(&scheme, &org, presented);
            check_found(&scheme, &org, presented);
        }
    }
    for scheme in schemes() {
        let scheme = scheme.with_fallbacks(forms()).with_min_length(0);
        check_names(&scheme, &org, presented);
    }
    check_presented_name(&org, presented);
}

fn schemes() -> [KeyScheme; 3] {
    [KeyScheme::plain(), KeyScheme::hashed(), KeyScheme::sha256()]
}

fn forms() -> impl Iterator<Item = TokenForm> {
    let json = FUNCTIONS.map(|(function, _)| TokenForm::Json(function));
    std::iter::once(TokenForm::Joined).chain(json)
}

/// A hash is the same each time, of its length, and of hexadecimal digits.
fn check_hashes(text: &str) {
    for (function, length) in FUNCTIONS {
        assert_eq!(HashFunction::from_name(function.name()), Some(function));
        let hash = function.hash(text);
        assert_eq!(function.hash(text), hash);
        assert_eq!(hash.as_str().len(), length);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(hash.as_str().bytes().all(is_digit));
    }
}

/// What a text says about itself does not depend on when it is asked, and is never printed.
fn check_text(text: &str) {
    let (one, other) = (TokenText::read(text), TokenText::read(text));
    assert_eq!(one.as_str(), text);
    assert_eq!(one.org(), other.org());
    assert_eq!(one.id(), other.id());
    assert_eq!(one.hash_function(), other.hash_function());
    assert!(one.is_json() || one.hash_function().is_none());
    assert_eq!(format!("{one:?}"), "TokenText(…)");
}

/// A token that was made says what it was made of.
fn check_generated(org: &OrgId, id: &str, form: TokenForm) {
    let is_plain =
        |text: &str| !text.contains(|c: char| c.is_ascii_control() || "\"\\".contains(c));
    let is_org = !org.is_empty() && id == org.as_str();
    let Ok(token) = Token::generate(org, Some(id), form) else {
        let fits = id.len() + org.as_str().len() < MAX_TOKEN_LENGTH / 2;
        let is_good = !is_org && is_plain(id) && is_plain(org.as_str()) && fits;
        assert!(!is_good, "{id:?} of {org:?} makes no token");
        return;
    };
    assert!(
        !is_org && is_plain(id) && is_plain(org.as_str()),
        "{id:?} of {org:?}"
    );
    let own = id.strip_prefix(org.as_str()).unwrap_or(id);
    if own.is_empty() {
        return; // It is random.
    }
    let again = Token::generate(org, Some(id), form).expect("was made before");
    assert_eq!(again.expose(), token.expose());
    match form {
        TokenForm::Joined => assert_eq!(token.expose(), format!("{org}{own}")),
        TokenForm::Json(function) => {
            let text = TokenText::read(token.expose());
            assert_eq!(text.org(), Some(org.as_str()));
            assert_eq!(text.id().as_deref(), Some(own));
            assert_eq!(text.hash_function(), Some(function));
        }
    }
}

/// Names are the same each time, never twice the same, never an organisation's; and each is the name
/// of the token that is found under it.
fn check_names(scheme: &KeyScheme, org: &OrgId, presented: &str) {
    let names = scheme.candidates(org, presented);
    assert_eq!(scheme.candidates(org, presented), names);
    let is_long = presented.len() > MAX_TOKEN_LENGTH;
    let is_short = presented.len() < scheme.min_length();
    if is_long || is_short || presented.contains(|c: char| c.is_ascii_control()) {
        assert!(names.is_empty(), "{presented:?} is no token");
    }
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "a name is tried twice");
        assert!(!name.as_str().starts_with("orgkey."), "{presented:?}");
        let token = scheme.found_token(org, presented, name);
        let token = token.expect("every name is that of a token");
        assert!(
            scheme.storage_key(token.expose()) == *name,
            "{presented:?} of {org:?}"
        );
    }
}

/// A token that was made is found by itself, and by its id alone.
fn check_found(scheme: &KeyScheme, org: &OrgId, id: &str) {
    let own = id.strip_prefix(org.as_str()).unwrap_or(id);
    let Ok(token) = scheme.generate(org, Some(id)) else {
        return;
    };
    let token = token.expose();
    // Murmur32 does not see what stands behind whole blocks, so short and longer texts are refused.
    let is_blocks = token.len() >= 4 && !token.starts_with("ey") && !id.starts_with("ey");
    let is_unsafe = !is_blocks && !TokenText::read(token).is_json();
    let name = scheme.storage_key(token);
    if own.is_empty() || is_unsafe || name.as_str().starts_with("orgkey.") {
        return;
    }
    let fits = |text: &str| (scheme.min_length()..=MAX_TOKEN_LENGTH).contains(&text.len());
    if fits(token) {
        assert!(
            scheme.candidates(org, token).contains(&name),
            "{token:?} of {org:?}"
        );
    }
    let is_own = TokenText::read(id).org().unwrap_or_default() == org.as_str();
    if fits(id) && !id.starts_with("ey") && !is_own {
        let first = scheme.candidates(org, id).into_iter().next();
        assert!(first == Some(name), "{id:?} of {org:?}");
    }
}

/// The short way to a name gives what the long one does.
fn check_presented_name(org: &OrgId, presented: &str) {
    let scheme = KeyScheme::plain();
    let names = scheme.candidates(org, presented);
    match scheme.presented_name(org, presented) {
        Some(name) => assert!(matches!(&*names, [only] if only.as_str() == name)),
        None => assert!(!org.is_empty() || names.is_empty(), "{presented:?}"),
    }
}
