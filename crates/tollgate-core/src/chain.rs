//! An error and what is behind it, for a line of a log.

use std::{error::Error, fmt};

/// Prints an error, and after a colon each the errors that caused it ([`Error::source`]), in one line.
///
/// For logs and for who runs a program. Clients are told a [`Rejection`](crate::Rejection), which has
/// no causes.
///
/// # Examples
///
/// ```
/// use tollgate_core::{ErrorChain, StoreError, store::StoreErrorKind};
///
/// let cause = std::io::Error::other("disk full");
/// let error = StoreError::new(StoreErrorKind::Unavailable, "not written").with_source(cause);
/// assert!(ErrorChain(&error).to_string().ends_with("not written: disk full"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
