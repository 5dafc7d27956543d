//! Bodies of answers: whole, cut, dripping, endless, or never coming.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// The body of an answer.
pub(crate) enum Answer {
    /// All of it.
    Whole(Bytes),
    /// This much, then the connection ends.
    Cut(Bytes),
    /// A byte at a time.
    Drip { rest: Bytes, interval: Duration, sleep: Pin<Box<Sleep>> },
    /// This, then white space for ever.
    Endless(Bytes),
    /// Nothing ever, though a length was said.
    Never,
}

impl Answer {
    pub(crate) fn whole(body: Bytes) -> Answer {
        Answer::Whole(body)
    }

    /// At least the last byte is missing.
    pub(crate) fn cut(body: Bytes, after: usize) -> Answer {
        Answer::Cut(body.slice(..after.min(body.len().saturating_sub(1))))
    }

    pub(crate) fn drip(body: Bytes, interval: Duration) -> Answer {
        Answer::Drip { rest: body, interval, sleep: Box::pin(tokio::time::sleep(interval)) }
    }

    pub(crate) fn endless(body: Bytes) -> Answer {
        Answer::Endless(body)
    }

    pub(crate) fn never(_: Bytes) -> Answer {
        Answer::Never
    }

    /// Whether `content-length` is that of the true body, although this one does not know its own.
    pub(crate) fn declares_length(&self) -> bool {
        matches!(self, Answer::Cut(_) | Answer::Drip { .. } | Answer::Never)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = match &mut *self {
            Answer::Whole(body) if body.is_empty() => return Poll::Ready(None),
            Answer::Cut(body) if body.is_empty() => return Poll::Ready(Some(Err(io::Error::other("cut")))),
            Answer::Whole(body) | Answer::Cut(body) => std::mem::take(body),
            Answer::Drip { rest, .. } if rest.is_empty() => return Poll::Ready(None),
            Answer::Drip { rest, interval, sleep } => {
                std::task::ready!(sleep.as_mut().poll(context));
                sleep.as_mut().reset(Instant::now() + *interval);
                rest.split_to(1)
            }
            // A JSON text may be followed by white space: a reader that waits for the end waits for ever.
            Answer::Endless(body) if body.is_empty() => Bytes::from_static(&[b' '; 16 * 1024]),
            Answer::Endless(body) => std::mem::take(body),
            Answer::Never => return Poll::Pending,
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(body) if body.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(body) => SizeHint::with_exact(body.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
