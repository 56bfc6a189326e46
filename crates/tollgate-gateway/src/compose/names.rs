//! Which API a name means, where one API speaks of another.

use std::collections::{HashMap, HashSet};

use tollgate::ApiId;

use crate::definition::Definition;

/// The ids and names of the APIs that are served.
#[derive(Debug, Default)]
pub struct Names {
    ids: HashSet<ApiId>,
    by_name: HashMap<String, Vec<ApiId>>,
    /// Whether rewrites send requests from API to API.
    are_looped_to: bool,
}

impl Names {
    /// Those of these definitions.
    pub fn of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Self {
        let mut names = Self::default();
        for definition in definitions {
            names.are_looped_to |= definition.rewrites_to_apis();
            let id = &definition.api_id;
            if id.is_empty() {
                continue;
            }
            names.ids.insert(id.clone());
            let of_it = [definition.id.to_ascii_lowercase(), slug(&definition.name)];
            for name in of_it.into_iter().filter(|name| !name.is_empty()) {
                names.by_name.entry(name).or_default().push(id.clone());
            }
        }
        names
    }

    /// Whether a rewrite may send a request to one of these.
    pub fn are_looped_to(&self) -> bool {
        self.are_looped_to
    }

    /// The API that is called so: by its id, or else by the dashboard's, or else by its name, in which all
    /// but letters and digits counts as `-`. `None` where there is none.
    ///
    /// # Errors
    ///
    /// Fails where several could be meant.
    pub fn find(&self, name: &str) -> Result<Option<ApiId>, String> {
        if let Some(id) = self.ids.get(name) {
            return Ok(Some(id.clone()));
        }
        let named = [name.to_ascii_lowercase(), slug(name)];
        let named = named.iter().find_map(|name| self.by_name.get(name));
        match named.map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([id]) => Ok(Some(id.clone())),
            Some(_) => Err(format!("several APIs are called `{name}`")),
        }
    }
}

/// A name as it stands in a URL: without what stands behind `#`, in small letters, every run of what is
/// neither letter nor digit as `-`.
fn slug(name: &str) -> String {
    let name = name.split('#').next().unwrap_or_default().trim_end();
    let mut slug = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let apis = [
            ("a_1", "507f1f77", "back office"),
            ("b", "", "My Shop (v2) #eu"),
            ("c", "", "twin"),
            ("d", "", "Twin"),
            ("", "", "nameless"),
        ];
        let definitions = apis.map(|(api_id, id, name)| Definition {
            api_id: api_id.into(),
            id: id.into(),
            name: name.into(),
            ..Definition::default()
        });
        Names::of(&definitions)
    }

    #[track_caller]
    fn check(name: &str, expected: Result<Option<&str>, ()>) {
        let found = names().find(name).map_err(drop);
        let expected = expected.map(|id| id.map(ApiId::from));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn an_api_is_found_by_id_or_name() {
        check("a_1", Ok(Some("a_1")));
        check("A_1", Ok(None));
        check("507F1F77", Ok(Some("a_1")));
        check("back-office", Ok(Some("a_1")));
        check("Back-Office", Ok(Some("a_1")));
        check("my-shop-v2-", Ok(Some("b")));
        check("nameless", Ok(None));
        check("", Ok(None));
        check("self", Ok(None));
    }

    #[test]
    fn a_name_that_two_have_means_neither() {
        check("twin", Err(()));
        check("c", Ok(Some("c")));
    }
}
