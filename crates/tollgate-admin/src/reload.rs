//! `/tyk/reload…`.

use crate::{
    Inner, Reach, Reload,
    answer::{self, Answer, done},
    call::Call,
};

/// `GET /tyk/reload` and `GET /tyk/reload/group`. As with Tyk the answer does not say whether the load
/// went well; the log does, and what served before goes on serving where it did not.
pub(crate) async fn reload(admin: &Inner, call: &Call, reach: Reach) -> Answer {
    let wait = reach == Reach::Single && call.query.get("block") == "true";
    if let Err(error) = admin.control.reload(Reload { reach, wait }).await {
        answer::log(&error, "the reload failed");
    }
    Ok(done(""))
}
