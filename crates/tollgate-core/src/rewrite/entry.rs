//! Entries of `url_rewrites` as Tyk's definitions hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Declares a struct of a definition: every member may be missing.
macro_rules! record {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $ty:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(default)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }
    )*};
}

record! {
    /// Another path for the upstream.
    pub struct UrlRewriteEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// What of the path is matched.
        pub match_pattern: String,
        /// What it becomes.
        pub rewrite_to: String,
        /// What else it may become.
        pub triggers: Vec<RewriteTrigger>,
    }

    /// What else a path may become.
    pub struct RewriteTrigger {
        /// `any` or `all`.
        pub on: String,
        /// When.
        pub options: RewriteOptions,
        /// What it becomes.
        pub rewrite_to: String,
    }

    /// When a trigger fires.
    pub struct RewriteOptions {
        /// By header.
        pub header_matches: BTreeMap<String, RewriteMatch>,
        /// By parameter.
        pub query_val_matches: BTreeMap<String, RewriteMatch>,
        /// By segment of the path.
        pub path_part_matches: BTreeMap<String, RewriteMatch>,
        /// By metadata.
        pub session_meta_matches: BTreeMap<String, RewriteMatch>,
        /// By context variable.
        pub request_context_matches: BTreeMap<String, RewriteMatch>,
        /// By body.
        pub payload_matches: RewriteMatch,
    }

    /// A pattern for a value.
    pub struct RewriteMatch {
        /// The pattern.
        pub match_rx: String,
        /// Whether it must not match.
        pub reverse: bool,
    }
}

impl RewriteMatch {
    /// A value that is there, and that the expression is not found in.
    pub fn not(expression: impl Into<String>) -> Self {
        Self {
            match_rx: expression.into(),
            reverse: true,
        }
    }
}

impl<T: Into<String>> From<T> for RewriteMatch {
    /// A value that the expression is found in.
    fn from(expression: T) -> Self {
        Self {
            match_rx: expression.into(),
            reverse: false,
        }
    }
}

impl RewriteTrigger {
    /// Fires where one of the values is as it should be.
    pub fn any(target: impl Into<String>) -> Self {
        Self::on("any", target)
    }

    /// Fires where for every name there is a value as it should be; without any name, always.
    pub fn all(target: impl Into<String>) -> Self {
        Self::on("all", target)
    }

    fn on(on: &str, target: impl Into<String>) -> Self {
        Self {
            on: on.into(),
            options: RewriteOptions::default(),
            rewrite_to: target.into(),
        }
    }

    /// Looks at the values of a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<RewriteMatch>) -> Self {
        let matches = &mut self.options.header_matches;
        matches.insert(name.into(), value.into());
        self
    }

    /// Looks at the values of a parameter of the query.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<RewriteMatch>) -> Self {
        let matches = &mut self.options.query_val_matches;
        matches.insert(name.into(), value.into());
        self
    }

    /// Looks at every segment of the path; the label names its variables.
    #[must_use]
    pub fn path_part(mut self, label: impl Into<String>, value: impl Into<RewriteMatch>) -> Self {
        let matches = &mut self.options.path_part_matches;
        matches.insert(label.into(), value.into());
        self
    }

    /// Looks at a text of the session's metadata.
    #[must_use]
    pub fn session_meta(mut self, name: impl Into<String>, value: impl Into<RewriteMatch>) -> Self {
        let matches = &mut self.options.session_meta_matches;
        matches.insert(name.into(), value.into());
        self
    }

    /// Looks at a text of the request's context, as `remote_addr`.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<RewriteMatch>) -> Self {
        let matches = &mut self.options.request_context_matches;
        matches.insert(name.into(), value.into());
        self
    }

    /// Looks at the body.
    #[must_use]
    pub fn payload(mut self, value: impl Into<RewriteMatch>) -> Self {
        self.options.payload_matches = value.into();
        self
    }
}
