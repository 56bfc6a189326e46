//! Making keys, and replacing them.

use base64::{Engine, engine::general_purpose::STANDARD};
use tollgate_core::{
    Loaded, OrgId, Session,
    policy::key_expires_in,
    store::{Expect, StorageKey, StoreErrorKind, Version},
    token::{Token, TokenError, TokenErrorKind, TokenForm},
};

use super::{Unfit, read_sent};
use crate::{
    Inner, KeyEvent,
    answer::{self, Answer, Refusal},
    call::{Call, Tail, json_text},
    counters::keep_counters,
    lifetime,
    lookup::is_organisation,
};

const UNFIT: &str = "Failed to create key, ensure security settings are correct.";

/// Whether a write starts counters afresh.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Counters {
    Reset,
    Keep,
}

impl Counters {
    fn of(call: &Call) -> Self {
        if call.query.get("suppress_reset") == "1" {
            Self::Keep
        } else {
            Self::Reset
        }
    }
}

/// `POST /tyk/keys/create`: a key with a random token, or one of its certificate.
pub(crate) async fn create(admin: &Inner, call: &Call) -> Answer {
    let json = json_text(&call.body, Tail::Ignored);
    let session = json.and_then(|json| read_sent(&json, &admin.settings));
    let mut session = session.ok_or(Refusal::new(500, "Unmarshalling failed"))?;
    let merged = admin.merged(&session).map_err(|unfit| match unfit {
        Unfit::NoRights => Refusal::new(
            400,
            "Failed to create key, keys must have at least one Access Rights record set.",
        ),
        Unfit::Policies(error) => Refusal::new(500, format!("Failed to create key - {error}")),
    })?;
    admin.check_meta_data(&merged)?;
    let certificate = Some(&*session.certificate).filter(|id| !id.is_empty());
    let is_certified = certificate.is_some();
    let token = generate(admin, &session.org_id, certificate)?;
    let key = name(admin, &token)?;
    if is_certified && admin.store.get(key.as_str()).await?.is_some() {
        let token = token.expose();
        let message =
            format!("Failed to create key - Key with given certificate already found:{token}");
        return Err(Refusal::new(500, message));
    }
    if session.hmac_enabled {
        session.hmac_string = hmac_secret()?.into();
    }
    let written = Written {
        counters: Counters::of(call),
        stored: None,
        is_new: true,
    };
    written.put(admin, &key, session, &merged).await?;
    let hash = admin.is_hashing().then_some(&key);
    Ok(answer::modified(token.expose(), "added", hash))
}

/// `POST /tyk/keys` and `POST /tyk/keys/{id}`: whatever has this id is written over.
pub(crate) async fn create_named(admin: &Inner, call: &Call, id: &str) -> Answer {
    let session = read_strictly(admin, call)?;
    let shortest = admin.keys.min_length();
    if admin.settings.refuse_short_ids && !id.is_empty() && id.len() < shortest {
        return Err(Refusal::new(400, too_short(id.len(), shortest)));
    }
    let now = admin.now().unix().0;
    let is_past = 1 < session.expires && session.expires.cast_unsigned() < now;
    if is_past {
        return Err(Refusal::new(
            400,
            "The key would be expired: expires is in the past",
        ));
    }
    let merged = admin
        .merged(&session)
        .map_err(|_| Refusal::new(500, UNFIT))?;
    admin.check_meta_data(&merged)?;
    let token = generate(admin, &session.org_id, Some(id))?;
    let key = name(admin, &token)?;
    let stored = match admin.store.get(key.as_str()).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
        stored => stored?,
    };
    let has_password = !session.basic_auth_data.password.is_empty();
    let written = Written {
        counters: Counters::of(call),
        stored: stored.as_deref(),
        is_new: true,
    };
    written.put(admin, &key, session, &merged).await?;
    let is_hashing = admin.is_hashing();
    let shown = if has_password && is_hashing {
        ""
    } else {
        token.expose()
    };
    Ok(answer::modified(shown, "added", is_hashing.then_some(&key)))
}

/// `PUT /tyk/keys/{id}`: replaces a key, in one step against other writers.
pub(crate) async fn update(admin: &Inner, call: &Call, id: &str) -> Answer {
    let sent = read_strictly(admin, call)?;
    let counters = Counters::of(call);
    let named = admin.named(&call.query, sent.org_id.clone(), id);
    for _ in 0..TRIES {
        let found = admin.find(&named).await?;
        let found = found.ok_or(Refusal::new(404, "Key is not found"))?;
        let stored = &*found.loaded;
        let mut session = sent.clone();
        let now = admin.now().unix().0;
        if 1 < session.expires && session.expires.cast_unsigned() < now {
            session.expires = stored.session().expires;
        }
        match replace(admin, stored, session, counters).await {
            Err(PutError::Faster) => {}
            done => {
                done?;
                return Ok(answer::modified(&found.shown, "modified", None));
            }
        }
    }
    Err(PutError::Faster.into())
}

/// How often a write begins anew that others were faster than.
pub(crate) const TRIES: usize = 5;

/// Replaces a key that was read.
pub(crate) async fn replace(
    admin: &Inner,
    stored: &Loaded,
    session: Session,
    counters: Counters,
) -> Result<Version, PutError> {
    check_certificate(admin, &session, stored.session())?;
    let merged = admin
        .merged(&session)
        .map_err(|_| Refusal::new(500, UNFIT))?;
    admin.check_meta_data(&merged)?;
    let written = Written {
        counters,
        stored: Some(stored),
        is_new: false,
    };
    written.put(admin, stored.key(), session, &merged).await
}

fn read_strictly(admin: &Inner, call: &Call) -> Result<Session, Refusal> {
    let json = json_text(&call.body, Tail::Refused);
    let session = json.and_then(|json| read_sent(&json, &admin.settings));
    session.ok_or(Refusal::new(400, "Request malformed"))
}

fn check_certificate(admin: &Inner, session: &Session, stored: &Session) -> Result<(), Refusal> {
    if stored.certificate.is_empty() || session.certificate == stored.certificate {
        return Ok(());
    }
    if session.certificate.is_empty() {
        let message = "Key cannot be used without a certificate";
        return Err(Refusal::new(400, message));
    }
    if !admin.control.has_certificate(&session.certificate) {
        let message = "Key must be used with an existent certificate";
        return Err(Refusal::new(400, message));
    }
    Ok(())
}

fn too_short(length: usize, shortest: usize) -> String {
    format!(
        "custom key ID length {length} is less than min_token_length ({shortest}); the key would be \
         unreachable at auth time. Use an ID of at least min_token_length characters, or lower \
         min_token_length in the gateway configuration."
    )
}

fn generate(admin: &Inner, org: &OrgId, id: Option<&str>) -> Result<Token, Refusal> {
    admin
        .keys
        .generate(org, id)
        .map_err(|error| refused(&error))
}

fn refused(error: &TokenError) -> Refusal {
    match error.kind() {
        TokenErrorKind::NoRandomness => {
            answer::log(error, "a token could not be made");
            Refusal::new(500, "Could not create key")
        }
        kind => Refusal::new(400, format!("Invalid key ID: {kind}")),
    }
}

/// The name in the store. One that reads as an organisation's record would be that record.
fn name(admin: &Inner, token: &Token) -> Result<StorageKey, Refusal> {
    let key = admin.keys.storage_key(token.expose());
    if is_organisation(key.as_str()) {
        return Err(Refusal::new(
            400,
            "Invalid key ID: it reads as an organisation's record",
        ));
    }
    Ok(key)
}

/// A random token of an organisation, and its name in the store.
pub(crate) fn new_token(admin: &Inner, org: &OrgId) -> Result<(Token, StorageKey), Refusal> {
    let token = generate(admin, org, None)?;
    let key = name(admin, &token)?;
    Ok((token, key))
}

/// As long as Tyk's: the base64 of 32 digits.
fn hmac_secret() -> Result<String, Refusal> {
    let random = Token::generate(&OrgId::default(), None, TokenForm::Joined);
    let random = random.map_err(|error| refused(&error))?;
    Ok(STANDARD.encode(random.expose()))
}

/// A write of a key.
struct Written<'a> {
    counters: Counters,
    stored: Option<&'a Loaded>,
    is_new: bool,
}

/// Why a key was not written.
pub(crate) enum PutError {
    Refused(Refusal),
    /// Somebody else wrote it since it was read.
    Faster,
}

impl From<Refusal> for PutError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<tollgate_core::StoreError> for PutError {
    fn from(error: tollgate_core::StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Conflict => Self::Faster,
            _ => Self::Refused(error.into()),
        }
    }
}

impl From<PutError> for Refusal {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Refused(refusal) => refusal,
            PutError::Faster => Self::new(409, "The key was changed by another request"),
        }
    }
}

impl Written<'_> {
    async fn put(
        self,
        admin: &Inner,
        key: &StorageKey,
        mut session: Session,
        merged: &Session,
    ) -> Result<Version, PutError> {
        self.set_password(admin, &mut session).await?;
        let now = admin.now().unix().0;
        self.set_state(admin, &mut session, merged, now);
        if self.is_new && self.stored.is_none() {
            start_trial(admin, &mut session, merged, now);
        }
        let lifetime = lifetime_of(admin, &session, merged, now);
        let version = match self.stored.filter(|_| !self.is_new) {
            Some(stored) => admin.replace(stored, session.clone(), lifetime).await?,
            None => {
                let name = key.as_str();
                let put = admin
                    .store
                    .put(name, session.clone(), Expect::Anything, lifetime);
                put.await?
            }
        };
        if self.resets(admin, merged) {
            let mut old = self.stored.map(|stored| &**stored.session());
            if let Some(stored) = old.filter(|_| self.is_new)
                && admin.shares_counters(key, stored).await?
            {
                old = None; // They stay the other's.
            }
            admin.restart_counters(key, old, &session).await?;
        }
        let (org, name) = (&session.org_id, key.as_str());
        admin.control.key_changed(if self.is_new {
            KeyEvent::Created { org, name }
        } else {
            KeyEvent::Updated { org, name }
        });
        Ok(version)
    }

    /// What is sent of the password is hashed, unless it is what is stored.
    async fn set_password(&self, admin: &Inner, session: &mut Session) -> Result<(), Refusal> {
        let stored = self.stored.filter(|_| !self.is_new);
        let stored = stored.map(|stored| &stored.session().basic_auth_data);
        let sent = &session.basic_auth_data.password;
        match stored {
            Some(stored) if sent.is_empty() || *sent == stored.password => {
                session.basic_auth_data = stored.clone();
            }
            _ if sent.is_empty() => {}
            _ => session.basic_auth_data = admin.settings.password_hash.hash(sent).await?,
        }
        Ok(())
    }

    /// What the gateway keeps with a key for itself.
    fn set_state(&self, admin: &Inner, session: &mut Session, merged: &Session, now: u64) {
        let sent = session.last_updated.clone();
        let nanos = i128::from(admin.now().unix_nanos);
        let created = jiff::Timestamp::from_nanosecond(nanos).unwrap_or_default();
        drop_repeated(&mut session.tags);
        match self.stored.filter(|_| !self.is_new) {
            Some(stored) => {
                session.date_created = stored.session().date_created.clone();
                keep_counters(session, stored.session());
            }
            None => {
                session.date_created = created.into();
                keep_counters(session, &Session::default());
            }
        }
        match (self.counters, self.stored.filter(|_| !self.is_new)) {
            (Counters::Reset, _) => {
                session.last_updated = now.to_string();
                if self.resets(admin, merged) {
                    let period = session.quota_renewal_rate;
                    session.quota_renews = now.cast_signed().saturating_add(period);
                }
            }
            (Counters::Keep, Some(stored)) => keep_state(session, stored.session()),
            (Counters::Keep, None) => {}
        }
        if is_quota_of_policy(session, merged) {
            let apis = admin.control.apis();
            let mut rights = merged.access_rights.keys();
            let all_are_loaded = rights.all(|id| apis.get(id).is_some());
            let period = merged.quota_renewal_rate;
            // Tyk applies the policies for one API after the other, so that the second meets their quota.
            let is_set = !all_are_loaded || 1 < session.access_rights.len();
            session.quota_renews = match self.counters {
                Counters::Reset if is_set => now.cast_signed().saturating_add(period),
                _ => 0,
            };
        }
        take_limits(session, merged, &sent);
    }

    /// Whether counters start afresh: they do unless the request, or every API of the key, says no.
    fn resets(&self, admin: &Inner, merged: &Session) -> bool {
        let apis = admin.control.apis();
        let mut rights = merged.access_rights.keys().peekable();
        let all_refuse = rights.peek().is_some()
            && rights.all(|id| {
                let api = apis.get(id);
                api.is_some_and(|api| api.facts().dont_set_quota_on_create)
            });
        self.counters == Counters::Reset && !all_refuse
    }
}

/// A key that is made under a name in the store, as it was elsewhere: who has its token has it again.
///
/// What a gateway keeps with a key for itself is taken as it is: when it was made, and by whose
/// counters it counts.
pub(crate) struct Restored {
    key: StorageKey,
    session: Session,
    merged: Session,
}

impl Restored {
    /// Looks at the session.
    pub(crate) async fn new(
        admin: &Inner,
        name: &str,
        mut session: Session,
    ) -> Result<Self, Refusal> {
        if is_organisation(name) {
            return Err(Refusal::new(
                400,
                "the name is that of an organisation's record",
            ));
        }
        let login = &session.basic_auth_data;
        match (login.password.is_empty(), login.hash_type.is_empty()) {
            (true, true) => {}
            (true, false) => return Err(Refusal::new(422, "the key's password is left out")),
            (false, _) => {
                let password = &session.basic_auth_data.password;
                session.basic_auth_data = admin.settings.password_hash.hash(password).await?;
            }
        }
        let merged = admin
            .merged(&session)
            .map_err(|_| Refusal::new(500, UNFIT))?;
        admin.check_meta_data(&merged)?;
        Ok(Self {
            key: name.into(),
            session,
            merged,
        })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Writes it, where none of its name was written meanwhile.
    pub(crate) async fn put(self, admin: &Inner) -> Result<Version, PutError> {
        let lifetime = lifetime_of(admin, &self.session, &self.merged, admin.now().unix().0);
        let expect = if admin.store.compares_and_sets() {
            Expect::Absent
        } else {
            Expect::Anything
        };
        let org = self.session.org_id.clone();
        let name = self.key.as_str();
        let version = admin
            .store
            .put(name, self.session, expect, lifetime)
            .await?;
        let org = &org;
        admin.control.key_changed(KeyEvent::Created { org, name });
        Ok(version)
    }
}

/// Of policies, the numbers of their limits are written into the record, as Tyk does, for those who read it
/// there. Where a policy no longer rules a limit, the number that it left holds, and where it left none, the
/// key's own. Rights, metadata and tags of policies are never written, so that none outlives them.
fn take_limits(session: &mut Session, merged: &Session, sent_last_updated: &str) {
    if session.policies().is_empty() {
        return;
    }
    if merged.rate != 0.0 && merged.per != 0.0 {
        session.rate = merged.rate;
        session.per = merged.per;
        session.smoothing.clone_from(&merged.smoothing);
        session.throttle_interval = merged.throttle_interval;
        session.throttle_retry_limit = merged.throttle_retry_limit;
    }
    if merged.quota_max != 0 {
        session.quota_max = merged.quota_max;
        session.quota_renewal_rate = merged.quota_renewal_rate;
    }
    if merged.max_query_depth != 0 {
        session.max_query_depth = merged.max_query_depth;
    }
    let is_of_policy = merged.last_updated != sent_last_updated;
    if is_of_policy && session.last_updated < merged.last_updated {
        session.last_updated.clone_from(&merged.last_updated);
    }
}

fn keep_state(session: &mut Session, stored: &Session) {
    session.quota_renews = stored.quota_renews;
    session.last_updated.clone_from(&stored.last_updated);
    for (api, right) in session.access_rights.iter_mut() {
        if let Some(stored) = stored.access_rights.get(api)
            && !right.limit.is_empty()
        {
            right.limit.quota_renews = stored.limit.quota_renews;
        }
    }
}

/// Where a policy gives the quota, the key's own number of its renewal means nothing: Tyk writes zero
/// there, unless one of the APIs is not loaded.
fn is_quota_of_policy(session: &Session, merged: &Session) -> bool {
    let own = (session.quota_max, session.quota_renewal_rate);
    !session.policies().is_empty() && own != (merged.quota_max, merged.quota_renewal_rate)
}

/// A policy may say how long a new key lives, where one of the key's APIs is loaded.
fn start_trial(admin: &Inner, session: &mut Session, merged: &Session, now: u64) {
    if admin.granted(merged).is_empty() {
        return;
    }
    let policies = admin.control.policies();
    if let Some(time) = key_expires_in(session, &policies, &session.org_id) {
        session.expires = now.saturating_add(time.as_secs()).cast_signed();
    }
}

/// How long the store keeps the record. What the policies say of it counts; when the key ends is the
/// key's own.
pub(crate) fn lifetime_of(
    admin: &Inner,
    session: &Session,
    merged: &Session,
    now: u64,
) -> Option<std::time::Duration> {
    let apis = admin.granted(merged);
    let kept = Session {
        expires: session.expires,
        session_lifetime: session.session_lifetime,
        post_expiry_action: merged.post_expiry_action.clone(),
        post_expiry_grace_period: merged.post_expiry_grace_period,
        ..Session::default()
    };
    let facts = apis.iter().map(|api| api.facts());
    lifetime::of(&kept, facts, &admin.settings, now)
}

fn drop_repeated(tags: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
}
