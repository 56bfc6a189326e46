//! Which versions and cipher suites of TLS are spoken, as Tyk's files name them.
//!
//! TLS 1.2 and 1.3 are. A list of suites is about TLS 1.2 alone, as in Go: those of 1.3 are always on.

use std::{net::IpAddr, sync::Arc};

use http::Uri;
use rustls::{
    ALL_VERSIONS, CipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use crate::problem::{JsonPath, Problem};

/// Said where certificates are not looked at.
pub(crate) const UNVERIFIED: &str =
    "no certificate of an upstream is looked at: anybody can stand in for one";

/// Whether others could read what is sent to this URL: it is no `https`, and another machine's.
pub fn is_readable_on_the_way(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme_str() == Some("http") && !is_here
}

const TLS_1_0: u16 = 0x0301;
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;

/// Versions and cipher suites that may be spoken. The default is all that are any good.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TlsRules {
    versions: Versions,
    suites: Vec<u16>, // Of TLS 1.2; empty for all.
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Versions {
    #[default]
    Both,
    Only12,
    Only13,
}

/// Why versions and cipher suites can not be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsRulesError {
    /// A number that is no version.
    #[error("{0} is no version of TLS: expected 771 for 1.2, or 772 for 1.3")]
    NoVersion(u16),
    /// Only versions that are broken.
    #[error("TLS 1.0 and 1.1 are not spoken: expected 771 for 1.2, or 772 for 1.3")]
    TooOld,
    /// The newest is before the oldest.
    #[error("the newest version is before the oldest")]
    Order,
    /// No cipher suite is left for the one version.
    #[error("none of these cipher suites is spoken, and TLS 1.3 is not allowed")]
    NoSuite,
}

impl TlsRules {
    /// Versions by their numbers on the wire, as 771 for 1.2, zero for any; cipher suites of TLS 1.2 by
    /// their names, none for all. Names of suites that are not spoken are passed over.
    ///
    /// # Errors
    ///
    /// Fails where nothing is left to be spoken.
    pub fn new(oldest: u16, newest: u16, suites: &[String]) -> Result<Self, TlsRulesError> {
        let known = |version: u16| version == 0 || (TLS_1_0..=TLS_1_3).contains(&version);
        if let Some(unknown) = [oldest, newest]
            .into_iter()
            .find(|version| !known(*version))
        {
            return Err(TlsRulesError::NoVersion(unknown));
        }
        let newest = if newest == 0 { TLS_1_3 } else { newest };
        if newest < oldest {
            return Err(TlsRulesError::Order);
        }
        let versions = match (oldest, newest) {
            (TLS_1_3, _) => Versions::Only13,
            (_, TLS_1_3) => Versions::Both,
            (_, TLS_1_2) => Versions::Only12,
            _ => return Err(TlsRulesError::TooOld),
        };
        let spoken: Vec<_> = suites.iter().filter_map(|name| suite(name)).collect();
        let (versions, suites) = match (versions, suites.is_empty()) {
            (versions, true) => (versions, Vec::new()),
            (Versions::Only12, false) if spoken.is_empty() => return Err(TlsRulesError::NoSuite),
            (Versions::Both, false) if spoken.is_empty() => (Versions::Only13, Vec::new()),
            (versions, false) => (versions, spoken),
        };
        Ok(Self { versions, suites })
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = ring::default_provider();
        if !self.suites.is_empty() {
            let is_chosen = |name: CipherSuite| {
                self.suites
                    .iter()
                    .any(|suite| name == CipherSuite::from(*suite))
            };
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || is_chosen(suite.suite()));
        }
        Arc::new(provider)
    }

    pub(crate) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
        static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
        match self.versions {
            Versions::Both => ALL_VERSIONS,
            Versions::Only12 => ONLY_12,
            Versions::Only13 => ONLY_13,
        }
    }
}

/// The number of a suite of TLS 1.2 that is spoken, by its name. Go leaves out the hash of some.
fn suite(name: &str) -> Option<u16> {
    let spoken = ring::ALL_CIPHER_SUITES.iter();
    let mut spoken = spoken.filter(|suite| suite.tls13().is_none());
    let is_named = |suite: &str| {
        let short = suite.strip_suffix("_SHA256");
        suite.eq_ignore_ascii_case(name)
            || suite.contains("CHACHA20") && short.is_some_and(|it| it.eq_ignore_ascii_case(name))
    };
    let found = spoken.find(|suite| suite.suite().as_str().is_some_and(is_named))?;
    Some(found.suite().into())
}

/// Whether a name is that of a suite of TLS 1.3, which are always on.
fn is_of_1_3(name: &str) -> bool {
    let names = [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ];
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The members of a file that say what TLS is spoken, and where they are.
pub(crate) struct TlsMembers<'a> {
    pub(crate) oldest: (JsonPath, u16),
    pub(crate) newest: (JsonPath, u16),
    pub(crate) suites: (JsonPath, &'a [String]),
}

impl TlsMembers<'_> {
    /// What is wrong with them.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let (oldest, newest, suites) = (self.oldest.1, self.newest.1, self.suites.1);
        if let Err(err) = TlsRules::new(oldest, newest, suites) {
            let path = match &err {
                TlsRulesError::NoVersion(number) if *number == oldest => &self.oldest.0,
                TlsRulesError::NoSuite => &self.suites.0,
                _ => &self.newest.0,
            };
            problems.push(Problem::error("", err.to_string()).at(path.clone()));
        } else if (TLS_1_0..TLS_1_2).contains(&oldest) {
            let message = "TLS 1.0 and 1.1 are not spoken; the oldest is 1.2";
            problems.push(Problem::warning("", message).at(self.oldest.0.clone()));
        }
        for (index, name) in suites.iter().enumerate() {
            if suite(name).is_none() && !is_of_1_3(name) {
                let path = self.suites.0.index(index);
                problems.push(Problem::warning("", "this cipher suite is not spoken").at(path));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GCM: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    const CBC: &str = "TLS_RSA_WITH_AES_128_CBC_SHA";

    fn rules(oldest: u16, newest: u16, suites: &[&str]) -> Result<TlsRules, TlsRulesError> {
        let suites: Vec<_> = suites.iter().map(|name| (*name).to_owned()).collect();
        TlsRules::new(oldest, newest, &suites)
    }

    #[track_caller]
    fn check(
        oldest: u16,
        newest: u16,
        suites: &[&str],
        expected: Result<(usize, usize), TlsRulesError>,
    ) {
        let rules = rules(oldest, newest, suites);
        let counted = rules.map(|rules| {
            let suites = rules.provider().cipher_suites.len();
            (rules.versions().len(), suites)
        });
        assert_eq!(counted, expected, "{oldest} to {newest}, {suites:?}");
    }

    #[test]
    fn versions_are_those_that_are_spoken() {
        let all = ring::DEFAULT_CIPHER_SUITES.len();
        check(0, 0, &[], Ok((2, all)));
        check(769, 772, &[], Ok((2, all)));
        check(771, 771, &[], Ok((1, all)));
        check(772, 0, &[], Ok((1, all)));
        check(0, 770, &[], Err(TlsRulesError::TooOld));
        check(772, 771, &[], Err(TlsRulesError::Order));
        check(1, 0, &[], Err(TlsRulesError::NoVersion(1)));
        check(0, 773, &[], Err(TlsRulesError::NoVersion(773)));
    }

    #[test]
    fn suites_are_those_of_tls_1_2_alone() {
        check(0, 0, &[GCM], Ok((2, 4)));
        check(0, 0, &[&GCM.to_lowercase(), CBC], Ok((2, 4)));
        check(0, 0, &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"], Ok((2, 4)));
        check(0, 0, &[CBC], Ok((1, ring::DEFAULT_CIPHER_SUITES.len())));
        check(0, 771, &[CBC], Err(TlsRulesError::NoSuite));
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        let suites = [GCM, "TLS_AES_128_GCM_SHA256", CBC].map(str::to_owned);
        let members = |oldest, newest| TlsMembers {
            oldest: ("min".into(), oldest),
            newest: ("max".into(), newest),
            suites: ("ciphers".into(), &suites),
        };
        let places = |oldest, newest| {
            let problems = members(oldest, newest).check();
            let places = problems.iter().map(|problem| problem.path.to_string());
            places.collect::<Vec<_>>()
        };
        assert_eq!(places(769, 0), ["min", "ciphers[2]"]);
        assert_eq!(places(771, 770), ["max", "ciphers[2]"]);
        assert_eq!(places(9, 0), ["min", "ciphers[2]"]);
    }
}
