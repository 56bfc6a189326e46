//! Which known name a wrong one was meant to be.

/// The known name that is nearest to `name`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let farthest = (name.chars().count() / 3).clamp(1, 4);
    let distance = |known: &&str| strsim::damerau_levenshtein(&name, &known.to_ascii_lowercase());
    let nearest = known.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= farthest).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let known = ["listen_path", "listen_port", "target_url", "id"];
        assert_eq!(nearest("lisen_path", known), Some("listen_path"));
        assert_eq!(nearest("TargetURL", known), Some("target_url"));
        assert_eq!(nearest("dd", known), Some("id"));
        assert_eq!(nearest("created_at", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
