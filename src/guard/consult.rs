//! Asks the application's check about a request that the rules permit.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use fastauth_core::hooks::{AccessCheck, AccessQuestion};

use crate::DenialReason;

/// Returns the check's answer. If it panics, it refuses.
pub(super) async fn consult(check: &dyn AccessCheck, question: AccessQuestion<'_>) -> Result<(), DenialReason> {
    // Nothing of what it may have left half done is used after a panic.
    let Ok(mut answer) = catch_unwind(AssertUnwindSafe(|| check.check(question))) else { return Err(panicked()) };
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(answer) => answer.map_err(DenialReason::from),
        Err(_) => Poll::Ready(Err(panicked())),
    })
    .await
}

fn panicked() -> DenialReason {
    DenialReason::CheckFailed("it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use fastauth_core::hooks::{AccessFuture, Refusal};
    use http::Request;

    use super::*;

    enum Check {
        Permit,
        Refuse,
        Fail,
        Panic,
        PanicLater,
    }

    impl AccessCheck for Check {
        #[allow(clippy::panic, reason = "it is what is tested")]
        fn check<'a>(&'a self, _: AccessQuestion<'a>) -> AccessFuture<'a> {
            if matches!(self, Self::Panic) {
                panic!("at once");
            }
            Box::pin(async move {
                tokio::task::yield_now().await;
                match self {
                    Self::Permit => Ok(()),
                    Self::Refuse => Err(Refusal::new("not now")),
                    Self::Fail => Err(Refusal::failed("away")),
                    Self::Panic | Self::PanicLater => panic!("later"),
                }
            })
        }
    }

    #[tokio::test]
    async fn check_that_fails_refuses() {
        let request = Request::new(()).into_parts().0;
        let question = AccessQuestion::new(&request, None, None, None);
        for (check, expected) in [
            (Check::Permit, None),
            (Check::Refuse, Some("refused_by_check")),
            (Check::Fail, Some("check_failed")),
            (Check::Panic, Some("check_failed")),
            (Check::PanicLater, Some("check_failed")),
        ] {
            let refused = consult(&check, question).await.err();
            assert_eq!(refused.as_ref().map(DenialReason::code), expected);
        }
    }
}
