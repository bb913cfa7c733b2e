//! The rest of an operation that may have to wait.
//!
//! Most promises are kept when they are made, so that case costs no allocation.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::errno::Result;

/// What an operation comes to, now or later.
pub enum Promise<T> {
    /// The result, until somebody has taken it.
    Kept(Option<Result<T>>),
    Later(Pin<Box<dyn Future<Output = Result<T>> + Send>>),
}

impl<T> Promise<T> {
    /// The result, if it can be had without waiting.
    pub fn at_once(self) -> Option<Result<T>> {
        match self {
            Self::Kept(result) => result,
            Self::Later(mut future) => match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            },
        }
    }

    pub fn later(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Send + Unpin + 'static> Promise<T> {
    /// The promise of something made of the result.
    pub fn then<U: Send + 'static>(self, make: impl FnOnce(T) -> Result<U> + Send + 'static) -> Promise<U> {
        match self {
            Self::Kept(result) => Promise::Kept(result.map(|result| result.and_then(make))),
            later => Promise::later(async move { make(later.await?) }),
        }
    }
}

/// A promise that is kept already.
pub fn kept<T>(result: Result<T>) -> Promise<T> {
    Promise::Kept(Some(result))
}

impl<T: Unpin> Future for Promise<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match self.get_mut() {
            Self::Kept(result) => Poll::Ready(result.take().expect("invariant: a promise is awaited once")),
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}
