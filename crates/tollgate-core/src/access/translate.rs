//! From Tyk's path patterns to the words of the `regex` crate.
//!
//! A pattern is a Go regular expression in which `{name}` stands for one segment, `/*/` for one
//! segment and `/*` for anything below. Where the two languages differ the Go meaning is written
//! out; what Go refuses is refused here too, as a pattern that does not compile grants nothing.
//!
//! Expressions of rewrites are Go's without templates and stars, and their groups capture.

const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\f\r ";
const MOST_REPEATS: u32 = 1000; // Go's own bound.

/// The pattern in the `regex` crate's words, all groups without capture.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let opened = pattern.matches('{').count();
    let templates = 0 < opened && opened == pattern.matches('}').count();
    let mut translator = Translator::new(pattern, templates);
    translator.run()?;
    Ok(translator.out)
}

/// A plain expression in the `regex` crate's words; its groups capture, by number.
pub(super) fn translate_expression(expression: &str) -> Result<String, String> {
    let mut translator = Translator::new(expression, false);
    translator.is_plain = true;
    translator.run()?;
    Ok(translator.out)
}

/// What stands before the next character, for what a repetition would repeat.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Atom,
    Slash,
    Repetition,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    templates: bool,
    /// No path: slashes are nothing special, and groups capture.
    is_plain: bool,
    before: Before,
    depth: usize,
    after_segment_star: bool,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str, templates: bool) -> Self {
        Self {
            rest: pattern,
            out: String::with_capacity(pattern.len() + 16),
            templates,
            is_plain: false,
            before: Before::Nothing,
            depth: 0,
            after_segment_star: false,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.take() {
            match c {
                '/' => self.slash(),
                '{' => self.brace()?,
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => self.close()?,
                '*' | '+' | '?' => self.repeat(&c.to_string())?,
                '|' => self.push("|", Before::Nothing),
                c => self.push(c.encode_utf8(&mut [0; 4]), Before::Atom),
            }
        }
        if self.depth == 0 {
            Ok(())
        } else {
            Err("a parenthesis is not closed".into())
        }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_if(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn push(&mut self, text: &str, before: Before) {
        self.out.push_str(text);
        self.before = before;
    }

    fn literal(&mut self, c: char) {
        let text = regex::escape(c.encode_utf8(&mut [0; 4]));
        self.push(&text, Before::Atom);
    }

    /// A slash, with the star that may follow it. Of `/*/*/` Tyk makes a segment and anything.
    fn slash(&mut self) {
        if self.is_plain {
            return self.push("/", Before::Atom);
        }
        let after_segment_star = std::mem::take(&mut self.after_segment_star);
        if self.rest.starts_with("*/") && !after_segment_star {
            self.rest = &self.rest[1..];
            self.after_segment_star = true;
            self.push("/[^/]+", Before::Repetition);
        } else if self.take_if("*") {
            self.push("/.*", Before::Repetition);
            self.lazy();
        } else {
            self.push("/", Before::Slash);
        }
    }

    /// A repetition, a template, or a brace that means itself.
    fn brace(&mut self) -> Result<(), String> {
        let inner = self.rest.find('}').map(|end| &self.rest[..end]);
        match inner {
            // No path holds two slashes in a row, so `/{2}` is a template that has a number for name.
            Some(inner) if self.before == Before::Atom && is_repetition(inner) => {
                self.rest = &self.rest[inner.len() + 1..];
                if inner
                    .split(',')
                    .any(|n| n.parse::<u32>().is_ok_and(|n| n > MOST_REPEATS))
                {
                    return Err(format!("more than {MOST_REPEATS} repetitions"));
                }
                self.repeat(&format!("{{{inner}}}"))
            }
            Some(inner) if self.templates => self.template(inner),
            _ => {
                self.literal('{');
                Ok(())
            }
        }
    }

    fn template(&mut self, inner: &'a str) -> Result<(), String> {
        let name = inner.split(':').next().unwrap_or_default();
        let named = name
            .chars()
            .all(|c| c.is_alphanumeric() || "_-. ".contains(c));
        if !named || name.len() == inner.len() {
            self.rest = &self.rest[inner.len() + 1..];
            self.push("(?:[^/]+)", Before::Atom);
            return Ok(());
        }
        let body = &self.rest[name.len() + 1..];
        let end = closing_brace(body).ok_or("a template is not closed")?;
        let constraint = if end == 0 { "[^/]+" } else { &body[..end] };
        // Braces in a constraint are repetitions: there are no templates in templates.
        let mut translator = Translator::new(constraint, false);
        translator.run()?;
        self.rest = &body[end + 1..];
        self.push(&format!("(?:{})", translator.out), Before::Atom);
        Ok(())
    }

    fn repeat(&mut self, operator: &str) -> Result<(), String> {
        match self.before {
            Before::Nothing => return Err("a repetition with nothing to repeat".into()),
            Before::Repetition => return Err("a repetition of a repetition".into()),
            Before::Atom | Before::Slash => {}
        }
        self.push(operator, Before::Repetition);
        self.lazy();
        Ok(())
    }

    fn lazy(&mut self) {
        if self.take_if("?") {
            self.out.push('?');
        }
    }

    fn group(&mut self) -> Result<(), String> {
        let named = self.take_if("?P<")
            || (!self.rest.starts_with("?<=")
                && !self.rest.starts_with("?<!")
                && self.take_if("?<"));
        if named {
            let end = self.rest.find('>').ok_or("a group's name is not closed")?;
            self.rest = &self.rest[end + 1..];
        } else if self.take_if("?") {
            return self.flags();
        }
        self.depth += 1;
        self.push(if self.is_plain { "(" } else { "(?:" }, Before::Nothing);
        Ok(())
    }

    fn flags(&mut self) -> Result<(), String> {
        let is_flag = |c: char| matches!(c, 'i' | 'm' | 's' | 'U' | '-');
        let end = self.rest.find(|c| !is_flag(c)).unwrap_or(self.rest.len());
        let (flags, rest) = self.rest.split_at(end);
        let closer = match rest.chars().next() {
            Some(':') => {
                self.depth += 1;
                ":"
            }
            Some(')') => ")",
            _ => return Err("look-around and this kind of group are not supported".into()),
        };
        self.rest = &rest[1..];
        self.push(&format!("(?{flags}{closer}"), Before::Nothing);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let depth = self.depth.checked_sub(1);
        self.depth = depth.ok_or("a parenthesis is closed that was not opened")?;
        self.push(")", Before::Atom);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let c = self.take().ok_or("a backslash at the end")?;
        match c {
            '/' => self.slash(),
            'Q' => self.quoted(),
            'b' | 'B' => self.push(&format!(r"(?-u:\{c})"), Before::Atom),
            'A' | 'z' => self.push(&format!(r"\{c}"), Before::Atom),
            _ => {
                let text = self.escaped(c)?;
                self.push(&text, Before::Atom);
            }
        }
        Ok(())
    }

    fn quoted(&mut self) {
        let quoted = self.rest;
        let (text, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        self.rest = rest;
        text.chars().for_each(|c| self.literal(c));
    }

    /// Escapes that mean the same inside and outside of a class.
    fn escaped(&mut self, c: char) -> Result<String, String> {
        match c {
            'd' => Ok("[0-9]".into()),
            'D' => Ok("[^0-9]".into()),
            'w' => Ok(format!("[{WORD}]")),
            'W' => Ok(format!("[^{WORD}]")),
            's' => Ok(format!("[{SPACE}]")),
            'S' => Ok(format!("[^{SPACE}]")),
            'a' | 'f' | 't' | 'n' | 'r' | 'v' => Ok(format!(r"\{c}")),
            'p' | 'P' | 'x' => self.coded(c),
            c if c.is_ascii_punctuation() => Ok(regex::escape(c.encode_utf8(&mut [0; 4]))),
            '0'..='9' => Err("back-references are not supported".into()),
            c => Err(format!(r"the escape \{c} is not known")),
        }
    }

    fn coded(&mut self, c: char) -> Result<String, String> {
        let length = if self.rest.starts_with('{') {
            if self.templates {
                return Err(format!(r"the braces of \{c}{{…}} are taken for a template"));
            }
            self.rest.find('}').ok_or("a brace is not closed")? + 1
        } else {
            let digits = if c == 'x' { 2 } else { 1 };
            self.rest.chars().take(digits).map(char::len_utf8).sum()
        };
        let (code, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(format!(r"\{c}{code}"))
    }

    /// A class. What only the `regex` crate gives a meaning to (`[`, `&&`, `~~`, `--`) means itself.
    fn class(&mut self) -> Result<(), String> {
        const OPEN: &str = "a class is not closed";
        self.out.push('[');
        if self.take_if("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.starts_with("--") {
                return Err("two hyphens in a class".into());
            }
            match self.take().ok_or(OPEN)? {
                ']' if !first => break,
                '[' if self.rest.starts_with(':') => {
                    let end = self.rest.find(":]").ok_or(OPEN)? + 2;
                    let (name, rest) = self.rest.split_at(end);
                    self.out.push('[');
                    self.out.push_str(name);
                    self.rest = rest;
                }
                '\\' => {
                    let c = self.take().ok_or(OPEN)?;
                    let text = self.escaped(c)?;
                    self.out.push_str(&text);
                }
                c @ ('[' | ']' | '&' | '~') => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c => self.out.push(c),
            }
            first = false;
        }
        self.push("]", Before::Atom);
        Ok(())
    }
}

fn is_repetition(inner: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inner.split_once(',') {
        Some((least, most)) => digits(least) && (most.is_empty() || digits(most)),
        None => digits(inner),
    }
}

/// Where the brace is that closes the one before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, regex: &str) {
        assert_eq!(translate(pattern).as_deref(), Ok(regex), "{pattern}");
        regex::bytes::Regex::new(regex).expect("compiles");
    }

    #[test]
    fn templates_and_stars_become_segments() {
        check("/users/{id}", "/users/(?:[^/]+)");
        check("/{a}/{b-c.d}$", "/(?:[^/]+)/(?:[^/]+)$");
        check("/a/*/c", "/a/[^/]+/c");
        check("/a/*", "/a/.*");
        check("/a/*?b", "/a/.*?b");
        check("/a/*/*/c", "/a/[^/]+/.*/c");
        check(r"\/a\/*", "/a/.*");
    }

    #[test]
    fn repetitions_and_constraints_stay() {
        check(r"/\d{3}$", "/[0-9]{3}$");
        check(r"/a{2,}b{2,3}?", "/a{2,}b{2,3}?");
        check("/n/{id:[0-9]+}", "/n/(?:[0-9]+)");
        check("/n/{id:[0-9]{2}}x", "/n/(?:[0-9]{2})x");
        check("/n/{2}", "/n/(?:[^/]+)");
    }

    #[test]
    fn braces_that_do_not_pair_mean_themselves() {
        check("/a/{id", r"/a/\{id");
        check("/b/{id}}", r"/b/\{id}}");
    }

    #[test]
    fn words_mean_what_they_mean_in_go() {
        check(r"\w\D\s", r"[0-9A-Za-z_][^0-9][\t\n\f\r ]");
        check(r"[\w.-]", r"[[0-9A-Za-z_].-]");
        check(r"[[a&&b]", r"[\[a\&\&b]");
        check(r"\Qa.b\E.", r"a\.b.");
        check(r"\<a\>", "<a>");
        check(r"(?P<x>a)(?<y>b)(?i:c)", "(?:a)(?:b)(?i:c)");
    }

    #[test]
    fn groups_of_an_expression_capture_and_slashes_are_plain() {
        for (expression, regex) in [
            ("/a/*(.*)$", "/a/*(.*)$"),
            (r"(?P<x>\d{2})(?<y>b)(?:c)", r"([0-9]{2})(b)(?:c)"),
            ("/{id}", r"/\{id}"),
            (r"\x{e9}", r"\x{e9}"),
        ] {
            assert_eq!(translate_expression(expression).as_deref(), Ok(regex));
            regex::bytes::Regex::new(regex).expect("compiles");
        }
        for refused in ["(", "a(?=b)", r"(a)\1", "/**"] {
            assert!(translate_expression(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "(",
            ")",
            "/a)|(/b",
            "*",
            "a**",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            r"(a)\1",
            "[a",
            "a\\",
            r"/\p{Greek}+$",
            "(?x)a",
            "/{id:a)|(b}",
            "a{1001}",
            r"\y",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
