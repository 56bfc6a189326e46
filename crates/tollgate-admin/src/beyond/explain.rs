//! What would become of a request.

use http::{Method, StatusCode, Uri};

use super::{Answer, Asked, Problem, json};
use crate::{Inner, Question};

/// `POST /tollgate/explain`. The token stands in the body, so that it is in nobody's log of paths.
pub(super) async fn explain(admin: &Inner, asked: &Asked) -> Answer {
    let question: Question = asked.read()?;
    if question.method.parse::<Method>().is_err() {
        return Err(Problem::bad_request("method is no method"));
    }
    if !question.path.starts_with('/') || question.path.parse::<Uri>().is_err() {
        return Err(Problem::bad_request("path is no path"));
    }
    let explanation = admin.control.explain(question).await?;
    Ok(json(StatusCode::OK, &explanation))
}
