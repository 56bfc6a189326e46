//! Versions as `Masterminds/semver` reads and compares them.

use std::{cmp::Ordering, fmt, sync::LazyLock};

use regex::Regex;

/// A version.
#[derive(Clone, Debug, Eq)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pub(crate) pre: String,
    pub(crate) metadata: String,
    pub(crate) original: String,
}

const EXTRA: &str =
    r"(-([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?(\+([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?";

fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok() // The patterns are constants; a test compiles them.
}

static VERSION: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(&format!(r"^v?([0-9]+)(\.[0-9]+)?(\.[0-9]+)?{EXTRA}$")));

const WILD: &str = r"v?([0-9|x|X|\*]+)(\.[0-9|x|X|\*]+)?(\.[0-9|x|X|\*]+)?";

const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

static CONSTRAINT: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(&format!(r"^\s*({OPERATORS})\s*({WILD}{EXTRA})\s*$")));

static RANGE: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(&format!(r"\s*({WILD}{EXTRA})\s+-\s+({WILD}{EXTRA})\s*")));

static EACH: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(&format!(r"({OPERATORS})\s*({WILD}{EXTRA})")));

static VALID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let one = format!(r"({OPERATORS})\s*({WILD}{EXTRA})\s*");
    compiled(&format!(r"^(\s*{one})((?:\s+|,\s*){one})*$"))
});

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let found = VERSION.as_ref()?.captures(text)?;
        let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
        let number = |at: usize| match part(at).trim_start_matches('.') {
            "" => Some(0),
            digits => digits.parse().ok(),
        };
        let pre = part(5);
        let has_zero = |part: &str| {
            part.len() > 1
                && part.starts_with('0')
                && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if pre.split('.').any(has_zero) {
            return None;
        }
        Some(Self {
            major: number(1)?,
            minor: number(2)?,
            patch: number(3)?,
            pre: pre.into(),
            metadata: part(8).into(),
            original: text.into(),
        })
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| compare_pre(&self.pre, &other.pre))
    }

    /// The next version, by which part is counted up.
    pub(crate) fn next(&self, (major, minor, patch): (u64, u64, u64)) -> Self {
        let mut next = Self {
            major,
            minor,
            patch,
            pre: String::new(),
            metadata: String::new(),
            original: String::new(),
        };
        let v = if self.original.starts_with('v') {
            "v"
        } else {
            ""
        };
        next.original = format!("{v}{next}");
        next
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string() && self.original == other.original
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

/// A version with something behind it comes before the one without.
fn compare_pre(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(right),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// What versions are compared with.
struct Constraint {
    operator: String,
    version: Version,
    /// Parts are left out or stand for all.
    is_dirty: bool,
    minor_is_dirty: bool,
    patch_is_dirty: bool,
}

/// Whether a version meets a constraint; none where one of them can not be read.
pub(crate) fn meets(constraint: &str, version: &str) -> Option<bool> {
    let constraint = without_ranges(constraint)?;
    let mut alternatives = Vec::new();
    for all in constraint.split("||") {
        if !VALID.as_ref()?.is_match(all) {
            return None;
        }
        let each = EACH.as_ref()?.find_iter(all);
        let each = each.map(|found| Constraint::parse(found.as_str()));
        alternatives.push(each.collect::<Option<Vec<_>>>()?);
    }
    let version = Version::parse(version)?;
    Some(
        alternatives
            .iter()
            .any(|all| all.iter().all(|one| one.is_met_by(&version))),
    )
}

/// `1 - 2` is `>= 1, <= 2`.
fn without_ranges(constraint: &str) -> Option<String> {
    let mut out = constraint.to_owned();
    for found in RANGE.as_ref()?.captures_iter(constraint) {
        let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
        out = out.replacen(part(0), &format!(">= {}, <= {} ", part(1), part(11)), 1);
    }
    Some(out)
}

impl Constraint {
    fn parse(text: &str) -> Option<Self> {
        let found = CONSTRAINT.as_ref()?.captures(text)?;
        let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
        let is_open = |at: usize| matches!(part(at).trim_start_matches('.'), "" | "x" | "X" | "*");
        let (major, minor, extra) = (part(3), part(4), part(6));
        let mut constraint = Self {
            operator: part(1).into(),
            version: Version::parse("0.0.0")?,
            is_dirty: true,
            minor_is_dirty: false,
            patch_is_dirty: false,
        };
        let version = if is_open(3) {
            format!("0.0.0{extra}")
        } else if is_open(4) {
            constraint.minor_is_dirty = true;
            format!("{major}.0.0{extra}")
        } else if is_open(5) {
            constraint.patch_is_dirty = true;
            format!("{major}{minor}.0{extra}")
        } else {
            constraint.is_dirty = false;
            part(2).into()
        };
        constraint.version = Version::parse(&version)?;
        Some(constraint)
    }

    fn is_met_by(&self, version: &Version) -> bool {
        let own = &self.version;
        let is_pre_only = !version.pre.is_empty() && own.pre.is_empty();
        let order = version.compare(own);
        match &*self.operator {
            "!=" if !self.is_dirty => order != Ordering::Equal,
            _ if is_pre_only => false,
            "!=" => self.differs(version),
            ">" if !self.is_dirty => order == Ordering::Greater,
            ">" if version.major != own.major => version.major > own.major,
            ">" if self.minor_is_dirty => false,
            ">" if self.patch_is_dirty => version.minor > own.minor,
            ">" => order == Ordering::Greater,
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" if !self.is_dirty => order != Ordering::Greater,
            "<=" | "=<" => {
                let is_over = version.major == own.major && version.minor > own.minor;
                version.major <= own.major && (!is_over || self.minor_is_dirty)
            }
            "~" | "~>" => self.is_near(version),
            "^" => self.is_compatible(version),
            _ if self.is_dirty => self.is_near(version),
            _ => order == Ordering::Equal,
        }
    }

    fn differs(&self, version: &Version) -> bool {
        let own = &self.version;
        if own.major != version.major {
            return true;
        }
        if self.minor_is_dirty {
            return false;
        }
        if own.minor != version.minor {
            return true;
        }
        if self.patch_is_dirty {
            let has_pre = !version.pre.is_empty() || !own.pre.is_empty();
            return has_pre && compare_pre(&version.pre, &own.pre) != Ordering::Equal;
        }
        own.patch != version.patch || version.compare(own) != Ordering::Equal
    }

    fn is_near(&self, version: &Version) -> bool {
        let own = &self.version;
        if version.compare(own) == Ordering::Less {
            return false;
        }
        let is_zero = (own.major, own.minor, own.patch) == (0, 0, 0);
        if is_zero && !self.minor_is_dirty && !self.patch_is_dirty {
            return true;
        }
        version.major == own.major && (version.minor == own.minor || self.minor_is_dirty)
    }

    fn is_compatible(&self, version: &Version) -> bool {
        let own = &self.version;
        if version.compare(own) == Ordering::Less {
            return false;
        }
        if own.major > 0 || self.minor_is_dirty {
            return version.major == own.major;
        }
        if version.major > 0 {
            return false;
        }
        if own.minor > 0 || self.patch_is_dirty {
            return version.minor == own.minor;
        }
        version.minor == 0 && own.patch == version.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_compile() {
        for pattern in [&VERSION, &CONSTRAINT, &RANGE, &EACH, &VALID] {
            assert!(pattern.is_some());
        }
    }

    #[test]
    fn constraints_are_met() {
        for (constraint, version, met) in [
            ("^1.2", "1.9.0", Some(true)),
            ("~1", "1.9.0", Some(true)),
            (">1.x", "1.9.0", Some(false)),
            ("!=1.2", "1.2.5", Some(false)),
            ("1 - 2", "2.5", Some(true)),
            ("what", "1", None),
        ] {
            assert_eq!(meets(constraint, version), met, "{constraint} {version}");
        }
    }
}
