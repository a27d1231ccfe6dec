//! Waiting for whichever of several things happens first.

use std::convert::Infallible;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Which of the alternatives of [`first`] it was. Two alternatives need two arms in a `match`: the others
/// cannot happen, and the compiler knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OneOf<A, B, C = Infallible, D = Infallible, E = Infallible> {
    /// The first alternative.
    A(A),
    /// The second.
    B(B),
    /// The third.
    C(C),
    /// The fourth.
    D(D),
    /// The fifth.
    E(E),
}

/// Waits for whichever alternative is ready first and drops the others, which withdraws their commands.
///
/// Alternatives are polled **in written order**, so if two are ready at once the one written first wins. Write
/// hang-up before claim before timer: a caller who is gone cannot be retrieved, and a call that was claimed in
/// time has not timed out. An alternative lent as `&mut answer` is not dropped and can be awaited again.
///
/// ```
/// # use switchyard_sdk::prelude::*;
/// # use std::time::Duration;
/// # async fn wait(cx: Context, leg: LegId) {
/// match first((cx.calls().watch(leg), cx.timer().after(Duration::from_secs(90)))).await {
///     OneOf::A(ended) => cx.log().info("the caller hung up"),
///     OneOf::B(_) => cx.log().info("nobody came"),
/// }
/// # }
/// ```
pub async fn first<T: Alternatives>(alternatives: T) -> T::Output {
    alternatives.first().await
}

/// Tuples of two to five futures.
pub trait Alternatives {
    /// A [`OneOf`].
    type Output;
    /// See [`first`](fn@first).
    fn first(self) -> impl Future<Output = Self::Output>;
}

macro_rules! alternatives {
    ($($future:ident $variant:ident),* ; $($rest:ty),*) => {
        impl<$($future: IntoFuture),*> Alternatives for ($($future,)*) {
            type Output = OneOf<$($future::Output,)* $($rest),*>;

            async fn first(self) -> Self::Output {
                #[expect(non_snake_case, reason = "each future is named like its type")]
                let ($($future,)*) = self;
                $(
                    #[expect(non_snake_case, reason = "each future is named like its type")]
                    let mut $future = pin!($future.into_future());
                )*
                poll_fn(|task| {
                    $(
                        if let Poll::Ready(value) = $future.as_mut().poll(task) {
                            return Poll::Ready(OneOf::$variant(value));
                        }
                    )*
                    Poll::Pending
                })
                .await
            }
        }
    };
}

alternatives!(FA A, FB B; Infallible, Infallible, Infallible);
alternatives!(FA A, FB B, FC C; Infallible, Infallible);
alternatives!(FA A, FB B, FC C, FD D; Infallible);
alternatives!(FA A, FB B, FC C, FD D, FE E;);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;

    fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_alternative_written_first_wins() {
        assert_eq!(poll_once(first((ready(1), ready('b')))), Poll::Ready(OneOf::A(1)));
        assert_eq!(poll_once(first((pending::<u8>(), ready('b'), ready("c")))), Poll::Ready(OneOf::B('b')));
    }

    #[test]
    fn nothing_is_ready_until_one_is() {
        assert_eq!(poll_once(first((pending::<u8>(), pending::<u8>()))), Poll::Pending);
        let five = (pending::<u8>(), pending::<u8>(), pending::<u8>(), pending::<u8>(), ready(5));
        assert_eq!(poll_once(first(five)), Poll::Ready(OneOf::E(5)));
    }
}
