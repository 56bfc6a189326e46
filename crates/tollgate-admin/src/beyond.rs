//! `/tollgate/…`.

use std::sync::Arc;

use axum::Router;

use crate::Inner;

pub(crate) fn router(_admin: &Arc<Inner>) -> Router {
    Router::new()
}
