//! The one boxed future.
//!
//! ```
//! use tollgate_core::future::BoxFuture;
//!
//! let answer: BoxFuture<u64> = Box::pin(async { 42 });
//! ```

use std::pin::Pin;

/// A future in a box, which owns all it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;
