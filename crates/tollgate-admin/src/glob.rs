//! Patterns of Redis' `SCAN MATCH`, which Tyk's `filter` is.

/// Whether a name starts as the pattern says: `*`, `?`, `[a-z]`, `[^a]`, and `\` before any of them.
///
/// Takes at most a step for each pair of a character of the name and one of the pattern.
pub(crate) fn starts_as(name: &str, pattern: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut pattern: Vec<char> = pattern.chars().collect();
    pattern.push('*'); // A filter is what a name begins with.
    matches(&name, &pattern)
}

/// What every name of the pattern begins with.
pub(crate) fn literal_start(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '\\']);
    &pattern[..end.unwrap_or(pattern.len())]
}

fn matches(name: &[char], pattern: &[char]) -> bool {
    let (mut at, mut rule) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // The rule behind the last star, and where it began.
    while at < name.len() {
        if pattern.get(rule) == Some(&'*') {
            star = Some((rule + 1, at));
            rule += 1;
        } else if let Some(next) = one(name[at], pattern, rule) {
            at += 1;
            rule = next;
        } else if let Some((behind, began)) = star {
            star = Some((behind, began + 1));
            at = began + 1;
            rule = behind;
        } else {
            return false;
        }
    }
    pattern[rule..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on if its next rule takes this character.
fn one(c: char, pattern: &[char], rule: usize) -> Option<usize> {
    match pattern.get(rule)? {
        '?' => Some(rule + 1),
        '[' => class(c, pattern, rule),
        '\\' if rule + 1 < pattern.len() => (pattern[rule + 1] == c).then_some(rule + 2),
        other => (*other == c).then_some(rule + 1),
    }
}

fn class(c: char, pattern: &[char], rule: usize) -> Option<usize> {
    let inverted = pattern.get(rule + 1) == Some(&'^');
    let mut at = rule + 1 + usize::from(inverted);
    let mut found = false;
    while at < pattern.len() && pattern[at] != ']' {
        let is_range = pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2) != Some(&']');
        if is_range && at + 2 < pattern.len() {
            let (low, high) = (pattern[at], pattern[at + 2]);
            found |= low.min(high) <= c && c <= low.max(high);
            at += 3;
        } else {
            found |= pattern[at] == c;
            at += 1;
        }
    }
    let end = (at + 1).min(pattern.len());
    (found != inverted).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(starts_as(name, pattern), expected, "{name} by {pattern}");
    }

    #[test]
    fn a_filter_is_what_a_name_begins_with() {
        check("", "any", true);
        check("org", "org1", true);
        check("org", "or", false);
        check("ca-*legacy", "ca-list-legacy", true);
        check("ca-*legacy", "ca-list", false);
        check("o?g", "org1", true);
        check("o[a-r]g", "org", true);
        check("o[^a-r]g", "org", false);
        check(r"o\*g", "o*g", true);
        check(r"o\*g", "oxg", false);
        check("[", "[", false);
    }

    #[test]
    fn many_stars_take_no_time() {
        let name = "a".repeat(2000);
        assert!(!starts_as(&name, &"*a".repeat(100).replace("a*", "a*b")));
    }

    #[test]
    fn literal_starts() {
        assert_eq!(literal_start("ca-*x"), "ca-");
        assert_eq!(literal_start("plain"), "plain");
    }
}
