//! How large the body of a request may be, by its `Content-Length`: `global_size_limit` and
//! `size_limits`.

use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};
use tollgate::{Rejection, access::RequestPath};

use super::{Where, first_of};

/// The limits of a version, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// For every path.
    pub all: Option<u64>,
    /// For single paths, besides.
    pub by_path: Vec<(Where, u64)>,
}

impl Sizes {
    /// Whether the body that is announced may come.
    ///
    /// # Errors
    ///
    /// Fails where it may not, or none is announced.
    pub fn ask(
        &self,
        method: &str,
        path: &RequestPath<'_>,
        headers: &HeaderMap,
    ) -> Result<(), Rejection> {
        let own = first_of(&self.by_path, method, path).copied();
        for limit in self.all.into_iter().chain(own) {
            check(limit, headers)?;
        }
        Ok(())
    }
}

/// A body that is larger than what the gateway takes of any.
pub fn too_large() -> Rejection {
    Rejection::custom(
        "body_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "Request Entity Too Large",
    )
}

fn check(limit: u64, headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(stated) = headers.get(CONTENT_LENGTH) else {
        return Err(Rejection::custom(
            "length_required",
            StatusCode::LENGTH_REQUIRED,
            "Content length is required for this request",
        ));
    };
    let length = stated
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    match length {
        Some(length) if length <= limit => Ok(()),
        Some(_) => Err(refused("Request is too large")),
        None => Err(refused("content length is not a valid Integer")),
    }
}

fn refused(message: &'static str) -> Rejection {
    Rejection::custom("request_too_large", StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: Option<&str>, expected: Option<u16>) {
        let sizes = Sizes {
            all: Some(10),
            by_path: Vec::new(),
        };
        let mut headers = HeaderMap::new();
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.parse().expect("a value"));
        }
        let path = RequestPath::of("/a", None).expect("a path");
        let refused = sizes.ask("POST", &path, &headers).err();
        assert_eq!(refused.map(|refused| refused.status().as_u16()), expected);
    }

    #[test]
    fn a_length_is_compared() {
        check(Some("10"), None);
        check(Some("11"), Some(400));
        check(Some("x"), Some(400));
        check(None, Some(411));
    }
}
