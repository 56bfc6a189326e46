//! What hyper lets pass of HTTP/1.1 though others read it otherwise.
//!
//! hyper refuses most of what requests are smuggled by. What it takes, another server before us may
//! understand in another way: a line that ends without CR, `Content-Length` twice or beside
//! `Transfer-Encoding`, an encoding before `chunked`. [`Framing`] sees the same bytes before hyper
//! does, and finds the place from which on they are not to be read.

use memchr::memchr;

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    line: Vec<u8>, // The beginning of a line that has not come whole.
    head: Head,
    longest_line: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Head,
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    Trailers,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    is_chunked: bool,
    asks_to_upgrade: bool,
}

/// Bytes that are not to be read, beginning here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NotAsSent {
    pub(super) from: usize,
}

struct Bad;

impl Framing {
    pub(super) fn new(longest_line: usize) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            head: Head::default(),
            longest_line,
        }
    }

    /// Whether a head has begun and has not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.state == State::Head && (self.head.has_begun || !self.line.is_empty())
    }

    /// Whether the last request asked to go over to another protocol.
    pub(super) fn may_upgrade(&self) -> bool {
        self.head.asks_to_upgrade
    }

    /// Looks at what comes next.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Result<(), NotAsSent> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Sized(left) => at += self.skip(left, rest.len(), State::Sized, State::Head),
                State::ChunkData(left) => {
                    at += self.skip(left, rest.len(), State::ChunkData, State::ChunkSize);
                }
                State::Head | State::ChunkSize | State::Trailers => {
                    let (taken, seen) = self.see_line(rest);
                    seen.map_err(|Bad| NotAsSent { from: at })?;
                    at += taken;
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, here: usize, going: fn(u64) -> State, then: State) -> usize {
        let here_long = u64::try_from(here).unwrap_or(u64::MAX);
        if here_long < left {
            self.state = going(left - here_long);
            return here;
        }
        self.state = then;
        usize::try_from(left).unwrap_or(here)
    }

    /// Looks at the rest of a line, and says how much of it was here.
    fn see_line(&mut self, rest: &[u8]) -> (usize, Result<(), Bad>) {
        let Some(end) = memchr(b'\n', rest) else {
            if self.line.len() + rest.len() > self.longest_line {
                return (0, Err(Bad));
            }
            self.line.extend_from_slice(rest);
            return (rest.len(), Ok(()));
        };
        let seen = if self.line.is_empty() {
            self.line_came(&rest[..end])
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&rest[..end]);
            self.line_came(&line)
        };
        (end + 1, seen)
    }

    fn line_came(&mut self, line: &[u8]) -> Result<(), Bad> {
        let line = line.strip_suffix(b"\r").ok_or(Bad)?;
        match self.state {
            State::Head if line.is_empty() && self.head.has_begun => self.head_ended(),
            State::Head if line.is_empty() => {} // Empty lines before a request mean nothing.
            State::Head if self.head.has_begun => self.head.field(line)?,
            State::Head => {
                self.head = Head {
                    has_begun: true,
                    ..Head::default()
                }
            }
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::ChunkSize => {
                let size = chunk_size(line).ok_or(Bad)?;
                self.state = match size {
                    0 => State::Trailers,
                    size => State::ChunkData(size.checked_add(2).ok_or(Bad)?), // With its line end.
                };
            }
            State::Trailers | State::Sized(_) | State::ChunkData(_) => {}
        }
        Ok(())
    }

    fn head_ended(&mut self) {
        self.head.has_begun = false;
        self.state = match self.head.length {
            _ if self.head.is_chunked => State::ChunkSize,
            Some(length) if length > 0 => State::Sized(length),
            _ => State::Head,
        };
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Bad> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Bad); // A folded line.
        }
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T' | b'u' | b'U')) {
            return Ok(()); // Most names are none of the three.
        }
        let (name, value) = line.split_at(memchr(b':', line).unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() || self.is_chunked {
                return Err(Bad);
            }
            self.length = Some(decimal(value).ok_or(Bad)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = value.eq_ignore_ascii_case(b"chunked");
            if self.length.is_some() || self.is_chunked || !is_chunked {
                return Err(Bad);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.asks_to_upgrade = true;
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
    let digits = &line[..end.unwrap_or(line.len())];
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    fn see(bytes: &str, step: usize) -> Result<(), usize> {
        let mut framing = Framing::new(1 << 16);
        let mut at = 0;
        for part in bytes.as_bytes().chunks(step) {
            framing.see(part).map_err(|bad| at + bad.from)?;
            at += part.len();
        }
        Ok(())
    }

    /// The same whole and in pieces of every size.
    #[track_caller]
    fn check(bytes: &str, is_good: bool) {
        for step in 1..=bytes.len() {
            assert_eq!(see(bytes, step).is_ok(), is_good, "{bytes:?} by {step}");
        }
    }

    #[test]
    fn requests_one_after_another_are_followed() {
        check(GOOD, true);
        check(&format!("\r\n{GOOD}{GOOD}"), true);
        let sized = "POST / HTTP/1.1\r\ncontent-length:  11 \r\n\r\na\nb\ncontent";
        check(&format!("{sized}{GOOD}"), true);
        check(&format!("{sized}GET /b HTTP/1.1\nHost: h\n\n"), false);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
        check(
            &format!("{chunked}3;x=y\r\na\nb\r\nA\r\n0123456789\r\n0\r\n\r\n{GOOD}"),
            true,
        );
        check(&format!("{chunked}0\r\nX-T: 1\r\n\r\n{GOOD}"), true);
        check(
            &format!("{chunked}0\r\n\r\nGET / HTTP/1.1\nA: b\r\n\r\n"),
            false,
        );
        check(
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            true,
        );
    }

    #[test]
    fn attack_67_what_others_read_otherwise_is_not_read() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\ncontent-length: 2",
            "Content-Length: +5",
            "Content-Length: 5 5",
            "Content-Length: 5, 5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "X-A: b\r\n folded",
            "X-A: b\r\n\tfolded",
            "X-A: b\nX-B: c",
        ] {
            check(
                &format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"),
                false,
            );
        }
        check("GET / HTTP/1.1\nHost: h\r\n\r\n", false);
        check("GET / HTTP/1.1\r\nHost: h\r\n\n", false);
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
            false,
        );
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            false,
        );
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n",
            false,
        );
    }

    #[test]
    fn what_came_before_is_still_read() {
        let bytes = format!("{GOOD}GET /b HTTP/1.1\r\nA: b\nC: d\r\n\r\n");
        let from = GOOD.len() + "GET /b HTTP/1.1\r\n".len();
        assert_eq!(see(&bytes, bytes.len()), Err(from));
    }

    #[test]
    fn attack_40_a_line_has_a_longest_length() {
        let mut framing = Framing::new(16);
        assert!(framing.see(b"0123456789abcdef").is_ok());
        assert!(framing.see(b"g").is_err());
    }
}
