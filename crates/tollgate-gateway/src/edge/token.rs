//! The token as a text of headers may name it, `$tyk_context.token`.

use std::sync::Arc;

use http::request::Parts;
use tollgate::{
    KeyScheme, OrgId,
    context::ShownToken,
    gate::{Gate, Step},
    token_source::TokenSource,
    visit::Visit,
};

/// Puts the token of a request where texts find it, in the form in which the gateway knows it: a key
/// that was made is as it was sent, an id has become the token that it stands for.
///
/// It stands only in the stack of an API with a text that names it.
pub struct TokenGate {
    /// Where tokens are looked for.
    pub sources: Vec<Arc<dyn TokenSource>>,
    /// How tokens become names in the store.
    pub keys: KeyScheme,
    /// The organisation of the API.
    pub organisation: OrgId,
}

impl TokenGate {
    fn token(&self, head: &Parts, visit: &Visit) -> Option<ShownToken> {
        let found = self
            .sources
            .iter()
            .find_map(|source| source.find(head).ok()?);
        let (presented, pass) = (found?, visit.pass()?);
        let token = self
            .keys
            .found_token(&self.organisation, &presented, pass.key())?;
        Some(ShownToken(token))
    }
}

impl Gate for TokenGate {
    fn name(&self) -> &'static str {
        "token"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        if let Some(token) = self.token(head, visit) {
            head.extensions.insert(token);
        }
        Step::Pass
    }
}
