//! A. Credentials.

use super::*;

#[tokio::test]
async fn attack_01_the_first_source_that_has_a_token_decides() {
    let sources = [
        HeaderSource::default().shared(),
        QuerySource::new("key").shared(),
    ];
    let store = store(&[("key-good", "{}")]);
    let service = Tollgate::builder(store)
        .token_sources(sources)
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    // A good token in the second source does not help a bad one in the first.
    assert_eq!(
        status(&service, ask("/?key=key-good", "key-bad")).await,
        403
    );
    assert_eq!(
        status(&service, ask("/?key=key-bad", "key-good")).await,
        200
    );
}

#[tokio::test]
async fn attack_02_two_credentials_in_one_place_are_refused() {
    let twice = with_header("/open", "authorization", b"other-key");
    let joined = Request::get("/open").header("authorization", "Bearer joes-key, Bearer other-key");
    check(
        |stack| stack,
        "{}",
        400,
        vec![twice, joined.body(Body::empty()).unwrap()],
    )
    .await;
}

#[tokio::test]
async fn attack_04_a_credential_of_odd_bytes_is_refused() {
    let odd = |value: &[u8]| {
        Request::get("/open")
            .header("authorization", value)
            .body(Body::empty())
            .unwrap()
    };
    check(
        |stack| stack,
        "{}",
        400,
        vec![odd(b"joes-k\xe9y"), odd("joes-kéy".as_bytes())],
    )
    .await;
    let long = vec![b'a'; 1 << 20];
    check(
        |stack| stack,
        "{}",
        403,
        vec![odd(&long), odd(&long[..4097]), odd(b"ab")],
    )
    .await;
}

#[tokio::test]
async fn attack_06_two_cookies_of_one_name_are_refused_if_they_differ() {
    let cookies = |line: &str| {
        Request::get("/open")
            .header("cookie", line)
            .body(Body::empty())
            .unwrap()
    };
    let store = store(&[("joes-key", "{}")]);
    let builder = Tollgate::builder(store).token_sources([CookieSource::new("sid").shared()]);
    let service = builder.build().unwrap().layer().layer(ok());
    assert_eq!(
        status(&service, cookies("sid=joes-key; sid=other")).await,
        400
    );
    assert_eq!(
        status(&service, cookies("sid=joes-key; sid=joes-key")).await,
        200
    );
}

#[tokio::test]
async fn attack_07_the_name_in_the_store_is_no_credential() {
    for keys in [KeyScheme::hashed(), KeyScheme::sha256()] {
        let name = keys.storage_key("joes-key");
        let store = store(&[(name.as_str(), "{}")]);
        let service = Tollgate::builder(store)
            .keys(keys)
            .build()
            .unwrap()
            .layer()
            .layer(ok());
        assert_eq!(status(&service, ask("/", name.as_str())).await, 403);
        assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    }
}

#[tokio::test]
async fn attack_12_characters_of_patterns_find_nothing() {
    let attacks = [
        "*",
        "joes-*",
        "joes-ke?",
        "{joes-key}",
        "joes-key:",
        "joes-key;return 1",
        "orgkey.acme",
    ];
    let attacks = attacks.map(|token| ask("/open", token));
    check(|stack| stack, "{}", 403, attacks).await;
}

#[tokio::test]
async fn attack_13_hashed_names_say_nothing_of_how_near_a_guess_was() {
    let keys = KeyScheme::sha256();
    let name = keys.storage_key("joes-key-0123456789");
    for guess in ["joes-key-0123456780", "joes-key-012345678", "joes"] {
        let other = keys.storage_key(guess);
        let common = name
            .as_str()
            .bytes()
            .zip(other.as_str().bytes())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(common < 8, "{guess} shares {common} digits");
    }
}

#[tokio::test]
async fn attack_14_a_key_asked_for_before_it_was_made_works_then() {
    let far = Far::new(MemoryStore::new());
    let clock = ManualClock::at(0);
    let options = CacheOptions::new()
        .clock(clock.clone())
        .absent_age(Duration::from_secs(1));
    let cached = far.shared().cached(options);
    let service = Tollgate::builder(cached.clone())
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
    // Made by another process, whose notice does not come: known within the age of an absent key.
    far.memory.insert("joes-key", Session::default()).unwrap();
    clock.advance(Duration::from_secs(2));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
}
