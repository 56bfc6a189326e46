//! Who may call, by address: `allowed_ips` and `blacklisted_ips`.

use std::net::IpAddr;

use http::StatusCode;
use ipnet::IpNet;
use tollgate::Rejection;

/// The lists of an API.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    allowed: Option<Vec<IpNet>>,
    blocked: Vec<IpNet>,
}

impl Addresses {
    /// These lists; none is no list.
    ///
    /// # Errors
    ///
    /// Fails with the text that is neither an address nor a network.
    pub fn new(allowed: Option<&[String]>, blocked: &[String]) -> Result<Self, String> {
        let read = |texts: &[String]| texts.iter().map(|text| network(text)).collect();
        Ok(Self {
            allowed: allowed.map(read).transpose()?,
            blocked: read(blocked)?,
        })
    }

    /// Whether this client may call. One whose address is not known may not, where there is a list.
    ///
    /// # Errors
    ///
    /// Fails where it may not.
    pub fn ask(&self, client: Option<IpAddr>) -> Result<(), Rejection> {
        if self.allowed.is_none() && self.blocked.is_empty() {
            return Ok(());
        }
        let Some(client) = client.map(|client| client.to_canonical()) else {
            return Err(refused());
        };
        let holds = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        let is_allowed = self.allowed.as_ref().is_none_or(|allowed| holds(allowed));
        if is_allowed && !holds(&self.blocked) {
            Ok(())
        } else {
            Err(refused())
        }
    }
}

/// An address, or a network as `10.0.0.0/8`.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| text.to_owned())
}

fn refused() -> Rejection {
    Rejection::custom(
        "address_refused",
        StatusCode::FORBIDDEN,
        "access from this IP has been disallowed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: Option<&[&str]>, blocked: &[&str], client: Option<&str>, may: bool) {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let allowed = allowed.map(owned);
        let addresses = Addresses::new(allowed.as_deref(), &owned(blocked)).expect("addresses");
        let client = client.map(|client| client.parse().expect("an address"));
        assert_eq!(addresses.ask(client).is_ok(), may);
    }

    #[test]
    fn lists_are_asked() {
        check(None, &[], None, true);
        check(Some(&["10.0.0.0/8"]), &[], Some("10.1.2.3"), true);
        check(Some(&["10.0.0.0/8"]), &[], Some("::ffff:10.1.2.3"), true);
        check(Some(&["10.0.0.0/8"]), &[], Some("11.1.2.3"), false);
        check(Some(&[]), &[], Some("11.1.2.3"), false);
        check(None, &["2001:db8::1"], Some("2001:db8::1"), false);
        check(None, &["2001:db8::1"], Some("2001:db8::2"), true);
        check(None, &["2001:db8::1"], None, false);
        check(Some(&["10.0.0.1"]), &["10.0.0.1"], Some("10.0.0.1"), false);
    }

    #[test]
    fn what_is_no_address_is_told() {
        assert_eq!(Addresses::new(None, &["here".into()]).unwrap_err(), "here");
    }
}
