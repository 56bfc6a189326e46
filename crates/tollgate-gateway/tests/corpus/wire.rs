//! HTTP/1.1 over plain sockets, as the corpus was recorded: what is sent is spelled as given, and what comes
//! is kept as it came.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use flate2::read::{DeflateDecoder, GzDecoder};

/// Names and values in their order and spelling, each byte one character.
pub(crate) type Headers = Vec<(String, String)>;

const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest line that is read.
const LINE: u64 = 1 << 20;

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Zero for a connection that was closed without an answer.
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The answer with its coding undone; its headers stay.
    pub(crate) fn decoded(mut self) -> io::Result<Self> {
        let is_coding =
            |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-encoding");
        let coding = self
            .headers
            .iter()
            .find(is_coding)
            .map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        match coding {
            Some("gzip") if !self.body.is_empty() => {
                GzDecoder::new(&*self.body).read_to_end(&mut body)?;
            }
            Some("deflate") => {
                DeflateDecoder::new(&*self.body).read_to_end(&mut body)?;
            }
            _ => return Ok(self),
        }
        self.body = body;
        Ok(self)
    }
}

/// One request on a connection of its own. Only `Host` and the length are added, where they are not given.
pub(crate) fn call(
    port: u16,
    (method, target): (&str, &str),
    headers: &[(String, String)],
    body: Option<&[u8]>,
    is_chunked: bool,
) -> io::Result<Answer> {
    let is_given = |wanted: &str| {
        headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    let mut message = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !is_given("host") {
        message.extend(format!("Host: 127.0.0.1:{port}\r\n").bytes());
    }
    for (name, value) in headers {
        for text in [name, ": ", value, "\r\n"] {
            message.extend(latin1(text)?);
        }
    }
    if is_chunked {
        message.extend(b"Transfer-Encoding: chunked\r\n");
    } else if !is_given("content-length") {
        match (body, method) {
            (Some(body), _) => {
                message.extend(format!("Content-Length: {}\r\n", body.len()).bytes())
            }
            (None, "POST" | "PUT" | "PATCH") => message.extend(b"Content-Length: 0\r\n"),
            (None, _) => {}
        }
    }
    message.extend(b"\r\n");
    match (body, is_chunked) {
        (Some(body), true) => {
            message.extend(format!("{:x}\r\n", body.len()).bytes());
            message.extend(body);
            message.extend(b"\r\n0\r\n\r\n");
        }
        (Some(body), false) => message.extend(body),
        (None, _) => {}
    }

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_nodelay(true)?;
    // Who refuses early may close before all was sent: the answer is there all the same.
    let sent = connection.write_all(&message);
    match read_answer(&mut BufReader::new(&connection), method) {
        Err(error) if is_closed(&error) => sent.map(|()| Answer::default()),
        other => other,
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

fn read_answer(reader: &mut impl BufRead, method: &str) -> io::Result<Answer> {
    loop {
        let line = read_line(reader)?;
        let mut words = line.split(' ');
        let is_http = words
            .next()
            .is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok());
        let (true, Some(status)) = (is_http, status) else {
            return Err(invalid(format!("no status line: {line:?}")));
        };
        let headers = read_headers(reader)?;
        if status == 100 {
            continue;
        }
        let has_body = method != "HEAD" && status >= 200 && status != 204 && status != 304;
        let body = if has_body {
            read_body(reader, &headers, Framing::Response)?
        } else {
            Vec::new()
        };
        return Ok(Answer {
            status,
            headers,
            body,
        });
    }
}

/// What a message has whose headers do not say how long it is.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    /// No body.
    Request,
    /// All until the connection is closed.
    Response,
}

/// The body as far as it came: a connection that is closed too early leaves what was there.
pub(crate) fn read_body(
    reader: &mut impl BufRead,
    headers: &Headers,
    framing: Framing,
) -> io::Result<Vec<u8>> {
    let value = |wanted: &str| {
        let mut found = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim())
    };
    let mut body = Vec::new();
    if value("transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
    {
        return match read_chunks(reader, &mut body) {
            Err(error) if !is_closed(&error) => Err(error),
            _ => Ok(body),
        };
    }
    let length = match value("content-length") {
        Some(length) => length
            .parse()
            .map_err(|_| invalid(format!("content-length: {length}")))?,
        None if matches!(framing, Framing::Request) => 0,
        None => u64::MAX,
    };
    reader.take(length).read_to_end(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            u64::from_str_radix(size, 16).map_err(|_| invalid(format!("chunk of {line:?}")))?;
        if size == 0 {
            return read_headers(reader).map(drop); // The trailers.
        }
        reader.take(size).read_to_end(body)?;
        read_line(reader)?;
    }
}

/// Until the empty line.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid(format!("no header: {line:?}")))?;
        headers.push((
            name.to_owned(),
            value.trim_start_matches([' ', '\t']).to_owned(),
        ));
    }
}

/// Without its end.
pub(crate) fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line.into_iter().map(char::from).collect())
}

/// The bytes of a text that was read, or is to be sent, as one of headers.
pub(crate) fn latin1(text: &str) -> io::Result<Vec<u8>> {
    let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>();
    bytes.map_err(|_| invalid(format!("no bytes of a header: {text:?}")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
