//! The answer to what is no head of a request: with a text, as Go's servers have it. hyper answers such bytes
//! itself, without one, and nobody else is asked; so its answer is known by its form as it goes out.

use std::{
    io,
    task::{Context, Poll, ready},
};

/// hyper's answer up to its date.
const OF_HYPER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\nDate: ";

/// A date, and the ends of two lines.
const REST: usize = "Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n".len();

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 15\r\n\r\n400 Bad Request";

/// How much of the answer was written.
#[derive(Debug, Default)]
pub(super) struct NoHead {
    written: usize,
}

impl NoHead {
    /// Whether bytes that are to be written are hyper's answer. Those of an API have more headers.
    pub(super) fn is_answer(bytes: &[u8]) -> bool {
        bytes.len() == OF_HYPER.len() + REST && bytes.starts_with(OF_HYPER)
    }

    /// Writes the answer in the place of hyper's, which then counts as written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        while self.written < ANSWER.len() {
            match ready!(write(cx, &ANSWER[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Poll::Ready(Ok(OF_HYPER.len() + REST))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn hypers_answer_is_known_from_others() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let head = std::str::from_utf8(OF_HYPER).unwrap();
        let is_answer = |text: String| NoHead::is_answer(text.as_bytes());
        assert!(is_answer(format!("{head}{date}")));
        assert!(!is_answer(format!("{head}{date}x")));
        assert!(!is_answer(format!("{head}{date}").replace("400", "404")));
        assert!(!is_answer(format!("X-A: b\r\n{head}{date}")));
    }

    #[test]
    fn it_is_written_in_pieces_too() {
        let (mut answer, mut sent) = (NoHead::default(), Vec::new());
        let mut cx = Context::from_waker(Waker::noop());
        let mut is_busy = false;
        let written = loop {
            let polled = answer.poll_write(&mut cx, |_, bytes| {
                is_busy = !is_busy;
                if is_busy {
                    return Poll::Pending;
                }
                let piece = bytes.len().min(50);
                sent.extend_from_slice(&bytes[..piece]);
                Poll::Ready(Ok(piece))
            });
            if let Poll::Ready(written) = polled {
                break written.unwrap();
            }
        };
        assert_eq!((sent.as_slice(), written), (ANSWER, OF_HYPER.len() + REST));
    }
}
