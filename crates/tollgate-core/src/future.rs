//! The one boxed future.

use std::pin::Pin;

/// A future in a box, which owns all it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;
