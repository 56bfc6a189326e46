//! Tokens, their hashes and the names they are looked up by.

use proptest::prelude::*;
use serde_json::Value;
use tollgate_core::{
    OrgId,
    token::{HashFunction, KeyScheme, MAX_TOKEN_LENGTH, Token, TokenForm, TokenText},
};

const MADE_KEYS: &str = include_str!("../fixtures/made_keys.json");

const ORG: &str = "53ac07777cbb8c2d53000002";
const ID: &str = "6fa459eaee8a3ca4894edb77e160355e";

const FUNCTIONS: [HashFunction; 4] = [
    HashFunction::Murmur32,
    HashFunction::Murmur64,
    HashFunction::Murmur128,
    HashFunction::Sha256,
];

fn hashed(form: &str) -> KeyScheme {
    KeyScheme::hashed().with_form(TokenForm::from_name(form).unwrap())
}

/// The token of an id, and the name it is stored under.
#[track_caller]
fn check(form: &str, org: &str, id: &str, (token, name): (&str, &str)) {
    let scheme = hashed(form);
    let made = scheme.generate(&org.into(), Some(id)).unwrap();
    assert_eq!(made.expose(), token, "{form} token of {id} of {org}");
    assert_eq!(scheme.storage_key(token).as_str(), name, "name of {token}");
}

/// What is presented to an API of `org` is looked up under the names of these tokens, in order.
#[track_caller]
fn check_lookup(scheme: &KeyScheme, org: &str, presented: &str, tokens: &[&str]) {
    let names: Vec<_> = tokens
        .iter()
        .map(|token| scheme.storage_key(token))
        .collect();
    let candidates = scheme.candidates(&org.into(), presented);
    let texts = |names: &[tollgate_core::store::StorageKey]| -> Vec<_> {
        names.iter().map(|name| name.as_str().to_owned()).collect()
    };
    assert_eq!(
        texts(&candidates),
        texts(&names),
        "{presented:?} to {org:?}"
    );
    for (token, name) in tokens.iter().zip(&names) {
        let found = scheme.found_token(&org.into(), presented, name);
        assert_eq!(
            found,
            Some(Token::from(*token)),
            "{presented:?} found as {token}"
        );
    }
}

#[test]
fn published_tokens_have_their_published_hashes() {
    let murmur = |token: &str| KeyScheme::hashed().storage_key(token).as_str().to_owned();
    let legacy = "default3349f3ea7d734d2b88e4d1e6baebcf89";
    assert_eq!(murmur(legacy), "8bcf94d4");
    assert_eq!(
        HashFunction::Murmur64.hash(legacy).as_str(),
        "917f6e56a9ad2c3c"
    );
    let json = "eyJvcmciOiI1ZTlkOTU0NGExZGNkNjAwMDFkMGVkMjAiLCJpZCI6ImdycGNfaG1hY19rZXkiLCJoIjoibXVybXVyNjQifQ==";
    assert_eq!(murmur(json), "a72fcdc09caa86b5");
    assert_eq!(murmur("default0987876"), "da6c6c0b");
    assert_eq!(
        HashFunction::Murmur64.hash("default0987876").as_str(),
        "47f306fb7e97d000"
    );
    assert_eq!(
        murmur("6492f66e6ebbc56c6a6bf022657c162274933214b91ea570"),
        "5243b0d7"
    );
}

#[test]
fn a_token_of_an_organisation_has_a_form_and_a_hash_for_every_function() {
    let json = |end: &str| {
        let start = "eyJvcmciOiI1M2FjMDc3NzdjYmI4YzJkNTMwMDAwMDIiLCJpZCI6IjZmYTQ1OWVhZWU4YTNjYTQ4OTRlZGI3N2UxNjAzNTVl";
        format!("{start}{end}")
    };
    check("", ORG, ID, (&format!("{ORG}{ID}"), "1e3e6c7e"));
    check(
        "murmur32",
        ORG,
        ID,
        (&json("IiwiaCI6Im11cm11cjMyIn0="), "af23482f"),
    );
    check(
        "murmur64",
        ORG,
        ID,
        (&json("IiwiaCI6Im11cm11cjY0In0="), "faa5732e15ddd926"),
    );
    let murmur128 = (
        &*json("IiwiaCI6Im11cm11cjEyOCJ9"),
        "edfce1a294ce634c360cf7d607f3007c",
    );
    check("murmur128", ORG, ID, murmur128);
    let name = "d76ed3e4e31d4fd850be45e7deb2b3987647f8275d7deda520571b5469df483e";
    check("sha256", ORG, ID, (&json("IiwiaCI6InNoYTI1NiJ9"), name));
}

#[test]
fn custom_keys_users_and_identities_have_their_tokens() {
    let json = |end: &str| format!("eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJjdXN0b20ta2V5IiwiaCI6{end}");
    let id = "custom-key";
    check("", "default", id, ("defaultcustom-key", "899c9f01"));
    check(
        "murmur32",
        "default",
        id,
        (&json("Im11cm11cjMyIn0="), "92905fa8"),
    );
    check(
        "murmur64",
        "default",
        id,
        (&json("Im11cm11cjY0In0="), "3b2cb257325cd516"),
    );
    let murmur128 = (
        &*json("Im11cm11cjEyOCJ9"),
        "150bc9b11b4afc202ceac7e8117e0b7b",
    );
    check("murmur128", "default", id, murmur128);
    let name = "4927c38430af2b8f31517fdb7fb470e62bf0bce6eaf4c39a873682fe87a6e7f6";
    check("sha256", "default", id, (&json("InNoYTI1NiJ9"), name));

    let john = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjY0In0=";
    check("murmur64", "default", "john", (john, "c3190e4f3bccc002"));
    check(
        "murmur64",
        "default",
        "defaultjohn",
        (john, "c3190e4f3bccc002"),
    );
    check("", "default", "john", ("defaultjohn", "251472a1"));

    let org = "6492f66e6ebbc56c6a6bf022";
    let long = Token::generate(
        &org.into(),
        Some("12345678901234567890123459"),
        TokenForm::Json(HashFunction::Murmur64),
    );
    let name = KeyScheme::hashed().storage_key(long.unwrap().expose());
    assert_eq!(name.as_str(), "b3f0b079a4ff2de3");
    let identity = hashed("murmur64")
        .generate(&"default".into(), Some("ee11cbb19052e40b07aac0ca060c23ee"))
        .unwrap();
    let name = KeyScheme::hashed().storage_key(identity.expose());
    assert_eq!(name.as_str(), "b14fd860a8ca9a0a");
}

/// Keys that Tyk made: its answer names the token and the name in the store.
#[test]
fn keys_that_tyk_made_are_made_and_found_the_same() {
    let made_keys: Vec<Value> = serde_json::from_str(MADE_KEYS).unwrap();
    let mut checked = 0;
    for made in &made_keys {
        let text = |member: &str| made[member].as_str().unwrap_or_default();
        let (org, id) = (OrgId::from(text("org_id")), text("id"));
        let unknown = TokenForm::Json(HashFunction::Murmur64);
        let form = TokenForm::from_name(text("hash_key_function")).unwrap_or(unknown);
        let is_hashed = made["hash_keys"] == true;
        let scheme = if is_hashed {
            KeyScheme::hashed()
        } else {
            KeyScheme::plain()
        };
        let scheme = scheme.with_form(form);
        let Ok(token) = scheme.generate(&org, Some(id)) else {
            assert_eq!(text("case"), "ca-create-quote-id"); // Refused: it changes what the token says.
            continue;
        };
        if !text("key").is_empty() {
            assert_eq!(token.expose(), text("key"), "{made}"); // Names of users are not told.
        }
        let name = scheme.storage_key(token.expose());
        let expected = if is_hashed {
            text("key_hash")
        } else {
            text("key")
        };
        assert_eq!(name.as_str(), expected, "{made}");
        let is_long_enough = scheme.min_length() <= id.len();
        // Without an organisation every text is a token of its own, and never an id.
        if is_long_enough && !org.is_empty() {
            assert_eq!(scheme.candidates(&org, id).first(), Some(&name), "{made}");
        }
        assert_eq!(
            scheme.candidates(&org, token.expose()).first(),
            Some(&name),
            "{made}"
        );
        checked += 1;
    }
    assert!(80 < checked);
}

#[test]
fn a_token_of_the_organisation_has_one_name() {
    let john = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjY0In0=";
    check_lookup(&hashed("murmur64"), "default", john, &[john]);
    check_lookup(&hashed("sha256"), "default", john, &[john]);
    check_lookup(&KeyScheme::plain(), "default", john, &[john]);
    let joined = format!("{ORG}{ID}");
    check_lookup(&hashed("murmur64"), ORG, &joined, &[&joined]);
}

#[test]
fn an_id_is_looked_up_as_id_then_as_token_then_in_older_forms() {
    let token = |form: &str| {
        hashed(form)
            .generate(&"default".into(), Some("st-fw"))
            .unwrap()
    };
    let (now, old) = (token("sha256"), token("murmur64"));
    let fallbacks = [TokenForm::Json(HashFunction::Murmur64), TokenForm::Joined];
    let scheme = hashed("sha256").with_fallbacks(fallbacks);
    let tokens = [now.expose(), "st-fw", old.expose(), "defaultst-fw"];
    check_lookup(&scheme, "default", "st-fw", &tokens);
    let names = scheme.candidates(&"default".into(), "st-fw");
    assert!(names[0].as_str().starts_with("687128c878c12b21"));
    assert_eq!(names[2].as_str(), "4b98e1e63bab7f4f");

    let imported = hashed("murmur64").candidates(&"default".into(), "st-imported-raw-key");
    assert_eq!(
        [imported[0].as_str(), imported[1].as_str()],
        ["a49c1ab0e17547e2", "5ea6bd7e"]
    );
}

#[test]
fn names_are_not_repeated() {
    check_lookup(&KeyScheme::plain(), "", "my-key", &["my-key"]);
    let org_first = format!("{ORG}x");
    check_lookup(&KeyScheme::plain(), "", &org_first, &[&org_first]);
    check_lookup(&KeyScheme::plain(), "default", "defaultx", &["defaultx"]);
    let scheme = KeyScheme::plain().with_fallbacks([TokenForm::Joined]);
    check_lookup(&scheme, "default", "key", &["defaultkey", "key"]);
}

#[test]
fn sha256_hashes_every_token_whatever_it_says() {
    let scheme = KeyScheme::sha256();
    let john = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJqb2huIiwiaCI6Im11cm11cjMyIn0=";
    for token in [john, "my-key", "defaultjohn"] {
        let name = HashFunction::Sha256.hash(token);
        assert_eq!(scheme.storage_key(token).as_str(), name.as_str());
    }
    check_lookup(&scheme, "", "my-key", &["my-key"]);
    check_lookup(&scheme, "default", john, &[john]);
}

#[test]
fn texts_too_short_or_too_long_are_not_looked_up() {
    let long = "x".repeat(MAX_TOKEN_LENGTH);
    let too_long = format!("{long}x");
    for scheme in [KeyScheme::plain(), KeyScheme::sha256()] {
        check_lookup(&scheme, "", "ab", &[]);
        check_lookup(&scheme, "", "abc", &["abc"]);
        check_lookup(&scheme, "", &long, &[&long]);
        check_lookup(&scheme, "", &too_long, &[]);
        let scheme = scheme.with_min_length(5);
        check_lookup(&scheme, "", "abcd", &[]);
        check_lookup(&scheme, "", "abcde", &["abcde"]);
    }
    check_lookup(&KeyScheme::hashed(), "default", "", &[]);
    check_lookup(&KeyScheme::plain(), "default", "default", &["default"]);
    check_lookup(&KeyScheme::plain().with_min_length(0), "default", "", &[""]);
}

#[test]
fn an_id_with_its_organisation_in_front_is_one_token() {
    for scheme in [KeyScheme::plain(), KeyScheme::hashed(), KeyScheme::sha256()] {
        check_lookup(&scheme, "default", "john", &["defaultjohn", "john"]);
        check_lookup(&scheme, "default", "defaultjohn", &["defaultjohn"]);
        let scheme = scheme.with_fallbacks([TokenForm::Joined]);
        check_lookup(&scheme, "default", "defaultjohn", &["defaultjohn"]);
    }
}

// The attacks on tokens, by their numbers in the list of attacks.

#[test]
fn attack_4_control_characters_are_not_looked_up() {
    for text in ["a-key\0", "a-key\r\n", "\na-key", "a\tkey", "a-key\u{7f}"] {
        for scheme in [KeyScheme::plain(), hashed("murmur64"), KeyScheme::sha256()] {
            check_lookup(&scheme, "default", text, &[]);
        }
    }
}

#[test]
fn attack_7_the_hash_of_a_key_does_not_find_it() {
    let org = OrgId::from("default");
    for form in ["", "murmur32", "murmur64", "murmur128", "sha256"] {
        let with_functions = hashed(form);
        let all_sha256 = KeyScheme::sha256().with_form(TokenForm::from_name(form).unwrap());
        for scheme in [with_functions, all_sha256] {
            for id in ["custom-key", ID, "john"] {
                let token = scheme.generate(&org, Some(id)).unwrap();
                let name = scheme.storage_key(token.expose());
                for presented in [
                    name.as_str().to_owned(),
                    format!("default{}", name.as_str()),
                ] {
                    assert!(
                        !scheme.candidates(&org, &presented).contains(&name),
                        "{form}: {id}"
                    );
                }
            }
        }
    }
}

#[test]
fn attack_8_the_prefix_of_another_organisation_changes_the_name() {
    let other = "6492f66e6ebbc56c6a6bf022";
    let stored = format!("{ORG}{ID}");
    for scheme in [KeyScheme::plain(), hashed("murmur64"), KeyScheme::sha256()] {
        let name = scheme.storage_key(&stored);
        let forged = format!("{other}{ID}");
        for org in [ORG, other, "", "default"] {
            assert!(
                !scheme.candidates(&org.into(), &forged).contains(&name),
                "{org}"
            );
        }
    }
}

#[test]
fn attack_9_an_altered_json_token_has_another_name() {
    let org = OrgId::from("default");
    for function in FUNCTIONS {
        let make = |org: &str, id: &str, function: HashFunction| {
            let form = TokenForm::Json(function);
            Token::generate(&org.into(), Some(id), form).unwrap()
        };
        let scheme = KeyScheme::hashed().with_form(TokenForm::Json(function));
        let name = scheme.storage_key(make("default", "alice", function).expose());
        let other = FUNCTIONS
            .into_iter()
            .find(|other| *other != function)
            .unwrap();
        for forged in [
            make("default", "alicf", function),
            make("defaulu", "alice", function),
            make("", "alice", function),
            make("default", "alice", other),
        ] {
            let candidates = scheme.candidates(&org, forged.expose());
            assert!(!candidates.contains(&name), "{function:?}");
        }
    }
}

#[test]
fn attack_10_a_key_that_starts_another_is_another() {
    for scheme in [KeyScheme::plain(), hashed("murmur64"), KeyScheme::sha256()] {
        let org = OrgId::from("default");
        let long = scheme.candidates(&org, "custom-key-1");
        let short = scheme.candidates(&org, "custom-key");
        assert!(!long.iter().any(|name| short.contains(name)));
    }
}

#[test]
fn attack_11_a_murmur32_token_with_a_tail_is_not_looked_up() {
    let token = "eyJvcmciOiJkZWZhdWx0IiwiaWQiOiJjdXN0b20ta2V5IiwiaCI6Im11cm11cjMyIn0=";
    let scheme = hashed("murmur32");
    let name = scheme.storage_key(token);
    check_lookup(&scheme, "default", token, &[token]);
    for tail in ["a", "ab", "abc", "=", "é"] {
        let presented = format!("{token}{tail}");
        assert_eq!(
            scheme.storage_key(&presented),
            name,
            "the function does not see {tail}"
        );
        for org in ["default", "other", ""] {
            check_lookup(&scheme, org, &presented, &[]);
        }
    }
    let presented = format!("{token}abcd");
    assert!(
        !scheme
            .candidates(&"default".into(), &presented)
            .contains(&name)
    );
}

#[test]
fn attack_11_texts_shorter_than_a_block_have_no_murmur32_name() {
    assert_eq!(KeyScheme::hashed().storage_key("abc").as_str(), "00000000");
    check_lookup(&KeyScheme::hashed(), "", "abc", &[]);
    check_lookup(&KeyScheme::hashed(), "default", "abc", &["defaultabc"]);
    check_lookup(&KeyScheme::hashed(), "", "abcd", &["abcd"]);
}

#[test]
fn attack_11_an_id_can_not_choose_its_function() {
    let id = r#"ca","h":"murmur32","x":""#;
    check_lookup(&hashed("murmur64"), "default", id, &[id]);
    assert!(
        hashed("murmur64")
            .generate(&"default".into(), Some(id))
            .is_err()
    );
}

#[test]
fn attack_12_characters_of_patterns_are_bytes() {
    for text in [
        "ke*",
        "[a-z]",
        "a:b",
        "{a}b",
        "quota-x",
        "../x",
        "redis.call('x')",
        "\u{202e}x",
    ] {
        check_lookup(&KeyScheme::plain(), "", text, &[text]);
        assert_eq!(KeyScheme::plain().storage_key(text).as_str(), text);
    }
}

proptest! {
    #[test]
    fn a_json_token_says_what_it_was_made_of(
        org in "[^\"\\\\\\p{Cc}]{0,40}",
        id in "[^\"\\\\\\p{Cc}]{1,60}",
        function in prop::sample::select(&FUNCTIONS[..]),
    ) {
        prop_assume!(id != org);
        let org = OrgId::from(org);
        let token = Token::generate(&org, Some(&id), TokenForm::Json(function)).unwrap();
        let text = TokenText::read(token.expose());
        let own_id = id.strip_prefix(org.as_str()).unwrap_or(&id);
        prop_assert_eq!(text.org(), Some(org.as_str()));
        let read_id = text.id();
        prop_assert_eq!(read_id.as_deref(), Some(own_id));
        prop_assert_eq!(text.hash_function(), Some(function));
        let scheme = KeyScheme::hashed().with_form(TokenForm::Json(function));
        let name = scheme.storage_key(token.expose());
        prop_assert_eq!(&scheme.candidates(&org, token.expose())[..], &[name][..]);
    }

    #[test]
    fn any_text_can_be_presented(
        org in any::<String>(),
        presented in any::<String>(),
        function in prop::sample::select(&FUNCTIONS[..]),
    ) {
        let org = OrgId::from(org);
        let form = TokenForm::Json(function);
        for scheme in [KeyScheme::plain(), KeyScheme::hashed(), KeyScheme::sha256()] {
            let scheme = scheme.with_form(form).with_fallbacks([TokenForm::Joined, form]);
            let candidates = scheme.candidates(&org, &presented);
            prop_assert!(candidates.len() <= 3);
            for name in &candidates {
                let token = scheme.found_token(&org, &presented, name).unwrap();
                prop_assert_eq!(&scheme.storage_key(token.expose()), name);
            }
        }
        let text = TokenText::read(&presented);
        let _ = (text.org(), text.id(), text.hash_function());
        let scheme = KeyScheme::hashed().with_form(form);
        if let Ok(token) = scheme.generate(&org, Some(&presented)) {
            let name = scheme.storage_key(token.expose());
            let fits = token.expose().len() <= MAX_TOKEN_LENGTH;
            prop_assert_eq!(scheme.candidates(&org, token.expose()).contains(&name), fits);
        }
    }

    #[test]
    fn any_base64_can_be_presented(json in "\\{\"(org|id|h)\":.{0,40}\\}|[ -~]{0,40}") {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let presented = STANDARD.encode(json);
        let text = TokenText::read(&presented);
        let _ = (text.org(), text.id(), text.hash_function());
        let _ = KeyScheme::hashed().candidates(&"default".into(), &presented);
    }
}
