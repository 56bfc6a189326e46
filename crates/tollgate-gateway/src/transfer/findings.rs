//! What of the records that came means less here than where they came from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tollgate_core::{ApiId, Session, policy::PolicySet};
use tollgate_gateway::{definition, load::Loaded, support::Support};

/// How many names of one kind are told.
const MOST: usize = 100;

/// What was found, and in how many records.
#[derive(Serialize)]
pub(super) struct Findings {
    /// Members that Tyk's record does not have. They are kept.
    unknown_members: Counts,
    /// Policies that this gateway does not have: such keys are refused.
    unknown_policies: Counts,
    /// APIs that this gateway does not have.
    unknown_apis: Counts,
    /// What is kept for ways to prove who one is that are not built.
    not_built: Counts,
    /// Names that are not hashed as the configuration says, so that nobody finds the key by its token.
    names: Counts,
    #[serde(skip)]
    known: Known,
}

/// What this gateway has.
struct Known {
    policies: PolicySet,
    apis: BTreeSet<ApiId>,
    hashes: bool,
}

/// How often each was found; those that had no place are counted together.
#[derive(Default, Serialize)]
struct Counts {
    records: BTreeMap<String, u64>,
    others: u64,
}

impl Counts {
    fn add(&mut self, what: &str) {
        if let Some(count) = self.records.get_mut(what) {
            *count += 1;
        } else if self.records.len() < MOST {
            self.records.insert(what.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    fn told(&self) -> Option<String> {
        let told = self.records.iter();
        let mut told: Vec<_> = told
            .map(|(what, count)| format!("{what} ({count})"))
            .collect();
        if self.others > 0 {
            told.push(format!("others ({})", self.others));
        }
        (!told.is_empty()).then(|| told.join(", "))
    }
}

impl Findings {
    pub(super) fn new(files: &Loaded) -> Self {
        Self {
            unknown_members: Counts::default(),
            unknown_policies: Counts::default(),
            unknown_apis: Counts::default(),
            not_built: Counts::default(),
            names: Counts::default(),
            known: Known {
                policies: files.policies.clone(),
                apis: files.apis.iter().map(|api| api.id().clone()).collect(),
                hashes: files.config.hash_keys,
            },
        }
    }

    pub(super) fn look(&mut self, name: &str, session: &Session) {
        let rights = session.access_rights.values();
        let of_rights = rights.flat_map(|right| right.unknown.keys());
        let of_rights: BTreeSet<_> = of_rights
            .map(|member| format!("access_rights.*.{member}"))
            .collect();
        let members = session.unknown.keys().chain(&of_rights);
        members.for_each(|member| self.unknown_members.add(member));
        for policy in session.policies() {
            if self.known.policies.get(&session.org_id, policy).is_none() {
                self.unknown_policies.add(policy.as_str());
            }
        }
        for api in session.access_rights.keys() {
            if !self.known.apis.contains(api) {
                self.unknown_apis.add(api.as_str());
            }
        }
        for (member, _) in ways(session)
            .into_iter()
            .filter(|(_, field)| !is_built(field))
        {
            self.not_built.add(member);
        }
        let is_organisation = name.starts_with(super::ORGANISATION);
        if !is_organisation && is_hash(name) != self.known.hashes {
            self.names.add(if self.known.hashes {
                "not hashed, and `hash_keys` is on"
            } else {
                "looks hashed, and `hash_keys` is off"
            });
        }
    }

    /// A line for each kind of which something was found.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let kinds = [
            ("members unknown to Tyk, kept", &self.unknown_members),
            (
                "policies that are not here, so that keys are refused",
                &self.unknown_policies,
            ),
            ("APIs that are not here", &self.unknown_apis),
            ("kept, and not used: not built", &self.not_built),
            ("names by which no token is found", &self.names),
        ];
        let told = kinds.map(|(kind, counts)| Some(format!("{kind}: {}", counts.told()?)));
        told.into_iter().flatten()
    }
}

/// What a record has for ways to prove who one is, and the member of a definition that asks for each.
fn ways(session: &Session) -> Vec<(&'static str, &'static str)> {
    let signs = session.hmac_enabled || session.enable_http_signature_validation;
    let bindings = &session.mtls_static_certificate_bindings;
    let has = [
        (
            !session.basic_auth_data.password.expose().is_empty(),
            ("basic_auth_data", "use_basic_auth"),
        ),
        (
            !session.jwt_data.secret.expose().is_empty(),
            ("jwt_data", "enable_jwt"),
        ),
        (signs, ("hmac_string", "enable_signature_checking")),
        (
            !session.oauth_client_id.is_empty(),
            ("oauth_client_id", "use_oauth2"),
        ),
        (
            !session.certificate.is_empty() || !bindings.is_empty(),
            ("certificate", "use_mutual_tls_auth"),
        ),
    ];
    has.into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, way)| way)
        .collect()
}

/// Whether this gateway does what a member of a definition asks for.
fn is_built(field: &str) -> bool {
    let row = definition::FIELDS.iter().find(|row| row.path == field);
    row.is_some_and(|row| !matches!(row.support, Support::Refused(_)))
}

/// Whether a name has the form of one of Tyk's hashes.
fn is_hash(name: &str) -> bool {
    const LENGTHS: [usize; 4] = [8, 16, 32, 64];
    LENGTHS.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_known_by_their_form() {
        let cases = [
            ("a5f3bc01", true),
            ("5bd0ae9bf7a7b4a5", true),
            ("custom-key", false),
            ("5bd0ae9bf7a7b4a", false),
            ("5bd0ae9bf7a7b4ag", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_hash(name), expected, "{name}");
        }
    }

    #[test]
    fn what_a_record_has_is_told_by_member() {
        let check = |json: &str, expected: &[&str]| {
            let session: Session = json.parse().expect("reads");
            let found: Vec<_> = ways(&session)
                .into_iter()
                .map(|(member, _)| member)
                .collect();
            assert_eq!(found, expected, "{json}");
        };
        check("{}", &[]);
        check(
            r#"{"basic_auth_data": {"password": "p"}}"#,
            &["basic_auth_data"],
        );
        check(
            r#"{"hmac_enabled": true, "jwt_data": {"secret": "s"}}"#,
            &["jwt_data", "hmac_string"],
        );
    }

    #[test]
    fn names_without_end_have_an_end() {
        let mut counts = Counts::default();
        (0..2 * MOST).for_each(|number| counts.add(&number.to_string()));
        assert_eq!((counts.records.len(), counts.others), (MOST, MOST as u64));
    }
}
